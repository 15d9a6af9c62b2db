//! The owner of the kernel programs of one instance.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, SkStorage};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use callgate_ebpf_common::{Enrolment, MODE_ENFORCE, MODE_OBSERVE, Marker, SCHEMA, Settings};
use callgate_model::{CgroupId, Mode, NetnsCookie, Origin};

use crate::askers::Askers;
use crate::cgroup::Cgroup;
use crate::listen::{self, PortsMap};
use crate::origins::{Origins, Patience};
use crate::pins::{self, Owned, Pins};
use crate::syscall::monotonic;
use crate::{Config, Events, KernelLogs, Listeners, NetnsRef, RedirectError, Stats, links, maps};

/// The kernel programs, loaded, with their maps pinned. Shared by `Arc`; dropping it leaves every pin in place.
pub struct Redirect {
    pins: Pins,
    bpffs: std::path::PathBuf,
    object: Mutex<Ebpf>,
    heartbeat: Mutex<Array<MapData, u64>>,
    enrolments: Mutex<HashMap<MapData, u64, Enrolment>>,
    ports: PortsMap,
    markers: Mutex<SkStorage<MapData, Marker>>,
    origins: Origins,
    askers: Askers,
    stats: PerCpuArray<MapData, u64>,
    logs: Mutex<Option<KernelLogs>>,
    _owned: Owned,
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
        let pins = Pins::new(&config.bpffs, &config.instance)?;
        pins::mount_bpffs(&config.bpffs)?;
        let owned = pins.own()?;
        let mut object = load_object(&pins, config)?;
        let redirect = Self {
            heartbeat: Mutex::new(maps::take(&mut object, "HEARTBEAT")?),
            enrolments: Mutex::new(maps::take(&mut object, "ENROLMENTS")?),
            ports: Arc::new(Mutex::new(maps::take(&mut object, "LISTENERS")?)),
            markers: Mutex::new(maps::take(&mut object, "MARKERS")?),
            origins: Origins::new(open(&pins, "ORIGINS")?, "ORIGINS", Patience::CONNECTIONS)?,
            askers: Askers::new(Origins::new(open(&pins, "ASKERS")?, "ASKERS", Patience::DATAGRAMS)?),
            stats: maps::take(&mut object, "STATS")?,
            logs: Mutex::new(KernelLogs::of(&mut object)),
            object: Mutex::new(object),
            bpffs: config.bpffs.clone(),
            pins,
            _owned: owned,
        };
        redirect.forget_predecessor()?;
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

    /// Enrols a cgroup and everything below it. Again: the links are replaced without a gap, and `mode` holds anew.
    ///
    /// Sockets made before this are not redirected; enrol a cgroup before anything is born in it.
    ///
    /// # Errors
    /// Those that speak of the cgroup; [`RedirectError::Program`], [`RedirectError::Pin`], [`RedirectError::Map`].
    /// A cgroup that was not enrolled before is not enrolled afterwards either.
    pub fn enrol(&self, cgroup: &Path, mode: Mode) -> Result<CgroupId, RedirectError> {
        let open = Cgroup::open(cgroup)?;
        self.refuse_nested(cgroup, &open)?;
        let known = self.pins.links(open.id).is_dir();
        let mode = match mode {
            Mode::Enforce => MODE_ENFORCE,
            Mode::Observe => MODE_OBSERVE,
        };
        let entry = Enrolment { mode, padding: 0 };
        lock(&self.enrolments).insert(open.id.0, entry, 0).map_err(failed("ENROLMENTS"))?;
        let attached = links::attach(&mut lock(&self.object), &self.pins, &open);
        if attached.is_err() && !known {
            // The error that matters is the first one.
            let _first = self.unenrol(open.id);
        }
        attached.map(|()| open.id)
    }

