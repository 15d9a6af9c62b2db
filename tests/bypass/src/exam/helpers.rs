//! The willing processes outside, one a user; each serves until it is dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use callgate_harness::Running;

use super::scene::SOON;
use crate::order::Helper;
use crate::vector::Way;

/// By user id.
pub struct Helpers {
    folder: PathBuf,
    running: BTreeMap<u32, Serving>,
}

/// One of them.
pub struct Serving {
    running: Running,
    told: Helper,
    kept: usize,
}

impl Helpers {
    /// None yet; their unix sockets will be in `folder`.
    pub fn new(folder: PathBuf) -> Helpers {
        Helpers { folder, running: BTreeMap::new() }
    }

    /// The one of the same user as `way`.
    pub fn of(&mut self, way: Way, hostile: &Path) -> Result<&mut Serving> {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.running.entry(way.uid()) {
            vacant.insert(Serving::start(hostile, way, &self.folder)?);
        }
        self.running.get_mut(&way.uid()).context("just started")
    }
}

impl Serving {
    /// Starts one whose unix socket is in `folder`.
    pub fn start(hostile: &Path, way: Way, folder: &Path) -> Result<Serving> {
        let mut command = Command::new(hostile);
        let way = serde_json::to_string(&way)?;
        command.arg("help").arg(way.trim_matches('"')).arg(folder);
        let running = Running::start(command)?;
        let line = running.line(SOON, |line| line.starts_with('{'))?;
        Ok(Serving { running, told: serde_json::from_str(&line)?, kept: 0 })
    }

    /// What the hostile program is told of it; where `keep` is given, it has a connection there first.
    pub fn keep(&mut self, keep: Option<SocketAddr>) -> Result<Helper> {
        let Some(to) = keep else { return Ok(self.told.clone()) };
        self.kept += 1;
        let number = self.kept;
        self.running.write(&format!("keep {to} {number}\n"))?;
        let line = self.running.line(SOON, |line| line.starts_with(&format!("kept {number} ")))?;
        let descriptor = line.rsplit(' ').next().and_then(|word| word.parse().ok());
        Ok(Helper { connected: descriptor, ..self.told.clone() })
    }

    /// Its unix socket.
    pub fn socket(&self) -> &Path {
        &self.told.path
    }
}
