//! What an operator sees: the kernel programs' log, and what the machine can do.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{TempBpffs, cgroup2_mount};
use callgate_model::Mode;
use callgate_redirect::{LogLevel, Refusal, instances, probe};
use tracing_subscriber::fmt::MakeWriter;

use crate::Case;
use crate::world::World;

pub const CASES: &[Case] = &[
    ("the_programs_log_into_tracing", the_programs_log_into_tracing),
    ("what_the_machine_can_do_is_tried", what_the_machine_can_do_is_tried),
];

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn the_programs_log_into_tracing() -> Result<()> {
    // The log calls are verified only where the level keeps them.
    let world = World::with(|config| config.log_level = LogLevel::Debug)?;
    let logs = world.redirect.logs().context("the programs log nothing")?;
    ensure!(world.redirect.logs().is_none(), "can be read twice");
    let mut client = world.enrol_and_start(Mode::Enforce)?;
    client.ok("tcp 198.51.100.7:8080")?;
    client.refused("udp 198.51.100.7:443", Refusal::Udp.errno())?;

    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false).with_writer(lines.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tracing::subscriber::with_default(subscriber.finish(), || {
        runtime.block_on(async { tokio::time::timeout(Duration::from_millis(500), logs.forward()).await })
    })
    .ok();
    let text = String::from_utf8(lines.0.lock().unwrap().clone())?;
    ensure!(text.contains("callgate::kernel") && text.contains("redirected") && text.contains("port 8080"), "{text}");
    ensure!(text.contains(&format!("cause {}", Refusal::Udp as u32)) && text.contains("port 443"), "{text}");
    Ok(())
}

fn what_the_machine_can_do_is_tried() -> Result<()> {
    let bpffs = TempBpffs::mount()?;
    let features = probe::probe_all(bpffs.path());
    let missing: Vec<_> = features.iter().filter(|feature| feature.required && !feature.ok).collect();
    ensure!(missing.is_empty(), "{missing:?}");
    for name in ["bpffs", "connect4", "egress", "attaching to a cgroup", "BTF tracepoints"] {
        ensure!(features.iter().any(|feature| feature.name == name), "`{name}` was not tried: {features:#?}");
    }
    ensure!(features.iter().all(|feature| !feature.detail.is_empty() && !feature.degrades.is_empty()), "{features:#?}");
    for feature in &features {
        println!("{:<28} {:<5} {}", feature.name, feature.ok, feature.detail.lines().next().unwrap_or_default());
    }
    ensure!(instances(bpffs.path())?.is_empty(), "pins are left");
    let left = std::fs::read_dir(cgroup2_mount()?)?.flatten();
    let own = format!("callgate-probe-{}", std::process::id());
    ensure!(left.into_iter().all(|entry| entry.file_name().to_string_lossy() != own), "a cgroup is left");
    Ok(())
}
