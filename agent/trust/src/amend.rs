//! Looks at every place of the table in one container, and makes what is to be mounted there.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use rustix::fs::FileType;

use crate::pem::{self, Bundle};
use crate::places::{Kind, PACKAGES, SEARCHED, SYSTEM};
use crate::root::{Links, Root, Target};
use crate::tree::Node;
use crate::{Ca, java};

/// Most entries of a directory of certificates, and bytes in it. Source: ours; Debian's has 290 and 450 KiB.
const ENTRIES_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;
/// Most bytes that are read in one container. Source: ours; all CA files of an image with Java and Python have 2 MiB.
const READ_MAX: u64 = 64 << 20;
/// Most bytes in all copies of one container. Source: ours; all stores of an image with Java and Python have 1 MiB.
const TOTAL_MAX: usize = 8 << 20;
/// Most entries of a directory that is searched for a name, and most paths that a search leads to.
const NAMES_MAX: usize = 1_024;
const PATHS_MAX: usize = 512;
/// Most mounts in one container.
const AMENDMENTS_MAX: usize = 64;

/// What is to be mounted where.
#[derive(Debug)]
pub(crate) struct Amendment {
    pub path: String,
    pub target: Target,
    pub node: Node,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub amendments: Vec<Amendment>,
    /// Where our CA is already.
    pub already: Vec<String>,
    /// Bytes of all amendments.
    bytes: usize,
    /// Bytes that may still be read: a workload may have any number of files that are looked at in vain.
    unread: u64,
    /// Mount, device and inode of what was looked at: two paths may lead to one file.
    seen: BTreeSet<(u64, u64, u64)>,
}

/// Looks at everything below `root`.
pub(crate) fn look(root: &Root, ca: &Ca) -> Looked {
    let mut looked = Looked { unread: READ_MAX, ..Looked::default() };
    for (path, kind) in SYSTEM {
        looked.at(root, path, *kind, Links::Follow, ca);
    }
    for (pattern, kind) in SEARCHED {
        for path in paths(root, pattern) {
            looked.at(root, &path, *kind, Links::Refuse, ca);
        }
    }
    looked
}

impl Looked {
    fn at(&mut self, root: &Root, path: &str, kind: Kind, links: Links, ca: &Ca) {
        let Some(target) = root.find(path, links) else { return };
        if self.amendments.len() == AMENDMENTS_MAX || self.seen.contains(&target.id) {
            return;
        }
        let made = match kind {
            Kind::Hashed => self.hashed(&target, ca),
            Kind::Pem | Kind::Java => file(&target, kind, ca, &mut self.unread),
        };
        match made {
            Some(Made::Amended) => self.already.push(path.to_owned()),
            // The memory of the copies is the agent's, not the container's.
            Some(Made::Amend(node)) if self.bytes + node.size() <= TOTAL_MAX => {
                self.bytes += node.size();
                self.seen.insert(target.id);
                self.amendments.push(Amendment { path: path.to_owned(), target, node });
            }
            Some(Made::Amend(_)) | None => {}
        }
    }

    /// A copy of a directory of certificates, with ours; none if anything else is in it, which a mount would hide.
    fn hashed(&mut self, target: &Target, ca: &Ca) -> Option<Made> {
        let mut nodes: Vec<(OsString, Node)> = Vec::new();
        let (mut seen, mut bytes) = (BTreeSet::new(), 0);
        let names = target.names(ENTRIES_MAX)?;
        for (name, kind) in &names {
            let text = name.to_str()?;
            let node = match kind {
                FileType::Symlink => Node::Link(target.link(text)?),
                FileType::RegularFile => {
                    let entry = target.entry(text)?;
                    seen.insert(entry.id);
                    match certificates(&entry, ca, &mut self.unread)? {
                        Made::Amended => return Some(Made::Amended),
                        Made::Amend(node) => node,
                    }
                }
                FileType::Directory if text == "java" => {
                    let java = target.entry(text)?;
                    let only = java.names(1)?;
                    let cacerts = java.entry(only.first()?.0.to_str().filter(|name| *name == "cacerts")?)?;
                    seen.insert(cacerts.id);
                    let Made::Amend(store) = file(&cacerts, Kind::Java, ca, &mut self.unread)? else { return None };
                    Node::Directory(vec![("cacerts".into(), store)])
                }
                _ => return None,
            };
            bytes += node.size();
            if bytes > BYTES_MAX {
                return None;
            }
            nodes.push((name.clone(), node));
        }
        if nodes.is_empty() {
            return None;
        }
        // OpenSSL counts up as long as there is a file.
        let stem = ca.link().trim_end_matches('0');
        let free = (0..)
            .map(|n| OsString::from(format!("{stem}{n}")))
            .find(|link| names.iter().all(|(name, _)| name != link))?;
        nodes.push((free, Node::File(ca.pem().as_bytes().to_vec(), None)));
        self.seen.append(&mut seen);
        Some(Made::Amend(Node::Directory(nodes)))
    }
}

