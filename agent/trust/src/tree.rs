//! What a mount of ours shows: a file, or a directory of files and links.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
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
        match self {
            Self::File(content, label) => {
                // Never through a link: whatever names a directory has told, nothing is written but what is new.
                let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
                file.write_all(content)?;
                if let Some(label) = label {
                    // Without SELinux there is none, and where it refuses the workload may or may not read the file.
                    let _refused =
                        rustix::fs::fsetxattr(&file, "security.selinux", label, rustix::fs::XattrFlags::empty());
                }
                file.set_permissions(fs::Permissions::from_mode(0o444))
            }
            Self::Link(text) => symlink(text, path),
            Self::Directory(entries) => {
                fs::create_dir(path)?;
                for (name, node) in entries {
                    node.write(&path.join(name))?;
                }
                fs::set_permissions(path, fs::Permissions::from_mode(0o555))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_through_a_link() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        fs::write(&outside, "theirs").unwrap();
        let twice = vec![
            ("x".into(), Node::Link(outside.clone().into_os_string())),
            ("x".into(), Node::File(b"ours".to_vec(), None)),
        ];
        assert!(Node::Directory(twice).write(&scratch.path().join("copy")).is_err());
        assert_eq!(fs::read(&outside).unwrap(), b"theirs");
    }
}
