//! The hostile program: becomes what the order says, tries one vector, and says what it saw.

use std::io::{self, BufRead as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::order::{Answer, Order, Seen};
use crate::vector::{NOBODY, Said, Way};
use crate::vectors;

/// What a container's root has unless told otherwise. Source: the default of container runtimes (moby, containerd).
const CONTAINER: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Longest wait of one blocking call. Source: whatever comes on a veth pair is there within a millisecond.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Says that the vector waits, and waits for leave to go on.
pub fn pause() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "prepared")?;
    out.flush()?;
    io::stdin().lock().read_line(&mut String::new()).map(drop)
}

/// Tries what the order (JSON) says, and prints what was seen.
///
/// # Errors
/// When the order is none, or the process cannot become what it says.
pub fn attempt(order: &str) -> Result<()> {
    let order: Order = serde_json::from_str(order).context("the order")?;
    if !order.settled {
        become_it(order.way).with_context(|| format!("become {}", order.way.name()))?;
    }
    println!("{}", serde_json::to_string(&seen(&order))?);
    Ok(())
}

/// Tries one order a line, each in a process of its own: for `callgate run`, where a start takes long.
///
/// # Errors
/// When stdin or stdout fail.
pub fn serve() -> Result<()> {
    for order in io::stdin().lock().lines() {
        let order = order?;
        let seen = child(&order, PATIENCE * 5);
        // The nonce says whose answer it is.
        let nonce = serde_json::from_str::<Order>(&order).context("the order")?.nonce;
        let mut out = io::stdout().lock();
        writeln!(out, "{nonce} {}", serde_json::to_string(&seen)?)?;
        out.flush()?;
    }
    Ok(())
}

fn child(order: &str, within: Duration) -> Seen {
    let started = Instant::now();
    let answer = match output(order, within) {
        Ok(Ok(seen)) => return seen,
        Ok(Err(answer)) => answer,
        Err(error) => Answer::Failed(error.to_string()),
    };
    Seen { answer, latency_us: started.elapsed().as_micros() as u64 }
}

fn output(order: &str, within: Duration) -> io::Result<std::result::Result<Seen, Answer>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("attempt").arg(order).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let deadline = Instant::now() + within;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(Err(Answer::Failed(format!("no answer within {within:?}"))));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output()?;
    Ok(answer(output.status, &String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr)))
}

/// What a hostile process said before its end.
pub fn answer(status: std::process::ExitStatus, stdout: &str, stderr: &str) -> std::result::Result<Seen, Answer> {
    if let Some(seen) = stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok()) {
        return Ok(seen);
    }
    if let Some(signal) = status.signal() {
        return Err(Answer::Killed(signal));
    }
    Err(Answer::Failed(format!("{status}: {}", stderr.trim())))
}

fn seen(order: &Order) -> Seen {
    let started = Instant::now();
    let said = match vectors::find(&order.vector) {
        Some(vector) => (vector.attempt)(order, vector.argument),
        None => Err(io::Error::other(format!("no vector `{}`", order.vector))),
    };
    let latency_us = started.elapsed().as_micros() as u64;
    let answer = match said {
        Ok(Said::Sent) => Answer::Sent,
        Ok(Said::Gate) => Answer::Gate,
        Ok(Said::Breached(what)) => Answer::Breached(what),
        Ok(Said::Absent(what)) => Answer::Absent(what),
        Err(error) => match error.raw_os_error() {
            Some(errno) => Answer::Errno(errno),
            None => Answer::Failed(error.to_string()),
        },
    };
    Seen { answer, latency_us }
}

/// Becomes the user of a way, with its capabilities and its view of the file systems.
///
/// # Errors
/// When it may not.
pub fn become_it(way: Way) -> Result<()> {
    let kept = match way {
        Way::Full | Way::Run | Way::RunRoot => return Ok(()),
        Way::User => CapabilitySet::empty(),
        Way::Root | Way::Bare => CONTAINER,
        Way::RootNoRaw => CONTAINER.difference(CapabilitySet::NET_RAW),
    };
    if matches!(way, Way::Root | Way::RootNoRaw) {
        see_as_a_container()?;
    }
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        let Ok(present) = rustix::thread::capability_is_in_bounding_set(capability) else { break };
        if present && !kept.contains(capability) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_thread_groups(&[])?;
    let id = if way == Way::User { NOBODY } else { 0 };
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let kept = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, kept)?;
    // Another user id makes a process undumpable, which would shield it where an ordinary one is not.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    Ok(())
}

/// A cgroup namespace, with its part of the tree read-only, `/proc/sys` read-only, bpffs covered: what container
/// runtimes do. Read-only alone would not do: `clone3()` asks a cgroup's permissions, and never its mount's.
fn see_as_a_container() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWCGROUP)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let read_only = MountFlags::BIND | MountFlags::RDONLY;
    for line in std::fs::read_to_string("/proc/self/mounts")?.lines() {
        let mut words = line.split(' ').skip(1);
        match (words.next(), words.next()) {
            (Some(path), Some("cgroup2")) => {
                // The same file system is not mounted twice on one place; something else in between will do.
                rustix::mount::mount("none", path, "tmpfs", MountFlags::empty(), None)
                    .with_context(|| path.to_owned())?;
                rustix::mount::mount("none", path, "cgroup2", MountFlags::empty(), None)
                    .with_context(|| path.to_owned())?;
                rustix::mount::mount_remount(path, read_only, "").with_context(|| path.to_owned())?;
            }
            (Some(path), Some("cgroup")) => {
                rustix::mount::mount_remount(path, read_only, "").with_context(|| path.to_owned())?;
            }
            (Some(path), Some("bpf")) => {
                rustix::mount::mount("none", path, "tmpfs", MountFlags::empty(), None)
                    .with_context(|| path.to_owned())?;
            }
            _ => {}
        }
    }
    rustix::mount::mount_bind("/proc/sys", "/proc/sys")?;
    rustix::mount::mount_remount("/proc/sys", read_only, "")?;
    Ok(())
}