enum Made {
    Amended,
    Amend(Node),
}

fn file(target: &Target, kind: Kind, ca: &Ca, unread: &mut u64) -> Option<Made> {
    let content = target.read(unread)?;
    let bundle = if kind == Kind::Java { java::amend(&content.bytes, ca) } else { pem::amend(&content.bytes, ca) };
    match bundle {
        Bundle::Amended => Some(Made::Amended),
        Bundle::Amend(bytes) => Some(Made::Amend(Node::File(bytes, content.label))),
        Bundle::Other => None,
    }
}

/// A file in a directory of certificates: one certificate as it is, or a bundle with ours.
fn certificates(target: &Target, ca: &Ca, unread: &mut u64) -> Option<Made> {
    let content = target.read(unread)?;
    let own = pem::certificates(&content.bytes)?;
    if own.contains(ca.der()) {
        return Some(Made::Amended);
    }
    let ours = if own.len() > 1 { ca.pem() } else { "" };
    Some(Made::Amend(Node::File((ours.to_owned() + &pem::text(&own)).into_bytes(), content.label)))
}

/// The paths that a pattern of the table leads to.
fn paths(root: &Root, pattern: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for part in pattern.split('/').skip(1) {
        let next = match part.strip_suffix('*') {
            Some(prefix) => all.iter().flat_map(|parent| below(root, parent, prefix)).take(PATHS_MAX).collect(),
            None if part == "PACKAGE" => {
                all.iter().flat_map(|parent| PACKAGES.iter().map(move |one| format!("{parent}/{one}"))).collect()
            }
            None => all.into_iter().map(|parent| format!("{parent}/{part}")).collect(),
        };
        all = next;
    }
    all
}

