//! The owner of the warden's programs of one instance.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use callgate_model::{CgroupId, KernelDenial};
use libbpf_rs::Link;
use tokio::sync::mpsc::{self, Receiver};

use crate::look::{Eyes, Look};
use crate::parts::{ARRIVALS, CALLS, CALLS_BESIDE_LSM, EXEC, GUARD, LSM, Loaded, Part, SOCKETS};
use crate::sockets::Sockets;
use crate::{Config, Feature, Lineages, Means, Severed, Swept, WardenError, pins};

/// Most events that wait for their reader; further ones are counted. Unit: events.
const WAITING: usize = 4096;

/// The kernel programs, attached and pinned, and the thread that looks. Dropping it ends the thread alone.
#[derive(Debug)]
pub struct Warden {
    features: Vec<Feature>,
    eyes: Option<Arc<Eyes>>,
    events: Mutex<Option<Events>>,
    lost: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pins: std::path::PathBuf,
}

/// What the kernel refused and what the warden destroyed or ended, as it happens.
#[derive(Debug)]
pub struct Events(Receiver<KernelDenial>);

impl Events {
    /// The next one; none when the warden is gone. `workload` is left empty: the roster knows it by `cgroup`.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<KernelDenial> {
        self.0.recv().await
    }
}

impl Warden {
    /// Loads, attaches and pins what this kernel takes, in place of what an earlier process had pinned; what it does not
    /// take is told by [`Warden::features`]. The redirect of the same instance must be loaded already.
    ///
    /// # Errors
    /// [`WardenError::Pin`], [`WardenError::Root`], [`WardenError::Thread`].
    pub fn start(config: &Config) -> Result<Self, WardenError> {
        pins::make(&config.pins)?;
        let root = File::open(&config.cgroup_root)
            .map_err(|source| WardenError::Root { path: config.cgroup_root.clone(), source })?;
        let mut start = Start { config, root, features: Vec::new(), kept: Vec::new() };
        let eyes = start.sockets();
        start.attach(&GUARD);
        start.attach(&EXEC);
        start.attach(&ARRIVALS);
        let refuses = start.attach(&LSM);
        if config.has_seccomp {
            start.leave_out(&CALLS, "not needed: seccomp refuses such calls");
        } else {
            // Where a socket can be refused, nobody has to be ended for it.
            start.attach(if refuses { &CALLS_BESIDE_LSM } else { &CALLS });
        }
        let Start { features, kept, .. } = start;
        pins::keep_only(&config.pins, &kept)?;

        let (sender, receiver) = mpsc::channel(WAITING);
        let (lost, stop) = (Arc::default(), Arc::default());
        let look = Look {
            pins: config.pins.clone(),
            eyes: eyes.clone(),
            events: sender,
            lost: Arc::clone(&lost),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("callgate-warden".into()).spawn(move || look.run());
        Ok(Self {
            features,
            eyes,
            events: Mutex::new(Some(Events(receiver))),
            lost,
            stop,
            thread: Some(thread.map_err(WardenError::Thread)?),
            pins: config.pins.clone(),
        })
    }

    /// What became of each part on this kernel.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Who executed whom; it outlives the warden.
    ///
    /// # Errors
    /// [`WardenError::Map`] where the part `exec` was not loaded.
    pub fn lineages(&self) -> Result<Lineages, WardenError> {
        Lineages::open(&self.pins)
    }

    /// How sockets are destroyed; none when they cannot be looked at.
    #[must_use]
    pub fn means(&self) -> Option<Means> {
        self.eyes.as_ref().map(|eyes| eyes.sockets.means())
    }

    /// Destroys the sockets that `cgroup` and those below it have: call it once, after the hooks are attached, when the
    /// cgroup is enrolled for the first time. What an enrolled cgroup has later went through the hooks. Blocking.
    ///
    /// # Errors
    /// [`WardenError::Blind`], [`WardenError::Iterator`], [`WardenError::Map`].
    pub fn sever(&self, path: &Path, cgroup: CgroupId) -> Result<Severed, WardenError> {
        self.eyes.as_ref().ok_or(WardenError::Blind)?.sever(path, cgroup)
    }

    /// Looks at the hands of all enrolled tasks now, as happens each second. Call it after [`Warden::sever`]. Blocking.
    ///
    /// # Errors
    /// [`WardenError::Blind`], [`WardenError::Iterator`].
    pub fn sweep(&self) -> Result<Swept, WardenError> {
        self.eyes.as_ref().ok_or(WardenError::Blind)?.sweep(None)
    }

    /// The events; once.
    #[must_use]
    pub fn events(&self) -> Option<Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Events that found no room since the start.
    #[must_use]
    pub fn events_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Detaches everything and removes the pins. Before those of the redirect are removed, whose map is used.
    ///
    /// # Errors
    /// [`WardenError::Pin`].
    pub fn teardown(&self) -> Result<(), WardenError> {
        self.stop.store(true, Ordering::Relaxed);
        pins::remove_all(&self.pins)
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// A start under way.
struct Start<'config> {
    config: &'config Config,
    root: File,
    features: Vec<Feature>,
    /// Names of the links that are ours now.
    kept: Vec<String>,
}

impl Start<'_> {
    fn sockets(&mut self) -> Option<Arc<Eyes>> {
        let (tried, sockets) = match Sockets::load(self.config) {
            Ok(sockets) => {
                let by = match sockets.means() {
                    Means::Kernel => "by `bpf_sock_destroy`",
                    Means::Diag => "through netlink",
                };
                (Ok(format!("loads; sockets are destroyed {by}")), Some(sockets))
            }
            Err(error) => (Err(error), None),
        };
        let feature = SOCKETS.feature(&tried);
        self.features.push(feature);
        sockets.map(|sockets| Arc::new(Eyes::new(sockets, self.config.older, self.config.netlink)))
    }

    /// Attaches one part; whether it works.
    fn attach(&mut self, part: &'static Part) -> bool {
        let tried = self.attached(part);
        let feature = part.feature(&tried);
        let ok = feature.ok;
        self.features.push(feature);
        ok
    }

    fn leave_out(&mut self, part: &'static Part, why: &str) {
        self.features.push(part.feature(&Ok(why.to_owned())));
    }

    fn attached(&mut self, part: &'static Part) -> Result<String, WardenError> {
        let loaded = part.load(Some(self.config))?;
        for (name, link) in links(&loaded, Some(&self.root))? {
            pins::put(&self.config.pins, &name, link)?;
            self.kept.push(name);
        }
        Ok(loaded.shown())
    }
}

/// Attaches every program: to `root` those of cgroups, to their place in the kernel the others.
pub fn links(loaded: &Loaded, root: Option<&File>) -> Result<Vec<(String, Link)>, WardenError> {
    let mut links = Vec::new();
    for (name, program) in loaded.programs() {
        let link = match (program.section().to_string_lossy().starts_with("cgroup/"), root) {
            (true, Some(root)) => program.attach_cgroup(root.as_raw_fd()),
            (true, None) => continue,
            (false, _) => program.attach(),
        };
        links.push((name.to_owned(), link.map_err(|source| WardenError::Load { what: "attaching", source })?));
    }
    Ok(links)
}
