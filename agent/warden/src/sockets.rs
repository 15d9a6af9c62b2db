//! Reading the iterators, and destroying what they showed.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use libbpf_rs::btf::{Btf, types};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, libbpf_sys};

use crate::diag::Diag;
use crate::kernel::{self, CLOSE, Record};
use crate::netns::Netns;
use crate::parts::{self, SOCKETS};
use crate::{Config, Means, WardenError};

/// Read at once. Unit: bytes. Source: what the kernel buffers for an iterator is 8 pages.
const BUFFER: usize = 32 * 1024;

/// The iterators, loaded.
#[derive(Debug)]
pub struct Sockets {
    tcp: OwnedFd,
    udp: OwnedFd,
    files: OwnedFd,
    doomed: MapHandle,
    means: Means,
}

impl Sockets {
    /// # Errors
    /// [`WardenError::Load`], [`WardenError::Map`].
    pub fn load(config: &Config) -> Result<Self, WardenError> {
        let loaded = SOCKETS.load(Some(config))?;
        Ok(Self {
            tcp: loaded.descriptor("tcp")?,
            udp: loaded.descriptor("udp")?,
            files: loaded.descriptor("files")?,
            doomed: parts::map(&config.pins, "DOOMED")?,
            means: config.means.unwrap_or_else(best_means),
        })
    }

    pub fn means(&self) -> Means {
        self.means
    }

    /// What enrolled tasks hold, or those of one process, that is not of an enrolled cgroup, has no hook, or is of another
    /// network namespace than the task.
    pub fn held(&self, pid: Option<u32>) -> Result<Vec<Record>, WardenError> {
        iterate(&self.files, "files", pid)
    }

    /// TCP and UDP sockets in `netns` that belong to an enrolled cgroup.
    pub fn in_netns(&self, netns: &Netns) -> Result<Vec<Record>, WardenError> {
        netns.inside(|| self.here())
    }

    /// Destroys `records`, which are sockets of `netns`; gives those back that are still there.
    pub fn destroy(&self, netns: &Netns, records: &[Record]) -> Result<Vec<Record>, WardenError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        netns.inside(|| match self.means {
            Means::Kernel => self.destroy_by_kernel(records),
            Means::Diag => destroy_by_diag(records),
        })
    }

    fn destroy_by_kernel(&self, records: &[Record]) -> Result<Vec<Record>, WardenError> {
        let failed = |source| WardenError::Map { map: "DOOMED", source };
        let one = 1_u32.to_ne_bytes();
        let mark = || -> Result<(), libbpf_rs::Error> {
            records.iter().try_for_each(|r| self.doomed.update(&r.cookie.to_ne_bytes(), &one, MapFlags::ANY))
        };
        // The second look shows what the first one did not end.
        let looked = mark().map_err(failed).and_then(|()| self.here()).and_then(|_destroyed| self.here());
        for record in records {
            // Cookies are never given again: one that stays does no harm.
            let _absent = self.doomed.delete(&record.cookie.to_ne_bytes());
        }
        let named = |left: &Record| records.iter().any(|record| record.cookie == left.cookie);
        // A datagram socket stays with its port, but without a peer.
        Ok(looked?.into_iter().filter(|left| named(left) && left.state != CLOSE).collect())
    }

    fn here(&self) -> Result<Vec<Record>, WardenError> {
        let mut records = iterate(&self.tcp, "tcp", None)?;
        records.extend(iterate(&self.udp, "udp", None)?);
        Ok(records)
    }
}

fn destroy_by_diag(records: &[Record]) -> Result<Vec<Record>, WardenError> {
    let failed = |source| WardenError::Iterator { iterator: "sock_diag", source };
    let diag = Diag::open().map_err(failed)?;
    let mut left = Vec::new();
    for record in records {
        match diag.destroy(record) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::debug!(%error, "a socket was not destroyed");
                left.push(*record);
            }
        }
    }
    Ok(left)
}

fn best_means() -> Means {
    let btf = Btf::from_vmlinux();
    let known = btf.is_ok_and(|btf| btf.type_by_name::<types::Func<'_>>("bpf_sock_destroy").is_some());
    if known { Means::Kernel } else { Means::Diag }
}

/// Everything that an iterator writes; of one process, if one is named that still is.
fn iterate(program: &OwnedFd, iterator: &'static str, pid: Option<u32>) -> Result<Vec<Record>, WardenError> {
    let failed = |source| WardenError::Iterator { iterator, source };
    let link = match link(program, pid) {
        Err(error) if pid.is_some() && error.raw_os_error() == Some(libc::ESRCH) => return Ok(Vec::new()),
        link => link.map_err(failed)?,
    };
    // SAFETY: takes a descriptor, answers with a descriptor.
    let open = unsafe { libbpf_sys::bpf_iter_create(link.as_raw_fd()) };
    if open < 0 {
        return Err(failed(io::Error::from_raw_os_error(-open)));
    }
    // SAFETY: a fresh descriptor of ours.
    let mut open = unsafe { File::from_raw_fd(open) };
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    loop {
        match open.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => bytes.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            // The kernel has looked at many sockets without showing one, and lets others run.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(bytes.chunks_exact(size_of::<Record>()).filter_map(kernel::read).collect())
}

/// A link of an iterator: libbpf-rs has no way to say which process.
fn link(program: &OwnedFd, pid: Option<u32>) -> io::Result<OwnedFd> {
    let mut about = libbpf_sys::bpf_iter_link_info::default();
    about.task.pid = pid.unwrap_or_default();
    let mut options = libbpf_sys::bpf_link_create_opts::default();
    options.sz = size_of_val(&options) as _;
    if pid.is_some() {
        options.iter_info = &raw mut about;
        options.iter_info_len = size_of_val(&about) as _;
    }
    // SAFETY: the options say their size and live across the call, as does what they point to.
    let made =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TRACE_ITER, &raw const options) };
    if made < 0 {
        return Err(io::Error::from_raw_os_error(-made));
    }
    // SAFETY: a fresh descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}
