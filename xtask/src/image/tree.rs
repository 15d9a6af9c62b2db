//! What an image holds: paths in order, with mode and owner. Times are not kept, all are the commit's.

use std::collections::BTreeMap;

/// Paths from the root, without a leading slash.
#[derive(Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// What is at one path.
pub struct Entry {
    /// The nine bits, and sticky.
    pub mode: u32,
    /// User and group.
    pub owner: u32,
    pub content: Content,
}

pub enum Content {
    Folder,
    File(Vec<u8>),
    /// Where it leads to.
    Link(String),
}

impl Tree {
    /// A folder, and those above it.
    pub fn folder(&mut self, path: &str, mode: u32, owner: u32) {
        self.put(path, Entry { mode, owner, content: Content::Folder });
    }

    /// A file of root's, and the folders above it.
    pub fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.put(path, Entry { mode, owner: 0, content: Content::File(bytes) });
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.put(path, Entry { mode: 0o777, owner: 0, content: Content::Link(to.to_owned()) });
    }

    /// Everything, folders before what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The bytes of the file at `path`.
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        match &self.entries.get(path)?.content {
            Content::File(bytes) => Some(bytes),
            Content::Folder | Content::Link(_) => None,
        }
    }

    fn put(&mut self, path: &str, entry: Entry) {
        for (at, _) in path.match_indices('/') {
            let folder = || Entry { mode: 0o755, owner: 0, content: Content::Folder };
            self.entries.entry(path[..at].to_owned()).or_insert_with(folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }
}
