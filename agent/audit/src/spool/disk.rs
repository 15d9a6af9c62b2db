//! One segment file being written: positioned writes, sync, room set aside.
//!
//! All that the spool asks of a disk while it runs goes through here, so that tests can make it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// A segment file open for writing.
#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    #[cfg_attr(not(test), expect(dead_code, reason = "faults are injected by tests only"))]
    faults: Faults,
}

impl Disk {
    pub fn new(file: File, faults: Faults) -> Self {
        Self { file, faults }
    }

    /// Writes all of `bytes` at `offset`. After an error some of them may be in the file.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some((room, error)) = self.faults.write(bytes.len()) {
            self.file.write_all_at(&bytes[..room], offset)?;
            return Err(error);
        }
        self.file.write_all_at(bytes, offset)
    }

    /// Brings data and size to the disk.
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.sync()?;
        self.file.sync_data()
    }

    /// Cuts the file to `len`, and gives back the room set aside behind it.
    pub fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Sets aside room on the disk for bytes `from..to` without changing the file's size.
    ///
    /// Where the file system cannot do that, says so with [`io::ErrorKind::Unsupported`].
    pub fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.allocate(from, to)?;
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, to - from) {
            Err(Errno::NOSYS | Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }
}

/// Whether an error says that the disk is full: the one error that passes by itself.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(not(test))]
pub(crate) use none::Faults;
#[cfg(test)]
pub(crate) use plan::Faults;

#[cfg(not(test))]
mod none {
    /// No faults: real disks have their own.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Faults(());
}

#[cfg(test)]
mod plan {
    //! Faults on demand.

    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    /// What goes wrong; clones share it.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Faults(Arc<Plan>);

    #[derive(Debug, Default)]
    struct Plan {
        /// Whether the disk has `room` bytes left and no more.
        full: AtomicBool,
        room: AtomicUsize,
        sync_fails: AtomicBool,
        write_fails: AtomicBool,
        /// Whether room cannot be set aside, as on file systems without `fallocate`.
        no_allocate: AtomicBool,
    }

    impl Faults {
        /// From now on the disk takes `room` bytes; none: as many as it has.
        pub fn set_room(&self, room: Option<usize>) {
            self.0.room.store(room.unwrap_or(0), SeqCst);
            self.0.full.store(room.is_some(), SeqCst);
        }

        pub fn fail_sync(&self) {
            self.0.sync_fails.store(true, SeqCst);
        }

        pub fn fail_write(&self) {
            self.0.write_fails.store(true, SeqCst);
        }

        pub fn no_allocate(&self) {
            self.0.no_allocate.store(true, SeqCst);
        }

        pub(super) fn write(&self, len: usize) -> Option<(usize, io::Error)> {
            if self.0.write_fails.load(SeqCst) {
                return Some((len / 2, io::Error::from_raw_os_error(5)));
            }
            // With `fallocate` the room was taken when it was set aside.
            if !self.0.full.load(SeqCst) || !self.0.no_allocate.load(SeqCst) {
                return None;
            }
            let room = self.0.room.load(SeqCst);
            self.0.room.store(room.saturating_sub(len), SeqCst);
            (len > room).then(|| (room, io::ErrorKind::StorageFull.into()))
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            if self.0.sync_fails.load(SeqCst) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        }

        pub(super) fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
            if self.0.no_allocate.load(SeqCst) {
                return Err(io::ErrorKind::Unsupported.into());
            }
            if self.0.full.load(SeqCst) {
                let (len, room) = ((to - from) as usize, self.0.room.load(SeqCst));
                if len > room {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.room.store(room - len, SeqCst);
            }
            Ok(())
        }
    }
}
