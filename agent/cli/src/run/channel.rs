//! How `run` and its stage speak: two memory files of `run`, opened by the stage through `/proc`.
//!
//! The order goes one way, a report of failure the other. No descriptor is inherited for it, nothing stands in
//! arguments or environment where others could read it, and CMD sees none of it: the stage's descriptors close at exec.
//! An empty report means that CMD was started.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::sandbox::Order;

/// Largest report. Unit: bytes.
const REPORT_MAX: usize = 64 * 1024;

/// Exit codes that `run` shares with `env`, `timeout` and shells.
pub(super) mod code {
    /// `run` or its stage failed; CMD was not started.
    pub const STAGE_FAILED: u8 = 125;
    /// CMD exists and cannot be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// CMD does not exist.
    pub const NOT_FOUND: u8 = 127;
}

/// Why CMD was not started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub code: u8,
    pub message: String,
}

/// The side of `run`.
#[derive(Debug)]
pub struct Channel {
    order: File,
    report: File,
}

impl Channel {
    /// Makes the channel with the order in it.
    pub(super) fn new(order: &Order) -> Result<Self> {
        let memory = |name: &str| memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
        let mut channel = Self {
            order: memory("callgate-order").context("cannot make a memory file")?,
            report: memory("callgate-report").context("cannot make a memory file")?,
        };
        channel.order.write_all(&serde_json::to_vec(order)?).context("cannot write the stage's order")?;
        Ok(channel)
    }

    /// What the stage's command line needs to find the channel.
    pub(super) fn arguments(&self) -> [OsString; 2] {
        let path = |file: &File| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into();
        [path(&self.order), path(&self.report)]
    }

    /// The failure that the stage reported; none when it became CMD.
    pub(super) fn failure(&self) -> Option<Failure> {
        let mut text = vec![0; REPORT_MAX];
        let n = self.report.read_at(&mut text, 0).unwrap_or(0);
        serde_json::from_slice(text.get(..n)?).ok()
    }
}

/// The side of the stage.
#[derive(Debug)]
pub(super) struct StageEnd {
    report: File,
}

impl StageEnd {
    /// Opens what [`Channel::arguments`] named, and reads the order.
    pub fn open(arguments: &[OsString]) -> Result<(Self, Order)> {
        let [order, report] = arguments else { anyhow::bail!("`__stage` is for `callgate run` alone") };
        let text = fs::read(order).context("cannot read the stage's order")?;
        let order = serde_json::from_slice(&text).context("the stage's order is malformed")?;
        let report = File::options().write(true).open(report).context("cannot open the stage's report")?;
        Ok((Self { report }, order))
    }

    /// The descriptor that must stay open until exec, which closes it.
    pub fn descriptor(&self) -> i32 {
        self.report.as_raw_fd()
    }

    /// Reports why CMD is not started.
    pub fn report(&self, code: u8, message: String) {
        let mut text = serde_json::to_vec(&Failure { code, message }).unwrap_or_default();
        text.truncate(REPORT_MAX);
        // If even this fails, `run` still sees the exit code.
        let _ = self.report.write_all_at(&text, 0);
    }
}
