//! The shared libraries that a program loads, and the Debian packages that they are of.
//!
//! The image has Debian's merged layout (`lib` leads to `usr/lib`), and no linker cache: the linker's default folders do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::tree::Tree;
use crate::exec;

/// A Debian package that a file of the image is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
}

/// Puts what `program` loads into `tree`; the packages of it.
///
/// # Errors
/// A library cannot be found, or is of no Debian package: nobody could say what it is.
pub fn add(program: &Path, tree: &mut Tree) -> Result<BTreeSet<Package>> {
    let paths = loaded_by(program)?;
    put(&paths, tree)?;
    paths.iter().map(|path| package_of(path)).collect()
}

/// The paths of what `program` loads.
pub fn loaded_by(program: &Path) -> Result<Vec<String>> {
    let said = ldd(program)?;
    if let Some(missing) = said.lines().find(|line| is_missing(line)) {
        bail!("{} loads what is not there: {}", program.display(), missing.trim());
    }
    Ok(paths(&said))
}

/// As [`loaded_by`], without what only a program's own folder has.
pub fn loaded_from_elsewhere(library: &Path, own: &Path) -> Result<Vec<String>> {
    let mut paths = paths(&ldd(library)?);
    paths.retain(|path| !Path::new(path).starts_with(own));
    Ok(paths)
}

fn ldd(program: &Path) -> Result<String> {
    // cargo run points the linker at our own build.
    exec::output(Command::new("ldd").arg(program).env_remove("LD_LIBRARY_PATH"))
}

fn is_missing(line: &str) -> bool {
    line.contains("not found")
}

/// Puts the libraries at `paths` into `tree`, where the linker looks for them.
pub fn put(paths: &[String], tree: &mut Tree) -> Result<()> {
    for path in paths {
        tree.file(&place(path), 0o755, fs::read(path).with_context(|| format!("read {path}"))?);
    }
    tree.link("lib", "usr/lib");
    tree.link("lib64", "usr/lib64");
    Ok(())
}

/// The Debian package that the file `path` is of.
pub fn package_of(path: &str) -> Result<Package> {
    // dpkg knows a file by the path it was shipped as, which is not always the one that leads to it.
    let shipped = path.strip_prefix("/usr").filter(|rest| rest.starts_with("/lib"));
    let candidates = [Some(path.to_owned()), Some(format!("/usr{path}")), shipped.map(str::to_owned)];
    let owner = candidates.into_iter().flatten().find_map(|candidate| {
        let said = exec::output(Command::new("dpkg").args(["--search", &candidate])).ok()?;
        said.lines().find_map(|line| line.strip_suffix(&format!(": {candidate}")).map(str::to_owned))
    });
    let Some(owner) = owner else {
        bail!("`{path}` is of no Debian package; on another system use deploy/images/Dockerfile");
    };
    let format = "--showformat=${Package} ${Version} ${Architecture}";
    let said = exec::output(Command::new("dpkg-query").args(["--show", format, &owner]))?;
    match said.split(' ').collect::<Vec<_>>()[..] {
        [name, version, architecture] => {
            Ok(Package { name: name.into(), version: version.into(), architecture: architecture.into() })
        }
        _ => bail!("dpkg-query says of `{owner}`: {said}"),
    }
}

/// The files in what `ldd` printed. The vdso has none.
fn paths(said: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for line in said.lines().map(str::trim).filter(|line| !is_missing(line)) {
        let file = line.split_once(" => ").map_or(line, |(_, file)| file);
        if file.starts_with('/') {
            paths.push(file.split(" (").next().unwrap_or(file).to_owned());
        }
    }
    paths
}

/// Where `path` goes: all below `usr`.
fn place(path: &str) -> String {
    let path = path.trim_start_matches('/');
    if path.starts_with("usr/") { path.to_owned() } else { format!("usr/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ldd_prints() {
        let said = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(paths(said), ["/lib/x86_64-linux-gnu/libelf.so.1", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(paths("\tstatically linked\n").is_empty());
        assert!(is_missing("\tlibelf.so.1 => not found"));
        assert_eq!(place("/lib64/ld-linux-x86-64.so.2"), "usr/lib64/ld-linux-x86-64.so.2");
    }

    #[test]
    fn a_file_of_no_package_is_refused() {
        assert_eq!(package_of("/usr/bin/dpkg").unwrap().name, "dpkg");
        assert!(package_of("/etc/hostname-of-nobody").is_err());
    }
}
