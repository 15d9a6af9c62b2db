//! As whom CMD runs: the user who asked for it, not the root that `run` needs for itself.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};

/// Groups whose members can have any process started outside, or write to the disk below the file system.
/// CMD is not in them, even if its user is.
const POWERFUL_GROUPS: &[&str] =
    &["disk", "docker", "incus", "incus-admin", "kmem", "libvirt", "libvirt-qemu", "lxd", "microk8s", "podman"];

/// The user that CMD runs as.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invoker {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, as at login (`initgroups`), without those that start processes for others.
    pub groups: Vec<u32>,
    /// Login name; the number where there is none.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
    /// Whether this is another user than the one `run` itself runs as: then HOME, USER and the like are set for CMD.
    pub switched: bool,
}

impl Invoker {
    /// The user behind `sudo` or `pkexec`; else the user of this process.
    ///
    /// # Errors
    /// When `SUDO_UID`, `SUDO_GID` or `PKEXEC_UID` is no number, or the user's groups cannot be read.
    pub fn current() -> Result<Self> {
        let own = Uid::current();
        let variable = |name: &str| std::env::var_os(name);
        match asked_by(own.is_root(), &variable)? {
            Some((uid, gid)) if uid != own.as_raw() => Self::other(uid, gid),
            _ => Self::same(),
        }
    }

    fn other(uid: u32, gid: Option<u32>) -> Result<Self> {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let Some(user) = user else {
            // No entry in the user database (a container's arbitrary uid): no name, no home, no further groups.
            let Some(gid) = gid else { bail!("user {uid} is unknown here, so its groups are, too") };
            return Ok(Self { uid, gid, groups: vec![gid], name: uid.to_string(), home: "/".into(), switched: true });
        };
        let gid = gid.unwrap_or(user.gid.as_raw());
        let name = std::ffi::CString::new(user.name.clone()).context("a user name with a zero byte")?;
        let groups = nix::unistd::getgrouplist(&name, Gid::from_raw(gid))
            .with_context(|| format!("cannot read the groups of `{}`", user.name))?;
        Ok(Self { uid, gid, groups: harmless(groups), name: user.name, home: user.dir, switched: true })
    }

    fn same() -> Result<Self> {
        let uid = Uid::current();
        let groups = nix::unistd::getgroups().context("cannot read the groups of this process")?;
        let user = User::from_uid(uid).ok().flatten();
        Ok(Self {
            uid: uid.as_raw(),
            gid: Gid::current().as_raw(),
            groups: harmless(groups),
            name: user.as_ref().map_or_else(|| uid.to_string(), |user| user.name.clone()),
            home: std::env::var_os("HOME").map(PathBuf::from).or_else(|| user.map(|u| u.dir)).unwrap_or("/".into()),
            switched: false,
        })
    }

    /// What CMD's environment needs on top of ours: variables to set, and to unset.
    #[must_use]
    pub(super) fn environment(&self) -> (Vec<(OsString, OsString)>, Vec<OsString>) {
        if !self.switched {
            return (Vec::new(), Vec::new());
        }
        let mut set: Vec<(OsString, OsString)> = vec![("HOME".into(), self.home.clone().into())];
        set.extend(["USER", "LOGNAME"].map(|variable| (variable.into(), self.name.clone().into())));
        let unset = ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "SUDO_HOME", "PKEXEC_UID", "MAIL"];
        (set, unset.map(OsString::from).to_vec())
    }
}

/// The uid, and the gid where it is told, of who asked for root. Only root's environment is believed.
fn asked_by(is_root: bool, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<(u32, Option<u32>)>> {
    if !is_root {
        return Ok(None);
    }
    let number = |name: &str| -> Result<Option<u32>> {
        let Some(value) = variable(name) else { return Ok(None) };
        let parsed = value.to_str().and_then(|v| v.parse().ok());
        parsed.map(Some).with_context(|| format!("`{name}` is `{}`, not a number", value.display()))
    };
    if let Some(uid) = number("SUDO_UID")? {
        return Ok(Some((uid, number("SUDO_GID")?)));
    }
    Ok(number("PKEXEC_UID")?.map(|uid| (uid, None)))
}

fn harmless(groups: Vec<Gid>) -> Vec<u32> {
    let powerful = |gid: &Gid| {
        let group = Group::from_gid(*gid).ok().flatten();
        group.is_some_and(|group| POWERFUL_GROUPS.contains(&group.name.as_str()))
    };
    groups.into_iter().filter(|gid| !powerful(gid)).map(Gid::as_raw).collect()
}

/// The policy directory when none is named: `./callgate`, else `callgate/policies` in the user's config folder;
/// the first that holds a `*.cedar` file.
#[must_use]
pub fn find_policies(invoker: &Invoker) -> Option<PathBuf> {
    // Under sudo, XDG_CONFIG_HOME would be root's.
    let named = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !invoker.switched && !value.is_empty());
    let config = named.map_or_else(|| invoker.home.join(".config"), PathBuf::from);
    [PathBuf::from("callgate"), config.join("callgate/policies")].into_iter().find(|dir| holds_policies(dir))
}

fn holds_policies(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "cedar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(is_root: bool, variables: &[(&str, &str)]) -> Result<Option<(u32, Option<u32>)>> {
        asked_by(is_root, &|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn believes_sudo_then_pkexec_and_only_as_root() {
        let sudo = [("SUDO_UID", "1000"), ("SUDO_GID", "100"), ("PKEXEC_UID", "7")];
        assert_eq!(asked(true, &sudo).unwrap(), Some((1000, Some(100))));
        assert_eq!(asked(false, &sudo).unwrap(), None);
        assert_eq!(asked(true, &sudo[2..]).unwrap(), Some((7, None)));
        assert_eq!(asked(true, &[]).unwrap(), None);
        assert!(asked(true, &[("SUDO_UID", "-1")]).is_err());
        assert!(asked(true, &[("SUDO_UID", "")]).is_err());
    }

    #[test]
    fn finds_name_and_home_of_another_user() {
        let nobody = Invoker::other(65534, None).unwrap();
        assert_eq!((nobody.name.as_str(), nobody.switched), ("nobody", true));
        let (set, unset) = nobody.environment();
        assert!(set.contains(&("USER".into(), "nobody".into())));
        assert!(unset.contains(&"SUDO_UID".into()));
        let unknown = Invoker::other(4_000_000, Some(7)).unwrap();
        assert_eq!((unknown.name.as_str(), unknown.groups), ("4000000", vec![7]));
        assert!(Invoker::other(4_000_000, None).is_err());
    }

    #[test]
    fn finds_policies_in_the_config_folder() {
        let home = tempfile::tempdir().unwrap();
        let mut invoker = Invoker::same().unwrap();
        invoker.home = home.path().to_owned();
        invoker.switched = true;
        assert_eq!(find_policies(&invoker), None);
        let dir = home.path().join(".config/callgate/policies");
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(find_policies(&invoker), None);
        fs::write(dir.join("a.cedar"), "").unwrap();
        assert_eq!(find_policies(&invoker), Some(dir));
    }
}
