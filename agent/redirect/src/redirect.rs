//! The owner of the kernel programs of one instance.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, PerCpuArray, SkStorage};
use callgate_ebpf_common::{
    Enrolment, FAIL_CLOSED, FAIL_OBSERVE, FAIL_OPEN, MODE_ENFORCE, MODE_EXEMPT, MODE_OBSERVE, MODE_STRICT, Marker,
    SCHEMA, Settings,
};
use callgate_model::{CgroupId, FailMode, Mode, NetnsCookie, Origin};

use crate::askers::Askers;
use crate::attest::{Kept, Programs};
use crate::cgroup::Cgroup;
use crate::links::Hook;
use crate::listen::{self, Bound, PortsMap, Registered};
use crate::object::{absent, failed, load_object, open, typed};
use crate::origins::{Origins, Patience};
use crate::past::PastMap;
use crate::pins::{self, Owned, Pins};
use crate::syscall::monotonic;
use crate::{Config, Events, KernelLogs, Listeners, NetnsRef, RedirectError, Stats, links, maps};

/// The kernel programs, loaded, with their maps pinned. Shared by `Arc`; dropping it leaves every pin in place.
pub struct Redirect {
    pub(crate) pins: Pins,
    bpffs: PathBuf,
    pub(crate) object: Mutex<Ebpf>,
    /// Ids of the loaded programs.
    pub(crate) programs: Programs,
    /// What stays attached until it is told to go; locked by whoever changes that, before the object.
    pub(crate) kept: Mutex<BTreeMap<PathBuf, Kept>>,
    pub(crate) heartbeat: Mutex<Array<MapData, u64>>,
    pub(crate) enrolments: Mutex<HashMap<MapData, u64, Enrolment>>,
    /// What this process has put there, and keeps there; locked before the map.
    pub(crate) entries: Mutex<BTreeMap<CgroupId, Enrolment>>,
    ports: PortsMap,
    markers: Mutex<SkStorage<MapData, Marker>>,
    origins: Origins,
    askers: Askers,
    pub(crate) past: PastMap,
    stats: PerCpuArray<MapData, u64>,
    logs: Mutex<Option<KernelLogs>>,
    owned: Owned,
}

impl Redirect {
    /// Loads the programs, mounting bpffs if it is absent, and pins their maps; maps of the same instance that are
    /// pinned already are taken over, with the enrolments that run on them.
    ///
    /// The programs refuse every new connection until [`Redirect::beat`] and [`Redirect::listen`] were called. Links
    /// of an earlier process go on with that process's programs until [`Redirect::enrol`] swaps them.
    ///
    /// # Errors
    /// All but those that speak of one cgroup or network namespace.
    pub fn load(config: &Config) -> Result<Self, RedirectError> {
        let redirect = Self::load_with(config, Pins::own)?;
        redirect.forget_predecessor()?;
        Ok(redirect)
    }

    /// Loads the programs beside a process that still serves this instance, whose [`ownership`](Self::ownership) is
    /// `lock`: its listeners, and what waits in their queues, stay in force. [`Redirect::adopt`] them.
    ///
    /// # Errors
    /// As [`Redirect::load`]; [`RedirectError::InUse`] where `lock` is not of this instance.
    pub fn take_over(config: &Config, lock: OwnedFd) -> Result<Self, RedirectError> {
        let redirect = Self::load_with(config, |pins| pins.owned_by(lock))?;
        redirect.share(true);
        Ok(redirect)
    }

