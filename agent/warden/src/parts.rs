//! The objects and their programs: one table, and loading what a kernel takes of it.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Once;

use libbpf_rs::{Object, ObjectBuilder, PrintLevel, ProgramMut};

use crate::{Answer, Config, WardenError};

/// One object of `ebpf/warden`.
pub struct Part {
    /// Its name, as in `build.rs`.
    pub name: &'static str,
    object: &'static [u8],
    /// Programs without which the part is worth nothing.
    needed: &'static [&'static str],
    /// Programs that a kernel may lack: each closes one way less.
    further: &'static [&'static str],
    /// Whether something else refuses families, so that its programs are to leave them.
    leaves_families: bool,
    /// What is lost without the part.
    degrades: &'static str,
}

/// Something that was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// What.
    pub name: &'static str,
    /// Whether it works.
    pub ok: bool,
    /// What was found, or why it does not work.
    pub detail: String,
    /// What is lost without it.
    pub degrades: &'static str,
}

/// libelf reads words where they lie.
#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);

macro_rules! object {
    ($name:literal) => {{
        static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".o")));
        &OBJECT.0
    }};
}

/// Finds and destroys sockets.
pub static SOCKETS: Part = Part {
    name: "sockets",
    object: object!("sockets"),
    needed: &["tcp", "udp", "files"],
    further: &[],
    leaves_families: false,
    degrades: "sockets older than an enrolment, and connected ones that are handed in, work on unseen",
};

/// Refuses sockets of other cgroups.
pub static GUARD: Part = Part {
    name: "guard",
    object: object!("guard"),
    needed: &["guard_connect4", "guard_connect6", "guard_sendmsg4", "guard_sendmsg6"],
    further: &[],
    leaves_families: false,
    degrades: "a socket that was made outside and is handed in connects unseen",
};

/// Tells when to look for sockets.
pub static ARRIVALS: Part = Part {
    name: "arrivals",
    object: object!("arrivals"),
    needed: &["arrival_received"],
    further: &["arrival_uring", "arrival_move", "arrival_clone"],
    leaves_families: false,
    degrades: "a connected socket that is handed in is found after a second, not at once",
};

/// Refuses families that have no hook.
pub static LSM: Part = Part {
    name: "lsm",
    object: object!("lsm"),
    needed: &["family_create"],
    further: &[],
    leaves_families: false,
    degrades: "families of sockets that have no hook are not refused: their task is ended instead (`calls`)",
};

/// Ends tasks that ask for them, where [`LSM`] does not load; tells of `pidfd_getfd`. Costs every system call of the host.
pub static CALLS: Part = Part {
    name: "calls",
    object: object!("calls"),
    needed: &["call_exit"],
    further: &["call_uring"],
    leaves_families: false,
    degrades: "families of sockets that have no hook (packet, vsock, CAN, …) are closed by seccomp under `callgate run` alone",
};

/// The same beside [`LSM`]: for `pidfd_getfd` alone.
pub static CALLS_BESIDE_LSM: Part = Part { further: &[], leaves_families: true, ..CALLS };

/// Notes which program a task executes as it connects, and which program executed which.
pub static EXEC: Part = Part {
    name: "exec",
    object: object!("exec"),
    needed: &["exec_connect4", "exec_connect6", "exec_sendmsg4", "exec_sendmsg6", "exec_done", "exec_fork"],
    further: &["exec_exit"],
    leaves_families: false,
    degrades: "no executable and no lineage is known, so that rules which name one do not match",
};

/// Every part, for those who try them all.
pub static PARTS: [&Part; 6] = [&SOCKETS, &GUARD, &ARRIVALS, &LSM, &CALLS, &EXEC];

/// Maps that outlive the process, and that objects share.
const SHARED: [&str; 6] = ["WARDEN_EVENTS", "STIRRED", "DOOMED", PROCESSES, LINEAGE, COUNTS];

/// What every enrolled process executes, how each execution came about, and how many there were.
pub const PROCESSES: &str = "PROCESSES";
pub const LINEAGE: &str = "LINEAGE";
pub const COUNTS: &str = "COUNTS";

/// Bits of `RULES` in `ebpf/warden/families.h`.
const NETLINK_REPORTED: u32 = 1;
const FAMILIES_ELSEWHERE: u32 = 2;

