//! The same hooks in the kernel as Callgate's, without Callgate behind them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use callgate_model::{CgroupId, Mode};
use callgate_redirect::{Config, Listeners, NetnsRef, Redirect};
use callgate_warden::{Answer, Older, Warden};

/// Time between two heartbeats: far below the bound of 2 s at which the hooks refuse.
const BEAT: Duration = Duration::from_millis(100);

/// Programs that are loaded, with a listener in this network namespace; everything is taken back on drop.
pub struct Hooks {
    pub redirect: Arc<Redirect>,
    stopped: Arc<AtomicBool>,
    heart: Option<JoinHandle<()>>,
}

impl Hooks {
    /// Loads them with their pins in `bpffs`; nothing is enrolled yet.
    pub fn load(bpffs: &Path) -> Result<(Hooks, Listeners)> {
        let redirect = Arc::new(Redirect::load(&Config { bpffs: bpffs.into(), ..Config::new("bench") })?);
        let listeners = redirect.listen(&NetnsRef::current()?)?;
        redirect.beat()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (beating, end) = (Arc::clone(&redirect), Arc::clone(&stopped));
        let heart = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // Without a beat the hooks refuse, and the bench fails by that.
                let _refused_then = beating.beat();
                std::thread::sleep(BEAT);
            }
        });
        Ok((Hooks { redirect, stopped, heart: Some(heart) }, listeners))
    }

    /// Enrols a cgroup.
    pub fn enrol(&self, cgroup: &Path) -> Result<CgroupId> {
        Ok(self.redirect.enrol(cgroup, Mode::Enforce)?)
    }
}

/// The warden beside the hooks, as an agent has it; taken back on drop, before the hooks.
pub struct Guard(Warden);

impl Guard {
    /// Loads it for the cgroups below `root`.
    pub fn start(hooks: &Hooks, root: &Path) -> Result<Self> {
        let redirect = &hooks.redirect;
        Ok(Self(Warden::start(&callgate_warden::Config {
            pins: redirect.warden_pins(),
            enrolments: redirect.enrolments_pin(),
            client_sockets: Some(redirect.sockets_pin()),
            cgroup_root: root.to_owned(),
            older: Older::Destroy,
            means: None,
            netlink: Answer::Refuse,
            has_seccomp: false,
        })?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.0.teardown() {
            eprintln!("bench: the warden is still there: {error}");
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(heart) = self.heart.take() {
            let _panicked = heart.join();
        }
        if let Err(error) = self.redirect.teardown() {
            eprintln!("bench: the hooks are still there: {error}");
        }
    }
}
