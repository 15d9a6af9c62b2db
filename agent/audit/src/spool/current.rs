//! The segment that is written to: how far it is good, and how much room on the disk is set aside behind that.
//!
//! Knows bytes, not records. After a full disk it is as it was before; after any other error it must not be used.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Faults, is_full};
use super::format::Header;

/// Step in which room on the disk is set aside. Unit: bytes.
/// Source: some hundred calls, so that it costs nothing per call, and little enough to waste at the end of a segment.
const ALLOCATE_STEP: u64 = 256 * 1024;

/// A segment on disk.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub first_seq: u64,
    pub path: PathBuf,
    /// Size, once it is no longer written to. Unit: bytes.
    pub bytes: u64,
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Current {
    disk: Arc<Disk>,
    /// Good bytes in the file.
    written: u64,
    /// End of the room set aside.
    allocated: u64,
    /// Whether the file system can set room aside.
    can_allocate: bool,
}

/// Why the disk did not take something.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It is full, which may pass.
    Full,
    /// It failed at this, which does not.
    Failed(&'static str, io::Error),
}

impl Current {
    /// Goes on with a file that is good up to `written`.
    pub fn new(disk: Disk, written: u64) -> Self {
        Self { disk: Arc::new(disk), written, allocated: written, can_allocate: true }
    }

    /// Makes a segment with its header, and sets `reserve` bytes aside behind it; all of it is on disk on return.
    /// On an error there is no such segment.
    pub fn create(
        dir: &Path,
        dir_handle: &File,
        header: &Header,
        reserve: u64,
        faults: &Faults,
    ) -> io::Result<(Self, Segment)> {
        let path = dir.join(Header::file_name(header.first_seq));
        let create = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            let disk = Disk::new(file, faults.clone());
            let bytes = header.encode();
            disk.write_at(&bytes, 0)?;
            let mut current = Self::new(disk, bytes.len() as u64);
            match current.set_aside(reserve) {
                Ok(()) => {}
                Err(Trouble::Full) => return Err(io::ErrorKind::StorageFull.into()),
                Err(Trouble::Failed(_, error)) => return Err(error),
            }
            current.disk.sync()?;
            dir_handle.sync_all()?;
            Ok(current)
        };
        let current = create().inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        let bytes = current.written;
        Ok((current, Segment { first_seq: header.first_seq, path, bytes }))
    }

    /// Gives bytes to the kernel: all of them, or none.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        match self.disk.write_at(bytes, self.written) {
            Ok(()) => {
                self.written += bytes.len() as u64;
                Ok(())
            }
            Err(error) if is_full(&error) => {
                // Some of them may be in the file.
                self.disk.truncate(self.written).map_err(|error| Trouble::Failed("cutting a segment back", error))?;
                self.allocated = self.written;
                Err(Trouble::Full)
            }
            Err(error) => Err(Trouble::Failed("writing a segment", error)),
        }
    }

    /// Sees to it that `ahead` bytes more have their room on the disk, where the file system can do that.
    pub fn set_aside(&mut self, ahead: u64) -> Result<(), Trouble> {
        let exact = self.written + ahead;
        if exact <= self.allocated || !self.can_allocate {
            return Ok(());
        }
        let ample = exact.next_multiple_of(ALLOCATE_STEP);
        let allocate = |end| self.disk.allocate(self.allocated, end).map(|()| end);
        let done = allocate(ample).or_else(|error| if is_full(&error) { allocate(exact) } else { Err(error) });
        match done {
            Ok(end) => self.allocated = end,
            Err(error) if is_full(&error) => return Err(Trouble::Full),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.can_allocate = false,
            Err(error) => return Err(Trouble::Failed("setting room aside", error)),
        }
        Ok(())
    }

    /// Gives back what is set aside, once nothing more is to be appended.
    pub fn give_back(&self) {
        // If that fails it is only room.
        let _ = self.disk.truncate(self.written);
    }

    /// Good bytes in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The file, for syncing it outside of the lock.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }
}
