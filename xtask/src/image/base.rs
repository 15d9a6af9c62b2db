//! What every image has beside its programs: CA roots, users, the order of name lookups, licences of the libraries.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::libraries::{Package, package_of};
use super::tree::Tree;

/// The roots as Debian's package brings them: what an administrator of the building machine trusts beside them stays there.
const ROOTS: &str = "/usr/share/ca-certificates/mozilla";

/// Where they are in the image.
pub const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
/// glibc has these two built in.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Puts it into `tree`; the packages that it is of.
pub fn fill(tree: &mut Tree) -> Result<BTreeSet<Package>> {
    tree.file("etc/passwd", 0o644, PASSWD.into());
    tree.file("etc/group", 0o644, GROUP.into());
    tree.file("etc/nsswitch.conf", 0o644, NSSWITCH.into());
    tree.folder("etc/callgate", 0o755, 0);
    tree.folder("tmp", 0o1777, 0);
    // What container runtimes mount over.
    for folder in ["dev", "proc", "sys"] {
        tree.folder(folder, 0o755, 0);
    }

    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(ROOTS).with_context(|| format!("{ROOTS}: install ca-certificates"))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "crt"));
    files.sort();
    let mut bundle = Vec::new();
    let mut packages = BTreeSet::new();
    for file in &files {
        bundle.extend(fs::read(file)?);
        bundle.push(b'\n');
    }
    ensure!(!bundle.is_empty(), "{ROOTS} holds no certificate");
    tree.file(BUNDLE, 0o644, bundle);
    packages.insert(package_of(&files[0].to_string_lossy())?);
    Ok(packages)
}

/// What the licences of the copied files demand: that they go with them.
pub fn add_licences(packages: &BTreeSet<Package>, tree: &mut Tree) -> Result<()> {
    for Package { name, .. } in packages {
        let path = format!("usr/share/doc/{name}/copyright");
        let bytes = fs::read(format!("/{path}")).with_context(|| format!("the licence of {name}"))?;
        tree.file(&path, 0o644, bytes);
    }
    Ok(())
}