/// Directories in `parent` whose name begins with `prefix`.
fn below(root: &Root, parent: &str, prefix: &str) -> Vec<String> {
    let names = root.find(parent, Links::Refuse).and_then(|target| target.names(NAMES_MAX)).unwrap_or_default();
    let fit = |name: &OsStr| Some(name.to_str()?.to_owned()).filter(|name| name.starts_with(prefix));
    let directories = names.iter().filter(|(_, kind)| *kind == FileType::Directory);
    directories.filter_map(|(name, _)| fit(name)).map(|name| format!("{parent}/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::ca::tests::made;

    struct Container(tempfile::TempDir);

    impl Container {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn at(&self, path: &str) -> std::path::PathBuf {
            self.0.path().join(path)
        }

        fn put(&self, path: &str, content: &str) {
            fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            fs::write(self.at(path), content).unwrap();
        }

        fn look(&self, ca: &Ca) -> Vec<String> {
            let root = Root::new(fs::File::open(self.0.path()).unwrap().into());
            look(&root, ca).amendments.into_iter().map(|one| one.path).collect()
        }

        fn written(&self, ca: &Ca, into: &Path) -> Looked {
            let root = Root::new(fs::File::open(self.0.path()).unwrap().into());
            let looked = look(&root, ca);
            for (n, one) in looked.amendments.iter().enumerate() {
                one.node.write(&into.join(n.to_string())).unwrap();
            }
            looked
        }
    }

    #[test]
    fn a_directory_is_copied_with_ours_and_its_files_are_not_mounted_again() {
        let (ca, a, b) = (made("ours"), made("a"), made("b"));
        let (container, copy) = (Container::new(), tempfile::tempdir().unwrap());
        container.put("etc/ssl/certs/ca-certificates.crt", &format!("{}{}", a.pem(), b.pem()));
        container.put("etc/ssl/certs/one.pem", a.pem());
        symlink("one.pem", container.at(&format!("etc/ssl/certs/{}", a.link()))).unwrap();
        symlink("one.pem", container.at(&format!("etc/ssl/certs/{}", ca.link()))).unwrap();
        symlink("certs/ca-certificates.crt", container.at("etc/ssl/cert.pem")).unwrap();
        let looked = container.written(&ca, copy.path());
        let paths: Vec<_> = looked.amendments.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["/etc/ssl/certs"]);
        let read = |name: &str| fs::read_to_string(copy.path().join("0").join(name)).unwrap();
        assert_eq!(read("ca-certificates.crt"), format!("{}{}{}", ca.pem(), a.pem(), b.pem()));
        assert_eq!(read(a.link()), a.pem());
        assert_eq!(read(&ca.link().replace(".0", ".1")), ca.pem(), "the name was taken");
        // What was mounted is not looked at as something to amend.
        container.put("etc/ssl/certs/ca-certificates.crt", &read("ca-certificates.crt"));
        assert_eq!(container.look(&ca), [""; 0]);
    }

    #[test]
    fn where_a_directory_holds_more_than_certificates_its_bundle_alone_is_mounted() {
        let (ca, container) = (made("ours"), Container::new());
        container.put("etc/ssl/certs/ca-certificates.crt", made("a").pem());
        container.put("etc/ssl/certs/app.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        assert_eq!(container.look(&ca), ["/etc/ssl/certs/ca-certificates.crt"]);
    }

    #[test]
    fn packages_are_found_but_not_behind_links() {
        let (ca, container) = (made("ours"), Container::new());
        let own = made("a").pem().to_owned();
        container.put("usr/local/lib/python3.12/site-packages/certifi/cacert.pem", &own);
        container.put("usr/lib/jvm/java-9/lib/security/cacerts", "no store");
        container.put("home/me/clients.pem", &own);
        fs::create_dir_all(container.at("app/.venv/lib/python3.9/site-packages/certifi")).unwrap();
        let link = container.at("app/.venv/lib/python3.9/site-packages/certifi/cacert.pem");
        symlink("/home/me/clients.pem", link).unwrap();
        symlink("/usr/local", container.at("venv")).unwrap();
        assert_eq!(container.look(&ca), ["/usr/local/lib/python3.12/site-packages/certifi/cacert.pem"]);
    }

    #[test]
    fn no_more_is_read_than_ca_files_have_together() {
        let (ca, container) = (made("ours"), Container::new());
        let small = format!("{}{}", made("a").pem(), "#".repeat(crate::root::FILE_MAX as usize - 4096));
        // Each is a bundle, and small as a copy.
        for n in 0..20 {
            container.put(&format!("etc/ssl/certs/{n}.pem"), &small);
        }
        assert_eq!(container.look(&ca), [""; 0]);
        container.put("etc/ssl/certs/ca-certificates.crt", made("a").pem());
        for n in 16..20 {
            fs::remove_file(container.at(&format!("etc/ssl/certs/{n}.pem"))).unwrap();
        }
        assert_eq!(container.look(&ca), ["/etc/ssl/certs"]);
    }

    #[test]
    fn nothing_hostile_is_amended() {
        let ca = made("ours");
        let hostile: [fn(&Container); 6] = [
            |c| symlink("/proc", c.at("etc/ssl")).unwrap(),
            |c| symlink("/proc/self/root/etc/ssl", c.at("etc/ssl")).unwrap(),
            |c| symlink("../../../../../../../etc/ssl", c.at("etc/ssl")).unwrap(),
            |c| c.put("etc/ssl/certs/ca-certificates.crt", "root:$6$secret:1:0:99999:7:::\n"),
            |c| {
                fs::create_dir_all(c.at("etc/ssl/certs")).unwrap();
                let at = c.at("etc/ssl/certs/ca-certificates.crt");
                rustix::fs::mknodat(rustix::fs::CWD, at, FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
            },
            |c| {
                c.put("etc/ssl/certs/ca-certificates.crt", "");
                let file = fs::File::options().write(true).open(c.at("etc/ssl/certs/ca-certificates.crt")).unwrap();
                file.set_len(crate::root::FILE_MAX + 1).unwrap();
            },
        ];
        for (n, set) in hostile.iter().enumerate() {
            let container = Container::new();
            fs::create_dir(container.at("etc")).unwrap();
            set(&container);
            assert_eq!(container.look(&ca), [""; 0], "{n}");
        }
    }
}
