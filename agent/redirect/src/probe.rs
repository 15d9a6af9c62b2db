//! What this kernel can do, found out by doing it: for `callgate doctor`.
//!
//! Never reads a list of features: kernels name what they then refuse to load. Whatever is tried is taken back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::Btf;
use aya::maps::MapType;
use aya::sys::is_map_supported;
use aya_obj::btf::BtfKind;
use aya_obj::generated::{bpf_attach_type, bpf_prog_type};

use crate::cgroup::Cgroup;
use crate::pins::{self, Pins};
use crate::{Config, NetnsRef, Redirect, RedirectError, links, syscall};

/// One thing that was tried.
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
    /// Whether nothing works without it.
    pub required: bool,
}

/// Tries everything. Needs root; changes nothing that stays, but leaves bpffs mounted at `bpffs`.
#[must_use]
pub fn probe_all(bpffs: &Path) -> Vec<Feature> {
    let all = "no workload can be enrolled";
    let mut features = vec![
        required("cgroup v2", all, cgroup2_mount().map(|path| path.display().to_string())),
        required("bpffs", all, pins::mount_bpffs(bpffs).map(|()| bpffs.display().to_string())),
        required("socket storage", all, map(MapType::SkStorage)),
        required("ring buffer", all, map(MapType::RingBuf)),
        required("network namespace cookies", all, own_cookie()),
    ];
    features.extend(programs(bpffs));
    features.push(optional(
        "BTF tracepoints",
        "the executable is attested from /proc, not from the kernel's own record of exec",
        traced("sched_process_exec"),
    ));
    features
}

/// Loads our own programs, one by one, and attaches them all to an empty cgroup.
fn programs(bpffs: &Path) -> Vec<Feature> {
    const LOST: &str = "no workload can be enrolled: something could go around the redirect";
    let instance = format!("probe-{}", std::process::id());
    let config = Config { bpffs: bpffs.into(), ..Config::new(instance) };
    let mut features = Vec::new();
    let mut load = || -> Result<(), RedirectError> {
        let pins = Pins::new(&config.bpffs, &config.instance)?;
        let _owned = pins.own()?;
        let mut object = crate::object::open_object(&pins, &config)?;
        for links::Hook { name, .. } in links::all() {
            features.push(required(name, LOST, links::load(&mut object, name).map(|()| "loads".into())));
        }
        Ok(())
    };
    if let Err(error) = load() {
        features.push(required("kernel programs", LOST, Err::<String, _>(error)));
    } else {
        const ATTACHING: &str = "attaching to a cgroup";
        features.push(match attach(&config) {
            // As in a pod: there nothing can be tried at a cgroup of our own.
            Err(RedirectError::Cgroup { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let why = "not tried: the cgroup tree is read-only here; `callgate status` tells what is attached";
                optional(ATTACHING, LOST, Err::<String, _>(why))
            }
            tried => required(ATTACHING, LOST, tried),
        });
    }
    // What could not be removed is shown by the next look at the pins.
    let _left = pins::remove_pins(bpffs, &config.instance);
    features
}

fn attach(config: &Config) -> Result<String, RedirectError> {
    let mount =
        cgroup2_mount().map_err(|source| RedirectError::Cgroup { path: PathBuf::from("/proc/mounts"), source })?;
    let folder = mount.join(format!("callgate-{}", config.instance));
    let made = fs::create_dir(&folder);
    made.map_err(|source| RedirectError::Cgroup { path: folder.clone(), source })?;
    let tried = (|| {
        let redirect = Redirect::load(config)?;
        let id = redirect.enrol(&folder, callgate_model::Mode::Enforce)?;
        let known = Cgroup::open(&folder)?.id == id;
        redirect.teardown()?;
        Ok(if known { "attaches and detaches".to_owned() } else { format!("attached to {id}, which is another one") })
    })();
    let _busy = fs::remove_dir(&folder);
    tried
}

/// Loads a program of two instructions for a tracepoint that is known by its type.
fn traced(tracepoint: &str) -> io::Result<String> {
    let btf = Btf::from_sys_fs().map_err(io::Error::other)?;
    let id = btf.id_by_type_name_kind(&format!("btf_trace_{tracepoint}"), BtfKind::Typedef);
    let (kind, attach) = (bpf_prog_type::BPF_PROG_TYPE_TRACING, bpf_attach_type::BPF_TRACE_RAW_TP);
    syscall::load_trivial(kind, attach, id.map_err(io::Error::other)?)?;
    Ok("loads".into())
}

fn map(kind: MapType) -> Result<String, io::Error> {
    match is_map_supported(kind) {
        Ok(true) => Ok("can be made".into()),
        Ok(false) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        Err(error) => Err(error.io_error),
    }
}

fn own_cookie() -> Result<String, RedirectError> {
    NetnsRef::current()?.cookie().map(|cookie| format!("this one is {}", cookie.0))
}

fn cgroup2_mount() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut lines = mounts.lines().map(|line| line.split(' ').skip(1));
    let found = lines.find_map(|mut words| Some((words.next()?, words.next()?)).filter(|(_, kind)| *kind == "cgroup2"));
    found.map(|(path, _)| PathBuf::from(path)).ok_or_else(|| io::Error::other("no cgroup2 in /proc/mounts"))
}

fn required<E: std::fmt::Display>(name: &'static str, degrades: &'static str, tried: Result<String, E>) -> Feature {
    Feature { required: true, ..optional(name, degrades, tried) }
}

fn optional<E: std::fmt::Display>(name: &'static str, degrades: &'static str, tried: Result<String, E>) -> Feature {
    let (ok, detail) = match tried {
        Ok(found) => (true, found),
        Err(error) => (false, error.to_string()),
    };
    Feature { name, ok, detail, degrades, required: false }
}
