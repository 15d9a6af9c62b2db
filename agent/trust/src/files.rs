//! What a node shows of its CA: `ca.pem`, `bundle.pem` and `truststore.p12`, in a directory that pods mount read-only.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::TrustError;

/// The files, written. They stay when this is dropped: pods have them open.
#[derive(Debug)]
pub struct NodeFiles {
    directory: PathBuf,
}

impl NodeFiles {
    /// The CA alone.
    pub const CA: &'static str = "ca.pem";
    /// The CA, then the node's own roots.
    pub const BUNDLE: &'static str = "bundle.pem";
    /// The same for Java, PKCS#12, under [`PASSWORD`](crate::variables::PASSWORD).
    pub const STORE: &'static str = "truststore.p12";

    /// Writes them into `directory`, readable by everybody: a reader finds a whole file at any time, and the same file
    /// where nothing changed.
    ///
    /// # Errors
    /// [`TrustError::File`].
    pub fn write(directory: &Path, ca: &str, bundle: &str, store: &[u8]) -> Result<Self, TrustError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| TrustError::File { path, source }
        };
        // Set apart from creation, which the umask would narrow.
        fs::create_dir_all(directory).and_then(|()| allow(directory, 0o755)).map_err(failed(directory))?;
        for (name, content) in [(Self::CA, ca.as_bytes()), (Self::BUNDLE, bundle.as_bytes()), (Self::STORE, store)] {
            let path = directory.join(name);
            publish(&path, content).map_err(failed(&path))?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn publish(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return allow(path, 0o644);
    }
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    allow(&new, 0o644)?;
    fs::rename(&new, path)
}

fn allow(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn everybody_can_read_them_and_what_is_the_same_stays_the_same_file() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("trust");
        let inode = |name: &str| fs::metadata(directory.join(name)).unwrap().ino();
        NodeFiles::write(&directory, "ca", "bundle", b"store").unwrap();
        let before = inode(NodeFiles::BUNDLE);
        fs::set_permissions(directory.join(NodeFiles::CA), fs::Permissions::from_mode(0o600)).unwrap();
        let files = NodeFiles::write(&directory, "ca", "bundle", b"other store").unwrap();
        assert_eq!(inode(NodeFiles::BUNDLE), before);
        assert_eq!(fs::read(files.directory().join(NodeFiles::STORE)).unwrap(), b"other store");
        for entry in fs::read_dir(&directory).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o644);
        }
    }
}
