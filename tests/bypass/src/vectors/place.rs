//! Where a process stands: sessions, children, namespaces, and above all the cgroup tree.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::MountFlags;
use rustix::thread::LinkNameSpaceType;

use super::dial::{ask, stream};
use crate::order::Answer;
use crate::vector::Way;
use crate::{Order, Said, Vector, hostile, sys};

const HOST_ROOT: &[Way] = &[Way::Bare];

pub const ROWS: &[Vector] = &[
    Vector::new("setsid", "in a session of its own", session),
    Vector::new("double_fork", "as an orphan: its parent has ended", orphan),
    Vector::new("thread", "from a second thread", thread),
    Vector::new("user_namespace", "in a user namespace of its own, as its root", user_namespace),
    Vector::new("new_netns", "in a network namespace of its own: to a server of its own", new_netns).judges_itself(),
    Vector::new("new_netns_old_socket", "a socket of the old network namespace, used in a new one", old_socket),
    Vector::new("setns_netns", "enters the canaries' network namespace", setns).judges_itself(),
    Vector::new("subcgroup", "makes a cgroup below its own, enters it, and connects", subcgroup),
    Vector::new("subcgroup_host_root", "root of the host makes a cgroup below its own, and connects", subcgroup)
        .by(HOST_ROOT),
    Vector::new("migrate", "moves itself into a cgroup that is not enrolled, and connects", migrate),
    Vector::new("migrate_host_root", "root of the host moves itself out, and connects", migrate).by(HOST_ROOT),
    Vector::new("migrate_child", "moves a child out, which connects", migrate_child),
    Vector::new("migrate_child_host_root", "root of the host moves a child out, which connects", migrate_child)
        .by(HOST_ROOT),
    Vector::new("clone_into_cgroup", "clone3() with CLONE_INTO_CGROUP into a cgroup that is not enrolled", clone_into),
    Vector::new("clone_into_cgroup_host_root", "root of the host does so", clone_into).by(HOST_ROOT),
    Vector::new("migrate_socket", "makes a socket, moves itself out, and connects the old socket", migrate_socket)
        .by(HOST_ROOT),
    Vector::new("remount_cgroups", "remounts the cgroup tree writable", remount).judges_itself(),
    Vector::new("bind_cgroups", "binds the cgroup tree elsewhere, writable", bind).judges_itself(),
    Vector::new("mount_cgroups", "mounts the cgroup tree anew", mount_anew).judges_itself(),
    Vector::new(
        "userns_cgroups",
        "mounts the cgroup tree in namespaces of its own, moves out, and connects",
        userns_mount,
    ),
];

fn session(order: &Order, _: i64) -> io::Result<Said> {
    // A leader of a process group may not; it is one only where nobody else is in it.
    let _leader = rustix::process::setsid();
    ask(order, &stream(order)?, order.canary())
}

/// The shell ends at once; what it left connects, and writes what it saw into a pipe.
fn orphan(order: &Order, _: i64) -> io::Result<Said> {
    let program = std::env::current_exe()?;
    let child = Order { vector: "tcp_connect".into(), settled: true, ..order.clone() };
    let (mut reader, writer) = io::pipe()?;
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", r#"setsid "$0" attempt "$1" & exit 0"#]).arg(program);
    shell.arg(serde_json::to_string(&child)?).stdin(std::process::Stdio::null()).stdout(writer);
    shell.spawn()?.wait()?;
    // Dropped, so that the pipe ends with the orphan.
    drop(shell);
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    said(serde_json::from_str::<crate::Seen>(text.trim())?.answer)
}

fn thread(order: &Order, _: i64) -> io::Result<Said> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| ask(order, &stream(order)?, order.canary()))
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
    })
}

fn user_namespace(order: &Order, _: i64) -> io::Result<Said> {
    become_root_of_its_own(CloneFlags::empty())?;
    ask(order, &stream(order)?, order.canary())
}

/// A new user namespace, in which this user is root.
fn become_root_of_its_own(more: CloneFlags) -> io::Result<()> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | more)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Nobody out there can be reached from a fresh namespace, so a server of its own stands for it: connections in a
/// namespace without our listener must be refused, not let through.
fn new_netns(_: &Order, _: i64) -> io::Result<Said> {
    become_root_of_its_own(CloneFlags::CLONE_NEWNET)?;
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    sys::link_up(&socket, "lo")?;
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    let client = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    client.connect(&server.local_addr()?.into())?;
    Ok(Said::Breached("it is connected without the gate".into()))
}

fn old_socket(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    become_root_of_its_own(CloneFlags::CLONE_NEWNET)?;
    ask(order, &socket, order.canary())
}

fn setns(order: &Order, _: i64) -> io::Result<Said> {
    let far = File::open(&order.far)?;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&far), Some(LinkNameSpaceType::Network))?;
    Ok(Said::Breached("it is in the canaries' namespace".into()))
}

