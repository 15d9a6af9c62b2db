//! What CMD must not reach by a path: sockets of those who start processes for others, and our own state.
//!
//! Three layers: `/run` is replaced by a [mirror](super::mirror) without sockets; the starters in the table are covered
//! elsewhere even where they hold no socket yet; every further unix socket that somebody is bound to is covered by
//! itself. `--expose` takes a path out of all three, but never our own state.
//!
//! Limits: outside of `/run` and of the table's directories, a socket made after the start is visible. And this is no
//! sandbox for files: what CMD writes into its user's home (a shell's profile, a unit, a git hook) may be started later by
//! that user, outside.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{mirror, mounts, sockets};
use crate::run::Sandbox;

/// One who starts processes, or types, on request.
struct Starter {
    /// Where it is asked. `{uid}` and `{home}` are CMD's.
    path: &'static str,
    /// Whether the directory is made when it is missing, so that one made later cannot appear.
    made: bool,
}

const fn at(path: &'static str) -> Starter {
    Starter { path, made: false }
}

/// Everybody known. `/run` is listed for what has directories there, sockets or not; all other sockets go anyway.
const STARTERS: &[Starter] = &[
    at("/run/dbus"),            // the system's D-Bus: systemd, polkit, machined, NetworkManager
    at("/run/user"),            // the user's D-Bus, systemd, Wayland, editors, terminals
    at("/run/systemd/private"), // systemctl
    at("/run/systemd/system"),  // transient units
    at("/run/initctl"),         // init
    at("/run/udev/control"),    // udev rules
    at("/run/docker"),
    at("/run/docker.sock"),
    at("/run/containerd"),
    at("/run/podman"),
    at("/run/crio"),
    at("/run/buildkit"),
    at("/run/k3s"),
    at("/run/lxd"),
    at("/run/incus"),
    at("/run/libvirt"),
    at("/run/snapd.socket"),
    at("/run/screen"),
    at("/run/screens"),
    at("/run/tmux"),
    at("/run/supervisor"),
    at("/var/lib/lxd/unix.socket"),
    at("/var/lib/incus/unix.socket"),
    at("/var/snap/lxd/common/lxd"),
    at("/var/spool/cron"), // crontabs, and at's jobs on Debian
    at("/var/spool/at"),
    at("/var/spool/atjobs"),
    Starter { path: "/tmp/tmux-{uid}", made: true },
    at("/tmp/screens"),
    at("/tmp/.X11-unix"), // X: a client can type into any window
    at("{home}/.docker/run"),
    at("{home}/.docker/desktop"),
    at("{home}/.screen"),
];

/// Sockets that take log lines and do nothing else.
const HARMLESS: &[&str] = &[
    "/dev/log",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/systemd/journal/syslog",
];

/// Directories that are mirrored. The second is a link to the first on most systems.
const MIRRORED: &[&str] = &["/run", "/var/run"];

/// Hides everything of the above from this mount namespace.
pub(super) fn apply(sandbox: &Sandbox) -> Result<()> {
    let view = View::new(sandbox)?;
    let trust = Opened::new(&sandbox.trust)?;
    make_missing(sandbox)?;
    view.mirrored.iter().try_for_each(|root| mirror::make(root, &view))?;
    session_directory(sandbox, &view)?;
    for starter in view.starters.iter().filter(|path| !view.in_mirror(path) && !view.exposed(path)) {
        cover(starter, &view)?;
    }
    for socket in sockets::bound()? {
        if view.exposed(&socket) || is_harmless(&socket) {
            continue;
        }
        if let Err(error) = mounts::null(&socket)
            && sockets::is_socket(&socket)
        {
            return Err(error);
        }
    }
    own_state(sandbox, &trust)
}

/// What this CMD's view leaves out, with all paths free of links.
pub(super) struct View {
    starters: Vec<PathBuf>,
    exposed: Vec<PathBuf>,
    mirrored: Vec<PathBuf>,
}

impl View {
    fn new(sandbox: &Sandbox) -> Result<Self> {
        let exposed = sandbox.expose.iter().map(|path| {
            path.canonicalize().with_context(|| format!("`--expose {}`: there is nothing to expose", path.display()))
        });
        let starters =
            STARTERS.iter().map(|starter| starter.path(sandbox)).map(|path| path.canonicalize().unwrap_or(path));
        let mut mirrored: Vec<_> = MIRRORED.iter().filter_map(|root| Path::new(root).canonicalize().ok()).collect();
        mirrored.dedup();
        mirrored.retain(|root| root.is_dir());
        let mut view = Self { starters: starters.collect(), exposed: exposed.collect::<Result<_>>()?, mirrored };
        // Exposed as a whole, a root stays as it is.
        view.mirrored = view.mirrored.iter().filter(|root| !view.exposed(root)).cloned().collect();
        Ok(view)
    }

