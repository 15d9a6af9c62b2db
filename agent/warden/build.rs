//! Compiles the kernel programs (`ebpf/warden`, C) with clang, one object a file, into `OUT_DIR`.
//!
//! `CLANG` names the compiler; unless it does, clang-19 is taken where it is installed (`cargo xtask setup` does that),
//! else `clang`. libbpf-cargo brings libbpf's headers; the kernel's types are ours (`vmlinux.h`).

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use libbpf_cargo::SkeletonBuilder;

/// The objects, as they are named in `src/parts.rs`.
const OBJECTS: [&str; 6] = ["guard", "sockets", "calls", "arrivals", "lsm", "exec"];

fn main() {
    if let Err(error) = build() {
        // One line that cargo shows as an error of this package; a panic would bury it under a backtrace.
        println!("cargo::error={}", format!("{error:#}").replace('\n', " "));
    }
}

fn build() -> Result<()> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ebpf/warden");
    println!("cargo:rerun-if-changed={}", programs.display());
    println!("cargo:rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set: this is a build script")?);
    for object in OBJECTS {
        SkeletonBuilder::new()
            .source(programs.join(format!("{object}.bpf.c")))
            .obj(out.join(format!("{object}.o")))
            .clang(compiler())
            .clang_args([OsString::from("-Wall"), OsString::from("-Werror"), OsString::from("-I"), (&programs).into()])
            .build()
            .with_context(|| format!("ebpf/warden/{object}.bpf.c does not build: run `cargo xtask setup`"))?;
    }
    Ok(())
}

fn compiler() -> PathBuf {
    if let Some(named) = env::var_os("CLANG").filter(|name| !name.is_empty()) {
        return named.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&path).map(|folder| folder.join("clang-19")).find(|file| file.is_file());
    installed.unwrap_or_else(|| "clang".into())
}
