//! Naming a network namespace, and working inside of it.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use callgate_model::NetnsCookie;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use socket2::{Domain, Socket, Type};

use crate::RedirectError;

/// An open network namespace: kept alive by this, whatever becomes of the process that it was found by.
#[derive(Debug)]
pub struct NetnsRef {
    file: File,
    name: String,
    own: bool,
}

impl NetnsRef {
    /// The namespace of process `pid`.
    ///
    /// # Errors
    /// [`RedirectError::Netns`] when the process is gone or may not be looked at.
    pub fn of_pid(pid: u32) -> Result<Self, RedirectError> {
        Self::at(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace of this process.
    ///
    /// # Errors
    /// [`RedirectError::Netns`] when `/proc` is missing.
    pub fn current() -> Result<Self, RedirectError> {
        Self::at(Path::new("/proc/self/ns/net"))
    }

    /// The namespace that a file stands for: `/proc/PID/ns/net`, `/run/netns/NAME`.
    ///
    /// # Errors
    /// [`RedirectError::Netns`].
    pub fn at(path: &Path) -> Result<Self, RedirectError> {
        let name = path.display().to_string();
        let open = || {
            let file = File::open(path)?;
            let own = is_own(&file)?;
            Ok((file, own))
        };
        let opened: io::Result<(File, bool)> = open();
        let (file, own) = opened.map_err(|source| RedirectError::Netns { netns: name.clone(), source })?;
        Ok(Self { file, name, own })
    }

    /// The namespace that `file` was opened for.
    ///
    /// # Errors
    /// [`RedirectError::Netns`] when it cannot be looked at.
    pub fn of_file(file: File) -> Result<Self, RedirectError> {
        let name = "a namespace that was handed over".to_owned();
        let own = is_own(&file).map_err(|source| RedirectError::Netns { netns: name.clone(), source })?;
        Ok(Self { file, name, own })
    }

    /// What it is open by.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The cookie, by which kernel and agent know the namespace.
    ///
    /// # Errors
    /// [`RedirectError::Netns`] when it cannot be entered.
    pub fn cookie(&self) -> Result<NetnsCookie, RedirectError> {
        let read = || cookie_of(&Socket::new(Domain::UNIX, Type::DGRAM, None)?);
        if self.is_own() {
            return read().map_err(|source| self.failed(source));
        }
        // A thread of its own, which ends here: the namespace of a pooled thread must never change.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                read()
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })
        .map_err(|source| self.failed(source))
    }

    /// Whether a socket was made in it.
    ///
    /// # Errors
    /// As [`NetnsRef::cookie`]; or it is no socket.
    pub fn holds(&self, socket: &impl AsRawFd) -> Result<bool, RedirectError> {
        Ok(cookie_of(socket).map_err(|source| self.failed(source))? == self.cookie()?)
    }

    /// Whether it is this process's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// As it was named.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into it, for good.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(move_into_thread_name_spaces(self.file.as_fd(), ThreadNameSpaceType::NETWORK)?)
    }

    pub(crate) fn failed(&self, source: io::Error) -> RedirectError {
        RedirectError::Netns { netns: self.name.clone(), source }
    }

    /// Another reference to it.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, name: self.name.clone(), own: self.own })
    }
}

/// Whether `file` is the namespace of this process.
fn is_own(file: &File) -> io::Result<bool> {
    let (this, own) = (file.metadata()?, Path::new("/proc/self/ns/net").metadata()?);
    Ok((this.dev(), this.ino()) == (own.dev(), own.ino()))
}

/// `SO_NETNS_COOKIE` of a socket.
pub(crate) fn cookie_of(socket: &impl AsRawFd) -> io::Result<NetnsCookie> {
    /// Source: asm-generic/socket.h; since Linux 5.14.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = MaybeUninit::<u64>::uninit();
    let mut len: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `len` = 8 bytes to `cookie`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            cookie.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done != 0 || len != 8 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written all 8 bytes.
    Ok(NetnsCookie(unsafe { cookie.assume_init() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_namespace_has_one_cookie() {
        let (a, b) = (NetnsRef::current().unwrap(), NetnsRef::of_pid(std::process::id()).unwrap());
        assert!(a.is_own() && b.is_own());
        assert_eq!(a.cookie().unwrap(), b.cookie().unwrap());
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(a.holds(&socket).unwrap());
    }

    #[test]
    fn a_missing_process_is_named_in_the_error() {
        let error = NetnsRef::of_pid(u32::MAX).unwrap_err();
        assert!(error.to_string().contains("/proc/4294967295/ns/net"), "{error}");
    }
}
