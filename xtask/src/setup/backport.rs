//! Debian's `rust-src` of the compiler's release, from the backports suite, without touching the system's own apt state.
//!
//! apt gets lists, cache and sources of its own in a temporary folder; the mirror is the one the system already uses.
//! Only the library folder of the package is unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::exec;

/// The suite that has it: the backports for the release after Debian 12.
const SUITE: &str = "trixie-backports";
/// Debian's own keys, on systems that bring them; else apt's usual trust.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks the library folder of `release` to `to`.
pub fn unpack(release: &str, to: &Path) -> Result<()> {
    let parent = to.parent().context("a folder of the cache")?;
    let work = parent.join("apt");
    let _ = fs::remove_dir_all(&work);
    let result = fetch_and_unpack(release, &work, to);
    let _ = fs::remove_dir_all(&work);
    result.context(
        "no library source: give rustup access (`rustup component add rust-src`), or set CALLGATE_RUST_SRC to a \
         folder that holds `library` of the same release",
    )
}

fn fetch_and_unpack(release: &str, work: &Path, to: &Path) -> Result<()> {
    let mirror = mirror()?;
    for folder in ["lists/partial", "cache/archives/partial", "unpacked"] {
        fs::create_dir_all(work.join(folder))?;
    }
    let signed_by = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    fs::write(work.join("sources.list"), format!("deb {signed_by}{mirror} {SUITE} main\n"))?;
    let here = work.display();
    fs::write(
        work.join("apt.conf"),
        format!(
            "Dir::Etc::SourceList \"{here}/sources.list\";\nDir::Etc::SourceParts \"-\";\n\
             Dir::State::Lists \"{here}/lists\";\nDir::Cache \"{here}/cache\";\nAPT::Sandbox::User \"root\";\n"
        ),
    )?;
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", work.join("apt.conf")).current_dir(work);
        command
    };
    println!("    fetching the package lists of {SUITE}");
    exec::output(apt("apt-get").args(["--quiet", "update"]))?;
    let known = exec::output(apt("apt-cache").args(["madison", "rust-src"]))?;
    let version = version_of(&known, release)
        .with_context(|| format!("{SUITE} has no rust-src {release} any more; it has:\n{}", known.trim_end()))?;
    println!("    downloading rust-src {version} (45 MB)");
    exec::output(apt("apt-get").args(["--quiet", "download", &format!("rust-src={version}")]))?;
    let package = fs::read_dir(work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    println!("    unpacking its library folder");
    unpack_library(&package, release, &work.join("unpacked"))?;
    // A rename, so that a broken unpacking is never taken for the whole.
    fs::rename(work.join("unpacked/library"), to).with_context(|| format!("move to {}", to.display()))
}

fn unpack_library(package: &Path, release: &str, into: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let archive = dpkg.stdout.take().context("dpkg-deb's output is piped")?;
    let member = format!("./usr/src/rustc-{release}/library");
    let tar = Command::new("tar")
        .args(["--extract", "--strip-components=4", "--directory"])
        .arg(into)
        .arg(&member)
        .stdin(archive)
        .status()
        .context("start tar")?;
    let dpkg = dpkg.wait()?;
    ensure!(tar.success() && dpkg.success(), "{} cannot be unpacked ({dpkg}, {tar})", package.display());
    Ok(())
}

/// The version of `release` in what `apt-cache madison` printed.
fn version_of(known: &str, release: &str) -> Option<String> {
    let mut versions = known.lines().filter_map(|line| line.split('|').nth(1).map(str::trim));
    versions.find(|version| version.starts_with(&format!("{release}+"))).map(str::to_owned)
}

/// The mirror that the system's own sources name for its release.
fn mirror() -> Result<String> {
    let system = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let codename = system
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release has no VERSION_CODENAME: is this Debian or Ubuntu?")?
        .trim_matches('"');
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if let Some(mirror) = mirror_in(&text, codename) {
            return Ok(mirror);
        }
    }
    bail!("no mirror for {codename} in the system's apt sources")
}

/// The first mirror for the suite `codename` in one sources file, of either format.
fn mirror_in(text: &str, codename: &str) -> Option<String> {
    let one_line = text.lines().find_map(|line| {
        let line = line.trim().strip_prefix("deb ")?.trim_start();
        let line = if line.starts_with('[') { line.split_once(']')?.1 } else { line };
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        (words.next()? == codename).then(|| uri.to_owned())
    });
    one_line.or_else(|| {
        text.split("\n\n").find_map(|stanza| {
            let field = |name: &str| {
                let mut lines = stanza.lines().filter(|line| !line.starts_with('#'));
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
            };
            let suites = field("Suites")?.split_whitespace().any(|suite| suite == codename);
            let binary = field("Types")?.split_whitespace().any(|kind| kind == "deb");
            (suites && binary).then(|| field("URIs"))??.split_whitespace().next().map(str::to_owned)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mirror_in_both_formats() {
        let stanzas = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
                       Components: main\n\nTypes: deb\nURIs: http://security.example/\nSuites: bookworm-security\n";
        assert_eq!(mirror_in(stanzas, "bookworm").as_deref(), Some("http://mirror.example/debian"));
        let lines = "# deb http://no.example x\ndeb [arch=amd64 signed-by=/k] http://mirror.example/u noble main\n";
        assert_eq!(mirror_in(lines, "noble").as_deref(), Some("http://mirror.example/u"));
        assert_eq!(mirror_in(lines, "bookworm"), None);
    }

    #[test]
    fn takes_exactly_the_release_wanted() {
        let known =
            " rust-src | 1.96.1+dfsg1-1~bpo13+1 | http://m x\n rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m x\n";
        assert_eq!(version_of(known, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(version_of(known, "1.9"), None);
    }
}
