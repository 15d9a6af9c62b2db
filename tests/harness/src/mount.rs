//! A bpffs of a test's own, so that no test touches the pins of a running Callgate.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

/// Start of the name of each mount's directory.
const PREFIX: &str = "callgate-test-";

/// A mounted bpffs; on drop it is unmounted, which frees every pin in it.
#[derive(Debug)]
pub struct TempBpffs {
    directory: TempDir,
}

impl TempBpffs {
    /// Mounts a fresh bpffs on a temporary directory.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or in a kernel without bpffs.
    pub fn mount() -> Result<TempBpffs> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let data = CString::new("mode=0700").context("mount options")?;
        rustix::mount::mount("bpf", directory.path(), "bpf", MountFlags::empty(), data.as_c_str())
            .with_context(|| format!("mount bpffs on {}", directory.path().display()))?;
        Ok(TempBpffs { directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for TempBpffs {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(self.directory.path(), UnmountFlags::DETACH) {
            eprintln!("harness: unmount {}: {error}", self.directory.path().display());
        }
    }
}

/// Unmounts what test processes that are gone left mounted.
pub(crate) fn sweep() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for line in fs::read_to_string("/proc/mounts")?.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(path), Some("bpf")) = (words.next().map(PathBuf::from), words.next()) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if crate::tidy::is_orphan(&name, PREFIX) {
            rustix::mount::unmount(&path, UnmountFlags::DETACH)
                .with_context(|| format!("unmount {}", path.display()))?;
            fs::remove_dir(&path)?;
            removed.push(format!("mount {}", path.display()));
        }
    }
    Ok(removed)
}