fn enter(cgroup: &Path, who: &str) -> io::Result<()> {
    // Opened without creating: in a covered tree that would be a plain file.
    OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?.write_all(who.as_bytes())
}

fn subcgroup(order: &Order, _: i64) -> io::Result<Said> {
    let below = order.cgroup.join(format!("sub-{}", order.nonce));
    fs::create_dir(&below)?;
    enter(&below, "0")?;
    ask(order, &stream(order)?, order.canary())
}

fn migrate(order: &Order, _: i64) -> io::Result<Said> {
    enter(&order.elsewhere, "0")?;
    ask(order, &stream(order)?, order.canary())
}

fn migrate_child(order: &Order, _: i64) -> io::Result<Said> {
    let program = std::env::current_exe()?;
    let mut child = std::process::Command::new(program);
    let settled = Order { vector: "tcp_connect".into(), settled: true, ..order.clone() };
    let (mut start, go) = io::pipe()?;
    child.args(["after", &serde_json::to_string(&settled)?]).stdin(start.try_clone()?);
    child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let running = child.spawn()?;
    let moved = enter(&order.elsewhere, &running.id().to_string());
    drop(go);
    let output = running.wait_with_output()?;
    let _drained = start.read(&mut [0]);
    moved?;
    said(serde_json::from_slice::<crate::Seen>(&output.stdout)?.answer)
}

fn clone_into(order: &Order, _: i64) -> io::Result<Said> {
    let folder: OwnedFd = File::open(&order.elsewhere)?.into();
    // The child's whole answer fits into an exit code: 0 sent, 1 gate, 2 something else, from 3 on an errno.
    let code = sys::born_in(&folder, || match super::tcp::connect(order, 0) {
        Ok(Said::Sent) => 0,
        Ok(Said::Gate) => 1,
        Ok(_) => 2,
        Err(error) => error.raw_os_error().unwrap_or(2).clamp(3, 255),
    })?;
    match code {
        0 => Ok(Said::Sent),
        1 => Ok(Said::Gate),
        2 => Err(io::Error::other("the child failed")),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn migrate_socket(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    enter(&order.elsewhere, "0")?;
    ask(order, &socket, order.canary())
}

fn tree(order: &Order) -> io::Result<std::path::PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next() == Some("cgroup2") && order.cgroup.starts_with(path)).then(|| path.into())
    });
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

fn private() -> io::Result<()> {
    // What is done to mounts must not be seen by others.
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

fn remount(order: &Order, _: i64) -> io::Result<Said> {
    private()?;
    rustix::mount::mount_remount(tree(order)?, MountFlags::BIND, "")?;
    Ok(Said::Breached("the tree is writable".into()))
}

fn bind(order: &Order, _: i64) -> io::Result<Said> {
    private()?;
    rustix::mount::mount_bind(tree(order)?, "/mnt")?;
    rustix::mount::mount_remount("/mnt", MountFlags::BIND, "")?;
    Ok(Said::Breached("the tree is writable".into()))
}

fn mount_anew(_: &Order, _: i64) -> io::Result<Said> {
    private()?;
    rustix::mount::mount("none", "/mnt", "cgroup2", MountFlags::empty(), None)?;
    Ok(Said::Breached("the tree is writable".into()))
}

/// With a cgroup namespace of its own it may mount the tree; what is above its own cgroup it must not find there.
fn userns_mount(order: &Order, _: i64) -> io::Result<Said> {
    become_root_of_its_own(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    let mounted = rustix::mount::mount("none", "/mnt", "cgroup2", MountFlags::empty(), None);
    let (name, above) = (order.elsewhere.file_name().unwrap_or_default(), Path::new("/mnt/.."));
    let places = [order.elsewhere.clone(), above.join(name), Path::new("/mnt").join(name)];
    let moved = places.iter().any(|place| enter(place, "0").is_ok());
    if !moved {
        // It dials from where it is.
        mounted?;
    }
    ask(order, &stream(order)?, order.canary())
}

/// An answer of another process as this one's.
pub fn said(answer: Answer) -> io::Result<Said> {
    match answer {
        Answer::Sent => Ok(Said::Sent),
        Answer::Gate => Ok(Said::Gate),
        Answer::Breached(what) => Ok(Said::Breached(what)),
        Answer::Absent(what) => Ok(Said::Absent(what)),
        Answer::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
        Answer::Failed(what) => Err(io::Error::other(what)),
        Answer::Killed(signal) => Err(io::Error::other(format!("killed by signal {signal}"))),
    }
}

/// Waits until stdin ends, then does what the order says: a child that is moved first.
///
/// # Errors
/// As [`hostile::attempt`].
pub fn after(order: &str) -> anyhow::Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    hostile::attempt(order)
}
