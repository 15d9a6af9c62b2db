//! The source of Rust's standard library, of exactly the compiler's release: `core` is built for the BPF target from it.
//!
//! Looked for in this order, as `agent/redirect/build.rs` does: rustup's component, `CALLGATE_RUST_SRC`, the tool cache
//! (filled from Debian's backport).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::backport;
use crate::{exec, paths};

/// rustup has no overall limit of its own; the component has 3 MB.
const RUSTUP_WITHIN: Duration = Duration::from_secs(180);

/// Makes it available; says where it is.
pub fn provide(release: &str, cache: &Path) -> Result<String> {
    let rustc = exec::output(Command::new("rustc").arg("--version"))?;
    ensure!(
        rustc.starts_with(&format!("rustc {release} ")),
        "rust-toolchain.toml names {release}, but this is {}: run `rustup toolchain install {release}`",
        rustc.trim()
    );
    if let Some(component) = component()? {
        return Ok(format!("rustup's component ({})", component.display()));
    }
    if let Some(named) = std::env::var_os("CALLGATE_RUST_SRC").map(PathBuf::from) {
        let found = is_library(&named) || is_library(&named.join("library"));
        ensure!(found, "CALLGATE_RUST_SRC={} holds no `library/core`", named.display());
        return Ok(format!("CALLGATE_RUST_SRC ({})", named.display()));
    }
    let kept = paths::library_source(cache, release);
    if is_library(&kept) {
        return Ok(format!("Debian's backport ({})", kept.display()));
    }
    let mut add = Command::new("rustup");
    add.args(["component", "add", "rust-src", "--toolchain", release]);
    let refused = match exec::run_within(&mut add, RUSTUP_WITHIN) {
        Ok(()) => match component()? {
            Some(component) => return Ok(format!("rustup's component, installed ({})", component.display())),
            None => "rustup added the component, but it is not there".to_owned(),
        },
        Err(error) => format!("{error:#}"),
    };
    println!("    rustup cannot add rust-src ({refused}); trying Debian's backport");
    backport::unpack(release, &kept)?;
    ensure!(is_library(&kept), "Debian's rust-src holds no `library/core`");
    Ok(format!("Debian's backport, unpacked ({})", kept.display()))
}

fn component() -> Result<Option<PathBuf>> {
    let sysroot = exec::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    Ok(is_library(&library).then_some(library))
}

fn is_library(folder: &Path) -> bool {
    folder.join("core/Cargo.toml").is_file() && folder.join("Cargo.lock").is_file()
}