    /// Whether `--expose` names the path, or a directory around it.
    pub fn exposed(&self, path: &Path) -> bool {
        self.exposed.iter().any(|exposed| path.starts_with(exposed))
    }

    /// Whether `--expose` names something within the path.
    pub fn holds_exposed(&self, path: &Path) -> bool {
        self.exposed.iter().any(|exposed| exposed.starts_with(path))
    }

    /// Whether the table names the path.
    pub fn is_starter(&self, path: &Path) -> bool {
        self.starters.iter().any(|starter| starter == path)
    }

    /// Whether the table names something within the path.
    pub fn holds_starter(&self, path: &Path) -> bool {
        self.starters.iter().any(|starter| starter.starts_with(path))
    }

    fn in_mirror(&self, path: &Path) -> bool {
        self.mirrored.iter().any(|root| path.starts_with(root))
    }
}

/// Whether the socket starts nothing.
pub(super) fn is_harmless(socket: &Path) -> bool {
    HARMLESS.iter().any(|harmless| socket == Path::new(harmless))
}

impl Starter {
    fn path(&self, sandbox: &Sandbox) -> PathBuf {
        let uid = sandbox.invoker.uid.to_string();
        match self.path.strip_prefix("{home}/") {
            Some(rest) => sandbox.invoker.home.join(rest),
            None => self.path.replace("{uid}", &uid).into(),
        }
    }
}

/// Covers a starter, if it is there; of a directory, what is exposed in it shows through.
fn cover(path: &Path, view: &View) -> Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.is_dir() {
        return mounts::null(path);
    }
    let inside: Vec<_> = view.exposed.iter().filter(|exposed| exposed.starts_with(path)).collect();
    let opened = inside.iter().map(|exposed| Opened::new(exposed)).collect::<Result<Vec<_>>>()?;
    mounts::empty(path)?;
    inside.iter().zip(&opened).try_for_each(|(exposed, opened)| opened.show_at(exposed))
}

/// Gives the user's session directory back, empty: programs expect to write there.
fn session_directory(sandbox: &Sandbox, view: &View) -> Result<()> {
    let all = Path::new("/run/user");
    let own = all.join(sandbox.invoker.uid.to_string());
    // Outside of a mirror this would be the system's own directory.
    if !view.in_mirror(&own) || view.exposed(&own) {
        return Ok(());
    }
    mounts::directory(all, 0o755, 0, 0)?;
    mounts::directory(&own, 0o700, sandbox.invoker.uid, sandbox.invoker.gid)
}

fn make_missing(sandbox: &Sandbox) -> Result<()> {
    for path in STARTERS.iter().filter(|starter| starter.made).map(|starter| starter.path(sandbox)) {
        // An existing one, of whatever kind and owner, is covered as it is: another run may make it at this moment.
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            made => made.with_context(|| format!("cannot make `{}`", path.display()))?,
        }
        std::os::unix::fs::lchown(&path, Some(sandbox.invoker.uid), Some(sandbox.invoker.gid))
            .with_context(|| format!("cannot hand `{}` over", path.display()))?;
    }
    Ok(())
}

/// Hides our state and runtime directories, whatever is exposed, and shows the trust files read-only.
fn own_state(sandbox: &Sandbox, trust: &Opened) -> Result<()> {
    for path in sandbox.hide.iter().chain([&sandbox.runtime_dir]) {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => mounts::empty(path)?,
            Ok(_) => mounts::null(path)?,
            Err(_) => {}
        }
    }
    mounts::place(&sandbox.trust, true)?;
    trust.show_at(&sandbox.trust)?;
    mounts::read_only(&sandbox.trust)
}

/// Something held open while its path is covered.
struct Opened {
    descriptor: rustix::fd::OwnedFd,
    directory: bool,
}

impl Opened {
    fn new(path: &Path) -> Result<Self> {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        Ok(Self { descriptor, directory: path.is_dir() })
    }

    fn show_at(&self, path: &Path) -> Result<()> {
        use std::os::fd::AsRawFd as _;
        if let Some(parent) = path.parent() {
            mounts::place(parent, true)?;
        }
        mounts::place(path, self.directory)?;
        mounts::bind(&PathBuf::from(format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())), path)
    }
}
