//! Where things are: the repository and the tool cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of the repository. `cargo run` says where this package lies; nothing is compiled in.
pub fn repository() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("start this with `cargo xtask`")?;
    let root = Path::new(&package).parent().context("xtask lies in the repository")?;
    Ok(root.to_owned())
}

/// The tool cache: `CALLGATE_CACHE`, else `callgate` in the user's cache folder. `agent/redirect/build.rs` looks there too.
pub fn cache() -> Result<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("CALLGATE_CACHE")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("callgate")))
        .or_else(|| Some(named("HOME")?.join(".cache/callgate")))
        .context("no place for tools: set HOME, XDG_CACHE_HOME or CALLGATE_CACHE")
}

/// Where tools are installed in `cache`; the programs are in its `bin`.
pub fn tools(cache: &Path) -> PathBuf {
    cache.join("tools")
}

/// Where the library source of `release` is unpacked in `cache`.
pub fn library_source(cache: &Path, release: &str) -> PathBuf {
    cache.join("rust-src").join(release).join("library")
}

/// The compiler's release that `rust-toolchain.toml` names.
pub fn release(repository: &Path) -> Result<String> {
    let path = repository.join("rust-toolchain.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("parse {}", path.display()))?;
    let channel = table.get("toolchain").and_then(|toolchain| toolchain.get("channel")?.as_str());
    channel.map(str::to_owned).with_context(|| format!("{} names no channel", path.display()))
}
