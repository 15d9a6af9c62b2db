//! Whether a workload could have written a policy: by the file, its directory, or any directory above.
//!
//! Judged by owner and mode alone. Whatever a group may write is refused, for nobody knows a workload's groups; so
//! POSIX ACLs need no look either: their mask shows in the group's bits.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::directory::Files;

const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// Why the directory itself, or one above it, can be written by a workload.
///
/// `directory` is canonical.
pub fn of_directory(directory: &Path, workload_uids: &BTreeSet<u32>) -> Result<(), String> {
    for path in directory.ancestors() {
        let facts = path.metadata().map_err(|error| format!("`{}` cannot be looked at: {error}", path.display()))?;
        let mode = facts.mode();
        // In a sticky directory such as /tmp, others can neither rename nor remove what is not theirs; but they can
        // add to it, so that helps no directory that holds policies itself.
        let sticky = mode & STICKY != 0 && path != directory;
        let writable = mode & WRITABLE != 0 && !sticky;
        trusted(facts.uid(), writable, workload_uids)
            .map_err(|why| format!("`{}` could have been changed by a workload: {why}", path.display()))?;
    }
    Ok(())
}

/// Why one of the files can be written by a workload.
pub fn of_files(directory: &Path, files: &Files, workload_uids: &BTreeSet<u32>) -> Result<(), String> {
    for file in &files.files {
        let refused = |why: String| format!("`{}` could have been changed by a workload: {why}", file.name);
        let Some(parent) = file.path.parent().filter(|_| file.path.starts_with(directory)) else {
            return Err(refused(format!("it links out of its directory to `{}`", file.path.display())));
        };
        trusted(file.owner, file.mode & WRITABLE != 0, workload_uids).map_err(refused)?;
        if parent != directory {
            of_directory(parent, workload_uids)?;
        }
    }
    Ok(())
}

/// An owner can change the mode, so it does not matter what the mode forbids an owner.
fn trusted(owner: u32, writable: bool, workload_uids: &BTreeSet<u32>) -> Result<(), String> {
    if workload_uids.contains(&owner) {
        return Err(format!("it belongs to uid {owner}, which runs a workload"));
    }
    if workload_uids.contains(&ROOT) {
        return Err("a workload runs as root".to_owned());
    }
    if workload_uids.is_empty() && owner != ROOT {
        return Err(format!("it belongs to uid {owner}, and it is not known yet who runs workloads"));
    }
    if writable {
        return Err("users other than its owner may write it".to_owned());
    }
    Ok(())
}
