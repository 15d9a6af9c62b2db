//! What a [`Warden`](crate::Warden) is told.

use std::path::PathBuf;

/// Settings of one instance.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the links and maps of the warden are pinned: a folder of bpffs, made if it is not there.
    pub pins: PathBuf,
    /// Pin of the redirect's map of enrolments.
    pub enrolments: PathBuf,
    /// Pin of the redirect's storage with sockets, to which is added what a task executes; none: to no socket.
    pub client_sockets: Option<PathBuf>,
    /// The enforcement root: a cgroup above every enrolled one. Sockets that were made outside of it are not guarded.
    pub cgroup_root: PathBuf,
    /// What becomes of sockets that the hooks cannot see.
    pub older: Older,
    /// How sockets are destroyed; none: as this kernel does it best.
    pub means: Option<Means>,
    /// What becomes of a task that asks for netlink beyond routes.
    pub netlink: Answer,
    /// Whether seccomp refuses what [`calls`](crate::Warden) would see, so that it costs nobody a system call.
    pub has_seccomp: bool,
}

/// What becomes of something that is refused unless the configuration lets it pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Answer {
    /// It is refused; where that cannot be, its process is ended.
    #[default]
    Refuse,
    /// It is reported, and passes.
    Report,
}

/// What becomes of sockets that are older than an enrolment, or were made elsewhere and are held inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Older {
    /// They are destroyed: their owner sees `ECONNABORTED`. Those that cannot be are ended with their process.
    #[default]
    Destroy,
    /// They are reported as uncovered, and work on.
    Report,
}

/// How a socket of another process is destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Means {
    /// By `bpf_sock_destroy` (Linux 6.5).
    Kernel,
    /// By netlink, `SOCK_DESTROY` (Linux 4.5, with `CONFIG_INET_DIAG_DESTROY`).
    Diag,
}