    fn load_with(
        config: &Config,
        own: impl FnOnce(&Pins) -> Result<Owned, RedirectError>,
    ) -> Result<Self, RedirectError> {
        let pins = Pins::new(&config.bpffs, &config.instance)?;
        pins::mount_bpffs(&config.bpffs)?;
        let owned = own(&pins)?;
        let mut object = load_object(&pins, config)?;
        let redirect = Self {
            programs: Programs::of(&object)?,
            kept: Mutex::default(),
            heartbeat: Mutex::new(maps::take(&mut object, "HEARTBEAT")?),
            enrolments: Mutex::new(maps::take(&mut object, "ENROLMENTS")?),
            entries: Mutex::default(),
            ports: Arc::new(Registered {
                map: Mutex::new(maps::take(&mut object, "LISTENERS")?),
                shared: AtomicBool::new(false),
            }),
            markers: Mutex::new(maps::take(&mut object, "MARKERS")?),
            origins: Origins::new(open(&pins, "ORIGINS")?, "ORIGINS", Patience::CONNECTIONS)?,
            askers: Askers::new(Origins::new(open(&pins, "ASKERS")?, "ASKERS", Patience::DATAGRAMS)?),
            past: PastMap::new(open(&pins, "PAST")?, config.stale_after)?,
            stats: maps::take(&mut object, "STATS")?,
            logs: Mutex::new(KernelLogs::of(&mut object)),
            object: Mutex::new(object),
            bpffs: config.bpffs.clone(),
            pins,
            owned,
        };
        redirect.tell(config)?;
        Ok(redirect)
    }

    /// Opens a listener on 127.0.0.1 and one on ::1 in a network namespace, and beside each a socket for DNS, and tells
    /// the programs of them.
    ///
    /// # Errors
    /// [`RedirectError::Netns`] when neither can be opened, [`RedirectError::Map`].
    pub fn listen(&self, netns: &NetnsRef) -> Result<Listeners, RedirectError> {
        listen::open(netns, &self.ports, |listener| {
            let mark = Marker { version: SCHEMA };
            lock(&self.markers).insert(&listener, mark, 0).map_err(failed("MARKERS"))
        })
    }

    /// Goes on with the listeners of a namespace that the process before handed over.
    ///
    /// # Errors
    /// [`RedirectError::Netns`], [`RedirectError::Map`].
    pub fn adopt(&self, netns: &NetnsRef, bound: Bound) -> Result<Listeners, RedirectError> {
        listen::adopt(netns, bound, &self.ports)
    }