/// Programs of a part that the kernel took.
pub struct Loaded {
    objects: Vec<Object>,
    /// The others, with the reason.
    pub refused: Vec<(&'static str, libbpf_rs::Error)>,
}

impl Part {
    /// Loads what the kernel takes. With a configuration, the maps are those that are pinned; without one, maps of its
    /// own, in which nobody is enrolled.
    ///
    /// # Errors
    /// [`WardenError::Load`] when one of the programs that are needed is refused.
    pub fn load(&'static self, config: Option<&Config>) -> Result<Loaded, WardenError> {
        let all: Vec<&'static str> = self.needed.iter().chain(self.further).copied().collect();
        let first = match self.load_only(config, &all) {
            Ok(object) => return Ok(Loaded { objects: vec![object], refused: Vec::new() }),
            Err(error) => error,
        };
        // One that is refused takes all with it; so each by itself, unless there is but one.
        let mut loaded = Loaded { objects: Vec::new(), refused: Vec::new() };
        if let [one] = all.as_slice() {
            return Err(WardenError::Load { what: one, source: first });
        }
        for name in all {
            match self.load_only(config, &[name]) {
                Ok(object) => loaded.objects.push(object),
                Err(source) if self.needed.contains(&name) => return Err(WardenError::Load { what: name, source }),
                Err(source) => loaded.refused.push((name, source)),
            }
        }
        Ok(loaded)
    }

    fn load_only(&self, config: Option<&Config>, wanted: &[&str]) -> Result<Object, libbpf_rs::Error> {
        static PRINT: Once = Once::new();
        PRINT.call_once(|| {
            libbpf_rs::set_print(Some((PrintLevel::Warn, |_, line| {
                tracing::debug!(libbpf = line.trim_end(), "the warden's loader");
            })));
        });
        let mut open = ObjectBuilder::default().open_memory(self.object)?;
        for mut program in open.progs_mut() {
            let load = wanted.iter().any(|name| program.name() == *name);
            program.set_autoload(load);
        }
        for mut map in open.maps_mut() {
            let Some(config) = config else { continue };
            if map.name() == "ENROLMENTS" {
                map.reuse_pinned_map(&config.enrolments)?;
            } else if map.name() == "SOCKETS" {
                if let Some(pin) = &config.client_sockets {
                    map.reuse_pinned_map(pin)?;
                }
            } else if let Some(name) = SHARED.iter().find(|name| map.name() == **name) {
                map.set_pin_path(config.pins.join(name))?;
            } else if map.name().to_string_lossy().ends_with(".rodata")
                && let Some(rules) = map.initial_value_mut().and_then(|value| value.first_chunk_mut())
            {
                *rules = self.rules(config).to_ne_bytes();
            }
        }
        open.load()
    }

    /// What its programs are told, by the only constant that they have.
    fn rules(&self, config: &Config) -> u32 {
        let netlink = if config.netlink == Answer::Report { NETLINK_REPORTED } else { 0 };
        netlink | if self.leaves_families { FAMILIES_ELSEWHERE } else { 0 }
    }

    /// What became of it.
    pub fn feature(&self, tried: &Result<String, WardenError>) -> Feature {
        let (ok, detail) = match tried {
            Ok(found) => (true, found.clone()),
            Err(error) => (false, error.to_string()),
        };
        Feature { name: self.name, ok, detail, degrades: self.degrades }
    }
}

impl Loaded {
    /// The programs.
    pub fn programs(&self) -> impl Iterator<Item = (&str, ProgramMut<'_>)> {
        let all = self.objects.iter().flat_map(Object::progs_mut);
        let named = all.filter_map(|program| Some((program.name().to_str()?, program)));
        // A program that was not to be loaded has no descriptor.
        named.filter(|(_, program)| program.autoload())
    }

    /// In one sentence.
    pub fn shown(&self) -> String {
        let refused: Vec<String> = self.refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        if refused.is_empty() { "loads".into() } else { format!("loads, without {}", refused.join("; ")) }
    }

    /// The descriptor of one program.
    pub fn descriptor(&self, name: &'static str) -> Result<std::os::fd::OwnedFd, WardenError> {
        let found =
            self.programs().find(|(one, _)| *one == name).map(|(_, program)| program.as_fd().try_clone_to_owned());
        match found {
            Some(Ok(descriptor)) => Ok(descriptor),
            Some(Err(error)) => Err(WardenError::Load { what: name, source: error.into() }),
            None => {
                Err(WardenError::Load { what: name, source: std::io::Error::from(std::io::ErrorKind::NotFound).into() })
            }
        }
    }
}

/// A map that is pinned in `pins`.
pub fn map(pins: &Path, name: &'static str) -> Result<libbpf_rs::MapHandle, WardenError> {
    libbpf_rs::MapHandle::from_pinned_path(pins.join(name)).map_err(|source| WardenError::Map { map: name, source })
}

/// Whether `name` is a map that parts share.
pub fn is_map(name: &str) -> bool {
    SHARED.contains(&name)
}
