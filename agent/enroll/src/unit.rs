//! Where systemd puts a unit's cgroup, told from its name alone: no bus is asked, and no systemd need run.
//!
//! Slices nest by their names: `a-b.slice` is `a.slice/a-b.slice`. Any other unit lies directly in a slice. What lies
//! within a unit was delegated to it, so a directory there is never taken for a unit, whatever it is called.

use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

/// Endings of units that have a cgroup. Source: systemd.unit(5), 252.
const KINDS: &[&str] = &[".service", ".scope", ".socket", ".mount", ".swap", ".slice"];

/// Longest name. Unit: bytes. Source: UNIT_NAME_MAX, systemd 252.
const NAME_MAX: usize = 255;

/// Names of controllers, which a cgroup's own files begin with. Source: systemd's cg_needs_escape, 252; Linux 6.18.
const CONTROLLERS: &[&str] =
    &["cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "hugetlb", "rdma", "misc", "dmem"];

/// The name of a unit that has a cgroup: `nginx.service`, `shop.slice`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct UnitName(String);

/// A text that is no [`UnitName`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "`{}` is no name of a unit with a cgroup: expected `NAME.service`, `.scope`, `.socket`, `.mount`, `.swap` or `.slice`",
    .0.escape_default()
)]
pub struct UnitError(String);

impl UnitName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a slice.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        self.0.ends_with(".slice")
    }

    /// Whether the cgroup at `path`, below the one that systemd has as its root, is this unit's.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let Some(parts) = path.iter().map(|part| part.to_str()).collect::<Option<Vec<_>>>() else { return false };
        let Some((own, slices)) = parts.split_last() else { return false };
        if self.is_slice() {
            return levels(&self.0) == parts;
        }
        let in_slice = slices.last().is_none_or(|slice| slice.ends_with(".slice") && levels(slice) == slices);
        in_slice && *own == in_cgroups(&self.0)
    }
}

/// The slices on the way to a slice, itself included.
fn levels(slice: &str) -> Vec<String> {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.filter_map(|end| stem.get(..end)).map(|stem| format!("{stem}.slice")).collect()
}

/// The directory's name: with `_` before what a file of the cgroup could be called.
fn in_cgroups(unit: &str) -> String {
    let of_controller = |name: &&str| unit.strip_prefix(*name).is_some_and(|rest| rest.starts_with('.'));
    let escaped = unit.starts_with(['_', '.'])
        || ["notify_on_release", "release_agent", "tasks"].contains(&unit)
        || unit.starts_with("cgroup.")
        || CONTROLLERS.iter().any(of_controller);
    if escaped { format!("_{unit}") } else { unit.to_owned() }
}

impl TryFrom<String> for UnitName {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
        let stem = KINDS.iter().find_map(|kind| text.strip_suffix(kind)).unwrap_or_default();
        // `x@.service` is a template, which never runs; `a--b.slice` and `-a.slice` have a level without a name.
        let nested = !text.ends_with(".slice") || stem.split('-').all(|level| !level.is_empty());
        if stem.is_empty() || stem.ends_with('@') || text.len() > NAME_MAX || !text.bytes().all(fit) || !nested {
            return Err(UnitError(text));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> UnitName {
        UnitName::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn units_are_where_systemd_puts_them() {
        for (name, path) in [
            ("nginx.service", "system.slice/nginx.service"),
            ("nginx.service", "shop.slice/shop-web.slice/nginx.service"),
            ("getty@tty1.service", "system.slice/system-getty.slice/getty@tty1.service"),
            ("init.scope", "init.scope"),
            ("session-3.scope", "user.slice/user-1000.slice/session-3.scope"),
            ("cpu.service", "system.slice/_cpu.service"),
            ("_x.service", "system.slice/__x.service"),
            ("shop.slice", "shop.slice"),
            ("shop-web-eu.slice", "shop.slice/shop-web.slice/shop-web-eu.slice"),
        ] {
            assert!(unit(name).is_at(Path::new(path)), "{name} {path}");
        }
    }

    #[test]
    fn a_directory_within_a_unit_is_no_unit() {
        for (name, path) in [
            ("nginx.service", "user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service"),
            ("nginx.service", "system.slice/evil.service/nginx.service"),
            ("nginx.service", "system.slice/evil/nginx.service"),
            ("nginx.service", "web.slice/shop-web.slice/nginx.service"),
            ("nginx.service", "system.slice/nginx.service/x"),
            ("nginx.service", "system.slice/_nginx.service"),
            ("cpu.service", "system.slice/cpu.service"),
            ("shop-web.slice", "shop-web.slice"),
            ("shop.slice", "a.slice/shop.slice"),
            ("shop.slice", ""),
        ] {
            assert!(!unit(name).is_at(Path::new(path)), "{name} {path}");
        }
    }

    #[test]
    fn names_of_nothing_with_a_cgroup_are_refused() {
        for text in
            ["", "nginx", ".service", "x.timer", "x@.service", "a/b.service", "-a.slice", "a--b.slice", "a b.service"]
        {
            assert!(UnitName::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert!(UnitName::try_from(format!("{}.service", "x".repeat(250))).is_err());
    }
}
