//! Compiles the kernel programs (`ebpf/redirect`) for the BPF target, with this same compiler, into `OUT_DIR`.
//!
//! It needs two things that rustup's default profile does not bring, and says how to get them: bpf-linker, and the
//! source of the standard library (`core` is built for the BPF target). `RUSTC_BOOTSTRAP` is set here alone, so that
//! every other crate is compiled as plain stable.
#![allow(unsafe_code, reason = "a build script has one thread, so it may set its environment")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

fn main() {
    if let Err(error) = build() {
        // One line that cargo shows as an error of this package; a panic would bury it under a backtrace.
        println!("cargo::error={}", format!("{error:#}").replace('\n', " "));
    }
}

fn build() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // aya-build watches ebpf/redirect itself; a change in the shared types must rebuild the programs too.
    for path in ["ebpf/common", "rust-toolchain.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    // Not PATH: it differs between a plain cargo and one started by xtask, and would build everything again.
    for name in ["CALLGATE_CACHE", "CALLGATE_RUST_SRC"] {
        println!("cargo:rerun-if-env-changed={name}");
    }

    let release = release(&root)?;
    let cache = cache_dir();
    put_linker_on_path(cache.as_deref())?;
    if let Some(library) = library_source(&release, cache.as_deref())? {
        set("__CARGO_TESTS_ONLY_SRC_ROOT", library.as_os_str());
    }
    set("RUSTC_BOOTSTRAP", "1");
    // aya-build passes every line of the inner cargo on as a warning of this package.
    set("CARGO_TERM_QUIET", "true");
    // bpf-linker optimises across crates by itself; the host's profile must not reach the programs.
    set("CARGO_PROFILE_RELEASE_LTO", "false");
    set("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    set("CARGO_PROFILE_RELEASE_DEBUG", "2");

    let programs = Package { name: "callgate-ebpf-redirect", root_dir: "../../ebpf/redirect", ..Default::default() };
    aya_build::build_ebpf([programs], Toolchain::Custom(&release)).context("the kernel programs do not build")
}

/// The exact release that `rust-toolchain.toml` names: another rustc has another LLVM, which bpf-linker cannot read.
fn release(root: &Path) -> Result<String> {
    let path = root.join("rust-toolchain.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let channel = text.lines().find_map(|line| line.trim().strip_prefix("channel")?.split('"').nth(1));
    channel.map(str::to_owned).with_context(|| format!("{} names no channel", path.display()))
}

/// Where `cargo xtask setup` keeps its tools.
fn cache_dir() -> Option<PathBuf> {
    let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("CALLGATE_CACHE")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("callgate")))
        .or_else(|| Some(named("HOME")?.join(".cache/callgate")))
}

fn put_linker_on_path(cache: Option<&Path>) -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let ours = cache.map(|cache| cache.join("tools/bin"));
    let dirs: Vec<PathBuf> = ours.into_iter().chain(env::split_paths(&path)).collect();
    let Some(linker) = dirs.iter().map(|dir| dir.join("bpf-linker")).find(|file| file.is_file()) else {
        bail!("bpf-linker is neither in {} nor on PATH: run `cargo xtask setup`", dirs[0].display());
    };
    println!("cargo:rerun-if-changed={}", linker.display());
    set("PATH", env::join_paths(dirs).context("PATH")?);
    Ok(())
}

/// The `library` folder of the compiler's source; none when rustup's own component is there.
fn library_source(release: &str, cache: Option<&Path>) -> Result<Option<PathBuf>> {
    let rustc = env::var_os("RUSTC").context("RUSTC is not set: this is a build script")?;
    let answer = Command::new(rustc).args(["--print", "sysroot"]).output().context("rustc --print sysroot")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    let component = sysroot.join("lib/rustlib/src/rust/library");
    if is_library(&component) {
        return Ok(None);
    }
    if let Some(named) = env::var_os("CALLGATE_RUST_SRC").map(PathBuf::from) {
        let found = [named.clone(), named.join("library")].into_iter().find(|folder| is_library(folder));
        return match found {
            Some(folder) => Ok(Some(folder)),
            None => bail!("CALLGATE_RUST_SRC={} holds no `library/core`", named.display()),
        };
    }
    let kept = cache.map(|cache| cache.join("rust-src").join(release).join("library"));
    match kept {
        Some(folder) if is_library(&folder) => Ok(Some(folder)),
        kept => bail!(
            "the source of the standard library of Rust {release} is missing: not in {} (rustup's component rust-src), \
             CALLGATE_RUST_SRC is not set, not in {}: run `cargo xtask setup`",
            component.display(),
            kept.as_deref().unwrap_or(Path::new("a cache folder, as HOME is not set")).display(),
        ),
    }
}

fn is_library(folder: &Path) -> bool {
    folder.join("core/Cargo.toml").is_file() && folder.join("Cargo.lock").is_file()
}

fn set(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    // SAFETY: this process has one thread.
    unsafe { env::set_var(name, value) };
}
