//! Reads a directory of policies, within bounds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// Most bytes of one file. Unit: bytes. Room for ten thousand policies.
pub const FILE_MAX: u64 = 4 << 20;
/// Most files.
pub const FILES_MAX: usize = 1_000;
/// Most bytes of all files together. Unit: bytes.
pub const TOTAL_MAX: u64 = 16 << 20;

/// The `*.cedar` files of one directory, sorted by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    pub(super) files: Vec<PolicyFile>,
}

/// One file and who can write it, both of the same open descriptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PolicyFile {
    pub(super) name: String,
    pub(super) text: String,
    /// Where it is once links are followed.
    pub(super) path: PathBuf,
    pub(super) owner: u32,
    pub(super) mode: u32,
}

impl Files {
    /// Pairs of file name and text, as the parser takes them.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, String)> {
        self.files.iter().map(|file| (file.name.clone(), file.text.clone())).collect()
    }

    /// Number of files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether names and texts are those of `other`, whoever may write them.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&PolicyFile, &PolicyFile)| a.name == b.name && a.text == b.text;
        self.len() == other.len() && self.files.iter().zip(&other.files).all(same)
    }
}

/// Reads the `*.cedar` files in `directory` itself; hidden files and folders below it are left out.
///
/// # Errors
/// It cannot be read, a file is no regular file or not UTF-8, or a bound is exceeded.
pub fn read(directory: &Path) -> Result<Files> {
    let cannot_read = || format!("cannot read the policies in `{}`", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot_read)? {
        let path = entry.with_context(cannot_read)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "cedar") && !hidden {
            ensure!(names.len() < FILES_MAX, "`{}` holds more than {FILES_MAX} policy files", directory.display());
            names.push(path);
        }
    }
    names.sort();
    let mut files = Vec::new();
    let mut total = 0;
    for path in names {
        let file = match read_file(&path) {
            Ok(file) => file,
            // Removed since the directory was listed.
            Err(_) if is_gone(&path) => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the policies in `{}`", path.display()));
            }
        };
        total += file.text.len() as u64;
        ensure!(total <= TOTAL_MAX, "the policies in `{}` are over {TOTAL_MAX} bytes", directory.display());
        files.push(file);
    }
    Ok(Files { files })
}

/// Whether the name itself is gone; a link to nothing is there, and an error.
fn is_gone(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn read_file(path: &Path) -> Result<PolicyFile> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { bail!("the name is not UTF-8") };
    let mut text = String::new();
    // A FIFO must not hold us up before we can see that it is one.
    let file: File =
        OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)?;
    let facts = file.metadata()?;
    ensure!(facts.is_file(), "it is not a regular file");
    let length = file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => anyhow::anyhow!("it is not UTF-8"),
        _ => error.into(),
    })?;
    ensure!(length as u64 <= FILE_MAX, "it is over {FILE_MAX} bytes");
    Ok(PolicyFile { name: name.to_owned(), text, path: path.canonicalize()?, owner: facts.uid(), mode: facts.mode() })
}
