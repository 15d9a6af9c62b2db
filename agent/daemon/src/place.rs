//! Where a cgroup that somebody names lies: below the cgroup v2 mount and the enforcement root, there or not yet.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use callgate_enroll::cgroup;

use crate::Config;

/// The directory that `path` names: absolute, or below the cgroup v2 mount.
///
/// # Errors
/// If it is neither below the mount nor below the configured root. That it exists is not looked at.
pub fn directory(config: &Config, path: &Path) -> Result<PathBuf> {
    let full = at_or_below_root(config, path)?;
    if full == root(config)? {
        bail!("`{}` is the enforcement root itself: name a cgroup below it", full.display());
    }
    Ok(full)
}

/// The enforcement root: as configured, or the cgroup v2 mount.
///
/// # Errors
/// If it is not there.
pub fn root(config: &Config) -> Result<PathBuf> {
    let mount = cgroup::cgroup2_mount()?;
    let Some(root) = &config.cgroup_root else { return Ok(mount) };
    mount.join(root).canonicalize().with_context(|| format!("the `cgroup_root` `{}`", root.display()))
}

/// As [`directory`], or the enforcement root itself.
///
/// # Errors
/// As [`directory`].
pub fn at_or_below_root(config: &Config, path: &Path) -> Result<PathBuf> {
    let mount = cgroup::cgroup2_mount()?;
    if path.components().any(|part| part == Component::ParentDir) {
        bail!("`{}` holds `..`: name the cgroup itself", path.display());
    }
    let full = if path.is_absolute() { path.to_owned() } else { mount.join(path) };
    let full = full.canonicalize().unwrap_or(full);
    if !full.starts_with(&mount) {
        bail!(
            "`{}` is not below the cgroup v2 mount `{}`: name a directory there, or its path below the mount without a \
             leading `/`",
            path.display(),
            mount.display()
        );
    }
    let root = root(config)?;
    if !full.starts_with(&root) {
        bail!("`{}` does not lie below the enforcement root `{}`", full.display(), root.display());
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_mount_has_a_place() {
        let config = Config::default();
        let mount = cgroup::cgroup2_mount().unwrap();
        for good in ["a.slice/b.service", "a"] {
            assert_eq!(directory(&config, Path::new(good)).unwrap(), mount.join(good));
            assert_eq!(directory(&config, &mount.join(good)).unwrap(), mount.join(good));
        }
        for bad in ["/tmp", "/a.slice/b.service", "/", "", "../x", "a/../../x"] {
            assert!(directory(&config, Path::new(bad)).is_err(), "`{bad}`");
        }
        assert!(directory(&config, &mount).is_err());
    }
}
