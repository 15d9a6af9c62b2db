//! The system calls that have no safe wrapper elsewhere, as functions of slices and descriptors.
//!
//! All unsafe code of the exam is here and below: hostile programs make calls that no well-behaved one needs.
#![allow(unsafe_code, reason = "raw system calls are what is examined; each block says why it holds")]

pub mod packet;
pub mod ring;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A result of libc as one of Rust.
fn checked(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A socket of any family, type and protocol.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<Socket> {
    Socket::new_raw(Domain::from(family), Type::from(kind), Some(Protocol::from(protocol)))
}

/// A socket address from its bytes, the family first; for families that socket2 does not know.
pub fn address(bytes: &[u8]) -> io::Result<SockAddr> {
    // SAFETY: at most the storage's size is copied, and the length says how much of it counts.
    let built = unsafe {
        SockAddr::try_init(|storage, length| {
            let room = (*length as usize).min(bytes.len());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), storage.cast::<u8>(), room);
            *length = room as libc::socklen_t;
            Ok(())
        })
    };
    built.map(|((), address)| address)
}

/// Ends a socket's association: `connect()` to AF_UNSPEC.
pub fn disconnect(socket: &Socket) -> io::Result<()> {
    socket.connect(&address(&[0; 16])?)
}

/// Sets an option from raw bytes.
pub fn option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as the slice has.
    let done = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    checked(done.into()).map(drop)
}

/// Data as the kernel's headers name it; for sending alone.
pub fn part(data: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() }
}

/// A header for sending one part to an address; both must outlive its use.
pub fn header(parts: &[libc::iovec; 1], to: &SockAddr) -> libc::msghdr {
    // SAFETY: all zero is a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.len();
    header.msg_iov = parts.as_ptr().cast_mut();
    header.msg_iovlen = 1;
    header
}

/// Sends one datagram twice by one `sendmmsg`.
pub fn send_many(socket: &Socket, data: &[u8], to: SocketAddr) -> io::Result<()> {
    let (to, parts) = (SockAddr::from(to), [part(data)]);
    let message = libc::mmsghdr { msg_hdr: header(&parts, &to), msg_len: 0 };
    let mut two = [message, message];
    // SAFETY: both headers point to memory that outlives the call, which only reads it.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), two.as_mut_ptr(), 2, 0) };
    checked(sent.into()).map(drop)
}

/// Moves what is in a pipe into `to`.
pub fn splice(from: &impl AsFd, to: &impl AsFd, length: usize) -> io::Result<()> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: descriptors and numbers alone.
    let moved = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), length, 0) };
    checked(moved as i64).map(drop)
}

/// Copies a file into `to`.
pub fn sendfile(file: &impl AsFd, to: &impl AsFd, length: usize) -> io::Result<()> {
    let (file, to) = (file.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: descriptors and numbers alone.
    let copied = unsafe { libc::sendfile(to, file, std::ptr::null_mut(), length) };
    checked(copied as i64).map(drop)
}

/// Attaches to a process and lets go again.
pub fn trace(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: no memory of ours is given to the kernel.
    checked(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, none, none) })?;
    let mut status = 0;
    // SAFETY: the status outlives the call.
    checked(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }.into())?;
    // SAFETY: as above.
    checked(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, none, none) }).map(drop)
}

/// Writes one byte into another process at `at`.
pub fn write_into(pid: u32, at: usize, byte: u8) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let here = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: 1 };
    // SAFETY: one byte of ours is read; the other address is of another process.
    let written = unsafe { libc::process_vm_writev(pid, &raw const here, 1, &raw const there, 1, 0) };
    checked(written as i64).map(drop)
}

/// `bpf(2)`.
pub fn bpf(command: i64, attributes: &mut [u8]) -> io::Result<i64> {
    // SAFETY: the kernel reads and writes within the length given; pointers in it are the caller's.
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len()) })
}

/// A descriptor that `bpf(2)` gave.
pub fn owned(descriptor: i64) -> io::Result<OwnedFd> {
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave it to us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Asks the kernel for a key, which may start a program outside.
pub fn request_key(description: &str) -> io::Result<i64> {
    let (kind, description) = (c"user", std::ffi::CString::new(description)?);
    // SAFETY: three strings that end in zero; -3 is the session's keyring.
    checked(unsafe { libc::syscall(libc::SYS_request_key, kind.as_ptr(), description.as_ptr(), c"".as_ptr(), -3_i64) })
}

/// Runs `work` in a child that is born in the cgroup whose directory is open; its exit code is the answer.
pub fn born_in(cgroup: &OwnedFd, work: impl FnOnce() -> i32) -> io::Result<i32> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut arguments = [0_u64; 11];
    arguments[0] = INTO_CGROUP;
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = cgroup.as_raw_fd() as u64;
    // SAFETY: without a stack of its own the child goes on here, as after fork; this program has one thread.
    let child = checked(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) })?;
    if child == 0 {
        let code = work();
        // SAFETY: ends the child without running what belongs to its parent.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: the status outlives the call.
    checked(unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, 0) }.into())?;
    Ok(libc::WEXITSTATUS(status))
}

/// The number at `at` in what the kernel answered.
pub fn number(answer: &[std::mem::MaybeUninit<u8>; 256], at: usize) -> i32 {
    // SAFETY: the array was initialised before the kernel wrote into it.
    let bytes = answer.map(|byte| unsafe { byte.assume_init() });
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, i32::from_ne_bytes)
}

/// Sets a link of the socket's network namespace up.
pub fn link_up(socket: &Socket, name: &str) -> io::Result<()> {
    const UP: u16 = 0x1;
    // struct ifreq: sixteen bytes of name, then the flags.
    let mut request = [0_u8; 40];
    for (at, byte) in request.iter_mut().zip(name.bytes()).take(15) {
        *at = byte;
    }
    request[16..18].copy_from_slice(&UP.to_ne_bytes());
    // SAFETY: the kernel reads one ifreq, which the array holds.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, request.as_ptr()) }.into()).map(drop)
}

/// Opens a software clock event of every process on the first processor.
pub fn perf_event() -> io::Result<OwnedFd> {
    // struct perf_event_attr, first version: type 1 (software), 64 bytes, config 0 (clock).
    let mut attributes = [0_u8; 64];
    attributes[0..4].copy_from_slice(&1_u32.to_ne_bytes());
    attributes[4..8].copy_from_slice(&64_u32.to_ne_bytes());
    // SAFETY: the kernel reads the 64 bytes that the size field names.
    let opened = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, 0) };
    owned(checked(opened)?)
}
