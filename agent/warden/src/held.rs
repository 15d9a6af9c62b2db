//! A descriptor of another process: taken to learn what it is, and its process ended when it must not be used.
//!
//! A process and its descriptors change under our eyes: whatever is taken is compared by the socket's cookie before
//! anything is done.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use rustix::net::sockopt::socket_cookie;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};

use crate::kernel::Record;
use crate::netns::Netns;

/// Asks a socket for its network namespace. Source: uapi/linux/sockios.h.
const SIOCGSKNS: libc::Ioctl = 0x894c;

/// A socket in the hands of a process.
#[derive(Debug)]
pub struct Held {
    process: OwnedFd,
    socket: OwnedFd,
}

impl Held {
    /// # Errors
    /// The kernel's; `NotFound` when the descriptor is another one by now.
    pub fn of(record: &Record) -> io::Result<Self> {
        let pid = i32::try_from(record.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let socket = pidfd_getfd(&process, record.fd.cast_signed(), PidfdGetfdFlags::empty())?;
        if socket_cookie(&socket)? != record.cookie {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { process, socket })
    }

    /// The socket's network namespace.
    pub fn netns(&self) -> io::Result<Netns> {
        // SAFETY: takes no argument and answers with a descriptor.
        let netns = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCGSKNS) };
        if netns < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor of ours.
        Netns::of(unsafe { OwnedFd::from_raw_fd(netns) })
    }

    /// Ends the process.
    pub fn end(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.process, Signal::KILL)?)
    }
}

/// The network namespace of a socket that a process holds.
pub fn netns_of(record: &Record) -> io::Result<Netns> {
    let process = Netns::at(Path::new(&format!("/proc/{}/ns/net", record.pid)))?;
    if process.inode() == u64::from(record.netns) {
        return Ok(process);
    }
    Held::of(record)?.netns()
}