    /// Takes enforcement away from a cgroup. Connections that are open go on through the proxy.
    ///
    /// # Errors
    /// [`RedirectError::NotEnrolled`], [`RedirectError::Pin`].
    pub fn unenrol(&self, id: CgroupId) -> Result<(), RedirectError> {
        if !self.pins.links(id).is_dir() {
            return Err(RedirectError::NotEnrolled(id));
        }
        links::detach(&self.pins, id)?;
        lock(&self.enrolments).remove(&id.0).or_else(absent).map_err(failed("ENROLMENTS"))
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
        self.pins.remove()
    }

    /// Listeners of an earlier process are dead: what was in their queues was reset.
    fn forget_predecessor(&self) -> Result<(), RedirectError> {
        let mut ports = lock(&self.ports);
        let old: Vec<u64> = ports.keys().flatten().collect();
        for netns in old {
            ports.remove(&netns).or_else(absent).map_err(failed("LISTENERS"))?;
        }
        self.origins.clear();
        self.askers.notes.clear();
        Ok(())
    }

    fn tell(&self, config: &Config) -> Result<(), RedirectError> {
        let stale_ns = u64::try_from(config.stale_after.as_nanos()).unwrap_or(u64::MAX);
        let mut settings: Array<MapData, Settings> = typed(open(&self.pins, "SETTINGS")?, "SETTINGS")?;
        settings.set(0, Settings { stale_ns }, 0).map_err(failed("SETTINGS"))
    }

    /// Two instances on one line of cgroups would redirect to each other. Within one instance nesting is fine: the
    /// deepest enrolment counts.
    fn refuse_nested(&self, path: &Path, cgroup: &Cgroup) -> Result<(), RedirectError> {
        for instance in pins::instances(&self.bpffs)? {
            if instance == self.pins.instance() {
                continue;
            }
            let Ok(other) = Pins::new(&self.bpffs, &instance) else { continue };
            if cgroup.above.iter().chain([&cgroup.id]).any(|id| other.links(*id).is_dir()) {
                return Err(RedirectError::Nested { path: path.into(), instance });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redirect").field("pins", &self.pins).finish_non_exhaustive()
    }
}

fn load_object(pins: &Pins, config: &Config) -> Result<Ebpf, RedirectError> {
    let mut object = open_object(pins, config)?;
    maps::check_layout(pins)?;
    for name in links::PROGRAMS {
        links::load(&mut object, name)?;
    }
    Ok(object)
}

/// The object with its maps made or taken over; its programs are not loaded yet.
pub(crate) fn open_object(pins: &Pins, config: &Config) -> Result<Ebpf, RedirectError> {
    static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));
    let level = config.log_level as u8;
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(pins.maps()).override_global("AYA_LOG_LEVEL", &level, true);
    for map in maps::PINNED_BY_LOADER {
        loader.map_pin_path(map, pins.map(map));
    }
    loader.load(PROGRAMS).map_err(|error| RedirectError::Object(Box::new(error)))
}

fn open(pins: &Pins, map: &'static str) -> Result<MapData, RedirectError> {
    MapData::from_pin(pins.map(map)).map_err(failed(map))
}

fn typed<T>(data: MapData, map: &'static str) -> Result<T, RedirectError>
where
    T: TryFrom<aya::maps::Map, Error = MapError>,
{
    aya::maps::Map::from_map_data(data).and_then(T::try_from).map_err(failed(map))
}

fn failed(map: &'static str) -> impl Fn(MapError) -> RedirectError {
    move |source| RedirectError::Map { map, source: Box::new(source) }
}

/// Takes a cgroup out of the pinned map of an instance that nobody has loaded.
pub(crate) fn forget_enrolment(pins: &Pins, cgroup: CgroupId) -> Result<(), RedirectError> {
    let mut enrolments: HashMap<MapData, u64, Enrolment> = typed(open(pins, "ENROLMENTS")?, "ENROLMENTS")?;
    enrolments.remove(&cgroup.0).or_else(absent).map_err(failed("ENROLMENTS"))
}

/// Removing what is not there is done.
fn absent(error: MapError) -> Result<(), MapError> {
    match &error {
        MapError::KeyNotFound | MapError::ElementNotFound => Ok(()),
        MapError::SyscallError(call) if call.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section is one map operation: there is no half-made state to be afraid of.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
