//! What a mount of ours shows: a file, or a directory of files and links.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// One of them. Written once, then read-only.
#[derive(Debug)]
pub(crate) enum Node {
    /// A file, and its label of SELinux.
    File(Vec<u8>, Option<Vec<u8>>),
    /// A symbolic link with its text, which whoever follows it resolves.
    Link(OsString),
    /// A directory with its entries.
    Directory(Vec<(OsString, Node)>),
}

impl Node {
    /// Writes it at `path`, where nothing is yet; everybody may read it.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let allow = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        match self {
            Self::File(content, label) => {
                fs::write(path, content)?;
                if let Some(label) = label {
                    // Without SELinux there is none, and where it refuses the workload may or may not read the file.
                    let _refused =
                        rustix::fs::setxattr(path, "security.selinux", label, rustix::fs::XattrFlags::empty());
                }
                allow(0o444)
            }
            Self::Link(text) => symlink(text, path),
            Self::Directory(entries) => {
                fs::create_dir(path)?;
                for (name, node) in entries {
                    node.write(&path.join(name))?;
                }
                allow(0o555)
            }
        }
    }

    /// Bytes of content.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::File(content, _) => content.len(),
            Self::Link(text) => text.len(),
            Self::Directory(entries) => entries.iter().map(|(name, node)| name.len() + node.size()).sum(),
        }
    }
}
