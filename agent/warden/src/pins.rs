//! Links that outlive the process: one file each, swapped without a moment in which none is attached.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use libbpf_rs::Link;

use crate::{WardenError, parts};

/// Attached, but the old link is still there.
const NEW: &str = "_new";

/// Makes the folder.
pub fn make(folder: &Path) -> Result<(), WardenError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))
}

/// Pins `link` as `name`, in place of an earlier one: for a moment both run.
pub fn put(folder: &Path, name: &str, mut link: Link) -> Result<(), WardenError> {
    let (old, new) = (folder.join(name), folder.join(format!("{name}{NEW}")));
    remove(&new)?;
    link.pin(&new).map_err(|error| failed(&new)(io::Error::other(error)))?;
    remove(&old)?;
    fs::rename(&new, &old).map_err(failed(&new))
}

/// Removes links that are not among `kept`, as an earlier agent may have had others.
pub fn keep_only(folder: &Path, kept: &[String]) -> Result<(), WardenError> {
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !kept.contains(&name) && !parts::is_map(&name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the folder with every pin in it; one that is not there is fine.
pub fn remove_all(folder: &Path) -> Result<(), WardenError> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                remove(&entry.map_err(failed(folder))?.path())?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(folder)(error)),
    }
    fs::remove_dir(folder).map_err(failed(folder))
}

fn remove(path: &Path) -> Result<(), WardenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(failed(path)),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> WardenError {
    move |source| WardenError::Pin { path: path.into(), source }
}
