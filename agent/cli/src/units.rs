//! The files by which systemd runs agent and collector: what they are, writing them, and knowing them again.
//!
//! They go below `/etc`, where an administrator's files belong, also where `/usr` is read-only. Each ends in a line with
//! the digest of what is above it: a file that was edited is known by it, and neither replaced nor removed, while one of
//! an older version is replaced.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// One file for systemd.
#[derive(Debug)]
pub struct Unit {
    /// Where it goes.
    pub path: &'static str,
    /// The service that it defines; none: it is for another part of systemd.
    pub service: Option<&'static str>,
    /// Whether it is the collector's alone.
    pub of_collector: bool,
    text: &'static str,
}

/// All of them.
pub const UNITS: &[Unit] = &[
    Unit {
        path: "etc/tmpfiles.d/callgate.conf",
        service: None,
        of_collector: false,
        text: include_str!("../../../deploy/systemd/tmpfiles.conf"),
    },
    Unit {
        path: "etc/sysusers.d/callgate.conf",
        service: None,
        of_collector: true,
        text: include_str!("../../../deploy/systemd/sysusers.conf"),
    },
    Unit {
        path: "etc/systemd/system/callgate-collector.service",
        service: Some("callgate-collector.service"),
        of_collector: true,
        text: include_str!("../../../deploy/systemd/callgate-collector.service"),
    },
    Unit {
        path: "etc/systemd/system/callgate-agent.service",
        service: Some("callgate-agent.service"),
        of_collector: false,
        text: include_str!("../../../deploy/systemd/callgate-agent.service"),
    },
];

/// The collector's configuration under systemd; `callgate-agent.service` takes the agent's own defaults.
pub const COLLECTOR_CONFIG: &str = include_str!("../../../deploy/systemd/collector.toml");

/// Where systemd looks for a program that a unit names without a folder, in this order.
pub const PROGRAM_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// What is in a file's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// What this version would write.
    Current,
    /// What another version wrote, or somebody copied: unedited.
    Other,
    /// What somebody edited, or something else.
    Edited,
}

const STAMP: &str = "# Written by `callgate install`; sha256 of what is above: ";

impl Unit {
    /// What `install` writes.
    #[must_use]
    pub fn stamped(&self) -> String {
        format!("{}{STAMP}{}\n", self.text, digest(self.text))
    }

    /// What is in its place below `root`.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn found(&self, root: &Path) -> Result<Found> {
        let path = self.below(root);
        let there = match fs::read_to_string(&path) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        Ok(if there == self.stamped() {
            Found::Current
        } else if there == self.text || is_unedited(&there) {
            Found::Other
        } else {
            Found::Edited
        })
    }

    /// Its path below `root`.
    #[must_use]
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(self.path)
    }
}

/// Writes a file that everybody may read, whole or not at all; its folder is made where it is missing.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

fn is_unedited(text: &str) -> bool {
    text.rsplit_once(STAMP).is_some_and(|(above, stamp)| stamp.trim_end() == digest(above))
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_file_is_known_and_one_of_another_version_is_not_edited() {
        let root = tempfile::tempdir().unwrap();
        let unit = &UNITS[0];
        let path = unit.below(root.path());
        assert_eq!(unit.found(root.path()).unwrap(), Found::Nothing);
        write(&path, &unit.stamped()).unwrap();
        assert_eq!(unit.found(root.path()).unwrap(), Found::Current);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        fs::write(&path, unit.text).unwrap();
        assert_eq!(unit.found(root.path()).unwrap(), Found::Other, "copied by hand");
        let old = "d /run/callgate 0755 root root -\n";
        fs::write(&path, format!("{old}{STAMP}{}\n", digest(old))).unwrap();
        assert_eq!(unit.found(root.path()).unwrap(), Found::Other, "an older version's");
        for edited in [unit.stamped().replace("0755", "0777"), unit.stamped() + "x\n", "mine\n".to_owned()] {
            fs::write(&path, edited).unwrap();
            assert_eq!(unit.found(root.path()).unwrap(), Found::Edited);
        }
    }
}
