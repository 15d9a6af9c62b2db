//! Processes outside that could be made to dial, by asking, by force, or through their files.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::PathBuf;

use super::dial::{ask, patient, stream};
use super::handed::done;
use crate::hostile::PATIENCE;
use crate::order::Helper;
use crate::vector::{Proof, Way};
use crate::{Order, Said, Vector, sys};

/// Under `run` another process's root is a matter of the mount namespace, as in a container.
const NOT_HOST: &[Way] = &[Way::User, Way::Root, Way::Run, Way::RunRoot];

pub const ROWS: &[Vector] = &[
    Vector::new("unix_abstract", "asks a process outside on an abstract unix socket", abstracted).delegated(),
    Vector::new("unix_path", "asks a process outside on a unix socket by its path", path).delegated(),
    Vector::new("loopback_forwarder", "asks a process outside on a port of 127.0.0.1", forwarder).delegated().v4(),
    by_force("ptrace", "traces a process outside of the same user", trace),
    by_force("process_vm_writev", "writes into the memory of a process outside", write_memory),
    by_force("proc_mem", "the same through /proc/PID/mem", proc_mem),
    by_force("proc_fd", "opens a socket of a process outside through /proc/PID/fd", proc_fd),
    by_force("proc_root", "reaches the writable cgroup tree through /proc/PID/root", proc_root).by(NOT_HOST),
    by_force("proc_cwd", "reaches files of a process outside through /proc/PID/cwd", proc_cwd).by(NOT_HOST),
    by_force("pidfd_netns", "enters namespaces of a process outside by its pidfd", pidfd_setns),
];

/// Force is a breach by itself; it needs the process outside to be there, not to be willing.
const fn by_force(name: &'static str, what: &'static str, attempt: crate::vector::Attempt) -> Vector {
    let row = Vector::new(name, what, attempt).judges_itself().connected();
    Vector { delegated: true, proof: Proof::Itself, ..row }
}

fn outside(order: &Order) -> io::Result<&Helper> {
    order.helper.as_ref().ok_or_else(|| io::Error::other("no helper"))
}

fn ask_unix(order: &Order, mut stream: UnixStream) -> io::Result<Said> {
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "dial {} {}", order.canary(), order.nonce)?;
    done(&mut stream)
}

fn abstracted(order: &Order, _: i64) -> io::Result<Said> {
    let name = UnixAddress::from_abstract_name(&outside(order)?.name)?;
    ask_unix(order, UnixStream::connect_addr(&name)?)
}

fn path(order: &Order, _: i64) -> io::Result<Said> {
    ask_unix(order, UnixStream::connect(&outside(order)?.path)?)
}

/// In HTTP, so that the gate can read and refuse it: a forwarder takes the first words it understands.
fn forwarder(order: &Order, _: i64) -> io::Result<Said> {
    let to = outside(order)?.tcp;
    let first = patient(sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?)?;
    first.connect(&to.into())?;
    first.send(format!("dial {} {}\n", order.canary(), order.nonce).as_bytes())?;
    let mut answer = [std::mem::MaybeUninit::new(0_u8); 256];
    let heard = first.recv(&mut answer)?;
    if heard > 0 && sys::number(&answer, 0) == i32::from_ne_bytes(*b"done") {
        return Ok(Said::Sent);
    }
    // Not what a forwarder says: is it the gate?
    let order = Order { to: to.ip(), port: to.port(), ..order.clone() };
    ask(&order, &stream(&order)?, to)
}

fn trace(order: &Order, _: i64) -> io::Result<Said> {
    sys::trace(outside(order)?.pid)?;
    Ok(Said::Breached("it traced the process".into()))
}

/// Where the process has writable memory: its stack, which is at the end of its map.
fn stack(pid: u32) -> io::Result<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[stack]"));
    let start = line.and_then(|line| usize::from_str_radix(line.split('-').next()?, 16).ok());
    start.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

fn write_memory(order: &Order, _: i64) -> io::Result<Said> {
    let pid = outside(order)?.pid;
    sys::write_into(pid, stack(pid)?, 0)?;
    Ok(Said::Breached("it wrote into the process".into()))
}

fn proc_mem(order: &Order, _: i64) -> io::Result<Said> {
    let pid = outside(order)?.pid;
    let memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"))?;
    memory.write_at(&[0], stack(pid)? as u64)?;
    Ok(Said::Breached("it wrote into the process".into()))
}

fn proc_fd(order: &Order, _: i64) -> io::Result<Said> {
    let helper = outside(order)?;
    let socket = helper.connected.ok_or_else(|| io::Error::other("no connection"))?;
    let mut socket = OpenOptions::new().write(true).open(format!("/proc/{}/fd/{socket}", helper.pid))?;
    socket.write_all(order.nonce.as_bytes())?;
    Ok(Said::Breached("it wrote into a socket of the process".into()))
}

fn proc_root(order: &Order, _: i64) -> io::Result<Said> {
    let mut path = PathBuf::from(format!("/proc/{}/root", outside(order)?.pid));
    path.extend(order.elsewhere.join("cgroup.procs").components().skip(1));
    OpenOptions::new().write(true).open(path)?.write_all(b"0")?;
    Ok(Said::Breached("it left its cgroup".into()))
}

fn proc_cwd(order: &Order, _: i64) -> io::Result<Said> {
    let entries = std::fs::read_dir(format!("/proc/{}/cwd/", outside(order)?.pid))?;
    Ok(Said::Breached(if entries.count() == 0 { "it sees a directory" } else { "it sees files" }.into()))
}

fn pidfd_setns(order: &Order, _: i64) -> io::Result<Said> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
    let pid = i32::try_from(outside(order)?.pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or_else(|| io::Error::other("no process"))?, PidfdFlags::empty())?;
    let kinds = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::NETWORK;
    move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&process), kinds)?;
    Ok(Said::Breached("it is in the namespaces of the process".into()))
}