    /// What makes this process the instance's only one: a successor that is given it may [`take over`](Self::take_over).
    #[must_use]
    pub fn ownership(&self) -> BorrowedFd<'_> {
        self.owned.as_fd()
    }

    /// Whether another process serves the same listeners: then nothing that both use is cleaned up by this one, however
    /// it ends. So it is from [`Redirect::take_over`] until the process before has let go, and for that one from then on.
    pub fn share(&self, shared: bool) {
        self.ports.shared.store(shared, Ordering::Release);
    }

    /// Enrols a cgroup and everything below it, to fail closed. Again: the links are replaced without a gap, and `mode`
    /// holds anew.
    ///
    /// Sockets made before this are not redirected; enrol a cgroup before anything is born in it.
    ///
    /// # Errors
    /// Those that speak of the cgroup; [`RedirectError::Program`], [`RedirectError::Pin`], [`RedirectError::Map`].
    /// A cgroup that was not enrolled before is not enrolled afterwards either.
    pub fn enrol(&self, cgroup: &Path, mode: Mode) -> Result<CgroupId, RedirectError> {
        self.enrol_failing(cgroup, mode, FailMode::Closed)
    }

    /// As [`Redirect::enrol`], with what holds while the heartbeat is stale: [`Redirect::take_past`] tells afterwards
    /// what went past the gate.
    ///
    /// # Errors
    /// As [`Redirect::enrol`].
    pub fn enrol_failing(&self, cgroup: &Path, mode: Mode, fail: FailMode) -> Result<CgroupId, RedirectError> {
        let open = Cgroup::open(cgroup)?;
        self.pins.refuse_nested(&self.bpffs, cgroup, &open)?;
        let mut kept = lock(&self.kept);
        let folder = self.pins.links(open.id);
        let known = folder.is_dir();
        let mode = match mode {
            Mode::Enforce => MODE_ENFORCE,
            Mode::Observe => MODE_OBSERVE,
        };
        let fail = match fail {
            FailMode::Closed => FAIL_CLOSED,
            FailMode::Open => FAIL_OPEN,
            FailMode::Observe => FAIL_OBSERVE,
        };
        self.tell_all_of(open.id, Enrolment { mode, fail })?;
        let attached = self.keep(&mut kept, &folder, cgroup, &open, links::WORKLOAD);
        if attached.is_err() && !known {
            // The error that matters is the first one.
            let _first = self.end(&mut kept, open.id);
        }
        attached.map(|()| open.id)
    }

    /// Takes enforcement away from a cgroup. Connections that are open go on through the proxy.
    ///
    /// # Errors
    /// [`RedirectError::NotEnrolled`], [`RedirectError::Pin`].
    pub fn unenrol(&self, id: CgroupId) -> Result<(), RedirectError> {
        let mut kept = lock(&self.kept);
        let folder = self.pins.links(id);
        if !folder.is_dir() && !kept.contains_key(&folder) {
            return Err(RedirectError::NotEnrolled(id));
        }
        self.end(&mut kept, id)
    }

    fn end(&self, kept: &mut BTreeMap<PathBuf, Kept>, id: CgroupId) -> Result<(), RedirectError> {
        let folder = self.pins.links(id);
        kept.remove(&folder);
        links::detach(&folder, links::WORKLOAD)?;
        // Where strict mode stands at the same cgroup, it goes on.
        if self.pins.strict(id).is_dir() { self.tell_of(id, MODE_STRICT) } else { self.forget(id) }
    }

    /// Attaches `hooks`, and sees to it from then on that they stay.
    pub(crate) fn keep(
        &self,
        kept: &mut BTreeMap<PathBuf, Kept>,
        folder: &Path,
        path: &Path,
        cgroup: &Cgroup,
        hooks: &'static [Hook],
    ) -> Result<(), RedirectError> {
        links::attach(&mut lock(&self.object), folder, cgroup, hooks.iter().copied())?;
        kept.insert(folder.into(), Kept { cgroup: cgroup.id, path: path.into(), hooks });
        Ok(())
    }

    /// Tells the programs what a cgroup is.
    pub(crate) fn tell_of(&self, id: CgroupId, mode: u32) -> Result<(), RedirectError> {
        self.tell_all_of(id, Enrolment { mode, fail: FAIL_CLOSED })
    }

    fn tell_all_of(&self, id: CgroupId, entry: Enrolment) -> Result<(), RedirectError> {
        let mut entries = lock(&self.entries);
        lock(&self.enrolments).insert(id.0, entry, 0).map_err(failed("ENROLMENTS"))?;
        entries.insert(id, entry);
        Ok(())
    }

    /// What was told of a cgroup, if anything.
    pub(crate) fn mode_of(&self, id: CgroupId) -> Option<u32> {
        lock(&self.enrolments).get(&id.0, 0).ok().map(|entry| entry.mode)
    }

    /// All that was told.
    pub(crate) fn told(&self) -> Vec<(CgroupId, u32)> {
        lock(&self.enrolments).iter().flatten().map(|(id, entry)| (CgroupId(id), entry.mode)).collect()
    }

    /// The cgroup that this process is in, unless that is the root.
    pub(crate) fn own_cgroup(&self) -> Option<CgroupId> {
        crate::cgroup::own()
    }

    /// What was told of a cgroup holds no longer.
    pub(crate) fn forget(&self, id: CgroupId) -> Result<(), RedirectError> {
        let mut entries = lock(&self.entries);
        lock(&self.enrolments).remove(&id.0).or_else(absent).map_err(failed("ENROLMENTS"))?;
        entries.remove(&id);
        Ok(())
    }

    /// Enrolled cgroups, from the pins: also those of an earlier process. Some may not exist any more.
    ///
    /// # Errors
    /// [`RedirectError::Pin`].
    pub fn enrolled(&self) -> Result<Vec<CgroupId>, RedirectError> {
        self.pins.enrolled()
    }

    /// Takes the record of the connection that `peer` opened: `peer` as the accepted socket shows it, `netns` of the
    /// listener. None: nobody redirected it, or it was taken before, or it cannot be told from another one. Refuse it.
    ///
    /// Call it once, soon after `accept`.
    #[must_use]
    pub fn origin(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin> {
        self.origins.take(netns, peer)
    }

    /// Who sent the datagram that a socket for DNS in `netns` has just read from `peer`. None: nobody whose datagrams
    /// were redirected, or one of two that cannot be told apart. Drop it.
    ///
    /// Call it once for each datagram, soon after it was read. [`Origin::destination`] is the resolver that was asked;
    /// of a socket that asks several at once, perhaps another one of them.
    #[must_use]
    pub fn asker(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin> {
        self.askers.of(netns, peer)
    }

    /// Redirected connections that were not accepted yet, and senders of datagrams that were not read.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.origins.len() + self.askers.notes.len()
    }

    /// Tells the programs that the agent lives. Call it well within [`Config::stale_after`], from a task that has just
    /// seen the accept loops turn.
    ///
    /// # Errors
    /// [`RedirectError::Map`].
    pub fn beat(&self) -> Result<(), RedirectError> {
        self.origins.sweep();
        self.askers.notes.sweep();
        let now = u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX);
        lock(&self.heartbeat).set(0, now, 0).map_err(failed("HEARTBEAT"))
    }

    /// Pin of the map of enrolments, which the warden reads too.
    #[must_use]
    pub fn enrolments_pin(&self) -> PathBuf {
        self.pins.map("ENROLMENTS")
    }

    /// Pin of what is stored with a client's socket, to which the warden adds what its task executes.
    #[must_use]
    pub fn sockets_pin(&self) -> PathBuf {
        self.pins.map("SOCKETS")
    }

    /// Where the warden of this instance pins what is its own: removed with every pin of the instance.
    #[must_use]
    pub fn warden_pins(&self) -> PathBuf {
        self.pins.warden()
    }

    /// The refusals. Needs a tokio runtime; one at a time.
    ///
    /// # Errors
    /// [`RedirectError::Map`], [`RedirectError::Events`].
    pub fn events(&self) -> Result<Events, RedirectError> {
        Events::open(&self.pins)
    }

    /// The programs' own log; once.
    #[must_use]
    pub fn logs(&self) -> Option<KernelLogs> {
        lock(&self.logs).take()
    }

    /// The programs' counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::read(&self.stats)
    }

    /// Ends every enrolment and removes every pin of this instance.
    ///
    /// # Errors
    /// [`RedirectError::Pin`].
    pub fn teardown(&self) -> Result<(), RedirectError> {
        for id in self.enrolled()? {
            self.unenrol(id)?;
        }
        for id in self.guarded()? {
            self.unguard(id)?;
        }
        self.pins.remove()
    }

    /// Listeners of an earlier process are dead: what was in their queues was reset. And what it told of cgroups that
    /// have no links is of no use.
    fn forget_predecessor(&self) -> Result<(), RedirectError> {
        let mut ports = lock(&self.ports.map);
        let old: Vec<u64> = ports.keys().flatten().collect();
        for netns in old {
            ports.remove(&netns).or_else(absent).map_err(failed("LISTENERS"))?;
        }
        self.origins.clear();
        // Of cgroups whose links are gone: a process that was killed between the two.
        for (id, mode) in self.told() {
            let stands = match mode {
                MODE_EXEMPT => true,
                MODE_STRICT => self.pins.strict(id).is_dir(),
                _ => self.pins.links(id).is_dir(),
            };
            if !stands {
                self.forget(id)?;
            }
        }
        self.askers.notes.clear();
        Ok(())
    }

    fn tell(&self, config: &Config) -> Result<(), RedirectError> {
        let stale_ns = u64::try_from(config.stale_after.as_nanos()).unwrap_or(u64::MAX);
        let mut settings: Array<MapData, Settings> = typed(open(&self.pins, "SETTINGS")?, "SETTINGS")?;
        settings.set(0, Settings { stale_ns }, 0).map_err(failed("SETTINGS"))
    }
}

impl std::fmt::Debug for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redirect").field("pins", &self.pins).finish_non_exhaustive()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No critical section leaves anything half made that a later one does not mend: maps are changed entry by entry,
    // and `links::attach` begins by completing what was cut off.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
