//! `[[enroll]]`, `strict` and `unenrolled`: which cgroups are workloads, by what the configuration says of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use callgate_enroll::{Containers, NameTemplate, Pattern, RUNTIMES, Rule, Source, Trust, UnitName, cgroup};
use callgate_model::{FailMode, Mode};
use serde::Deserialize;

use super::Config;

/// What is enrolled: one cgroup, or whatever a rule finds.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub struct EnrollEntry {
    /// Which cgroups.
    pub what: What,
    /// Name in policies and records, behind `cgroup/`, `unit/` or `container/`; none: the path, unit or container.
    pub name: Option<NameTemplate>,
    /// `enforce` or `observe`.
    pub mode: Mode,
    /// `closed`, `open` or `observe`: what holds while no agent is alive.
    pub fail: FailMode,
    /// `mount` or `none`: whether our CA is mounted over the CA files of its containers.
    pub trust: Trust,
}

/// Which cgroups an entry means.
#[derive(Clone, Debug)]
pub enum What {
    /// One, by its path below the cgroup v2 mount: waited for, and missed when it is not there.
    Path(PathBuf),
    /// Those whose path matches a pattern, as it is written.
    Pattern(String),
    /// That of a systemd unit.
    Unit(UnitName),
    /// Those of containers.
    Containers(Containers),
}

/// The keys of an entry, as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    cgroup: Option<String>,
    unit: Option<UnitName>,
    slice: Option<UnitName>,
    container: Option<ContainerKeys>,
    name: Option<NameTemplate>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    fail: FailMode,
    #[serde(default)]
    trust: TrustKey,
}

/// What `trust` may say: there is no admission outside of a cluster.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TrustKey {
    Mount,
    #[default]
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerKeys {
    runtime: String,
    label: String,
    root: Option<PathBuf>,
}

impl TryFrom<Keys> for EnrollEntry {
    type Error = String;
    fn try_from(keys: Keys) -> Result<Self, String> {
        let Keys { cgroup, unit, slice, container, name, mode, fail, trust } = keys;
        let what = match (cgroup, unit, slice, container) {
            (Some(text), None, None, None) if Pattern::is_pattern(&text) => What::Pattern(text),
            (Some(path), None, None, None) => What::Path(path.into()),
            (None, Some(unit), None, None) if unit.is_slice() => {
                return Err(format!("`{}` is a slice: write `slice = …`", unit.as_str()));
            }
            (None, Some(unit), None, None) => What::Unit(unit),
            (None, None, Some(slice), None) if !slice.is_slice() => {
                return Err(format!("`{}` is no slice: write `unit = …`", slice.as_str()));
            }
            (None, None, Some(slice), None) => What::Unit(slice),
            (None, None, None, Some(keys)) => What::Containers(keys.containers()?),
            _ => return Err("an `[[enroll]]` has one of `cgroup`, `unit`, `slice` and `container`".to_owned()),
        };
        let trust = match trust {
            TrustKey::Mount => Trust::Mount,
            TrustKey::None => Trust::None,
        };
        Ok(Self { what, name, mode, fail, trust })
    }
}

impl ContainerKeys {
    fn containers(self) -> Result<Containers, String> {
        let known = || RUNTIMES.iter().map(|runtime| format!("`{}`", runtime.name)).collect::<Vec<_>>().join(", ");
        if self.root.as_ref().is_some_and(|root| !root.is_absolute()) {
            return Err("the `root` of containers is an absolute path".to_owned());
        }
        let Self { runtime, label, root } = self;
        Containers::new(&runtime, &label, root)
            .ok_or_else(|| format!("expected `runtime` of {} and `label` as `KEY=VALUE` or `KEY`", known()))
    }
}

impl EnrollEntry {
    /// What it says, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.what {
            What::Path(path) => path.display().to_string(),
            What::Pattern(pattern) => pattern.clone(),
            What::Unit(unit) => unit.as_str().to_owned(),
            What::Containers(_) => "container".to_owned(),
        }
    }

    /// The rule, unless it is one path.
    ///
    /// # Errors
    /// If a pattern is none, or lies outside of the cgroup v2 mount.
    pub fn rule(&self) -> Result<Option<Rule>> {
        let source = match &self.what {
            What::Path(_) => return Ok(None),
            What::Pattern(pattern) => Source::Pattern(below_mount(pattern)?),
            What::Unit(unit) => Source::Unit(unit.clone()),
            What::Containers(containers) => Source::Containers(containers.clone()),
        };
        Ok(Some(Rule { source, name: self.name.clone(), mode: self.mode, fail: self.fail, trust: self.trust }))
    }
}

impl Config {
    /// What strict mode leaves alone, as patterns of paths below the cgroup v2 mount.
    ///
    /// # Errors
    /// If one is none, or lies outside of the mount; if there are any without `strict`.
    pub fn exempt(&self) -> Result<Vec<Pattern>> {
        if self.strict.is_none() && !self.unenrolled.is_empty() {
            bail!("`unenrolled` has no effect without `strict`");
        }
        let named =
            |text: &String| below_mount(text).with_context(|| format!("in the config: `unenrolled` of `{text}`"));
        self.unenrolled.iter().map(named).collect()
    }
}

/// A pattern that is written below the cgroup v2 mount, or absolute.
fn below_mount(text: &str) -> Result<Pattern> {
    if !text.starts_with('/') {
        return Ok(Pattern::parse(text)?);
    }
    let mount = cgroup::cgroup2_mount()?;
    match Path::new(text).strip_prefix(&mount) {
        Ok(below) => Ok(Pattern::parse(&below.to_string_lossy())?),
        Err(_) => bail!("`{text}` does not lie below the cgroup v2 mount `{}`", mount.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(keys: &str) -> Result<EnrollEntry, String> {
        let config = Config::parse(&format!("[[enroll]]\n{keys}")).map_err(|error| format!("{error:#}"))?;
        Ok(config.enroll[0].clone())
    }

    #[test]
    fn each_kind_of_source_has_its_key() {
        assert!(matches!(parsed("cgroup = \"a/b\"").unwrap().what, What::Path(_)));
        assert!(matches!(parsed("cgroup = \"a/*\"").unwrap().what, What::Pattern(_)));
        assert!(matches!(parsed("unit = \"nginx.service\"").unwrap().what, What::Unit(_)));
        assert!(matches!(parsed("slice = \"shop.slice\"").unwrap().what, What::Unit(_)));
        let container =
            parsed("container = { runtime = \"docker\", label = \"a=b\", root = \"/x\" }\nname = \"ci-{name}\"");
        assert!(matches!(container.unwrap().what, What::Containers(_)));
        assert_eq!(parsed("cgroup = \"a\"").unwrap().fail, FailMode::Closed);
        assert_eq!(parsed("cgroup = \"a\"").unwrap().trust, Trust::None);
        assert_eq!(parsed("cgroup = \"a/*\"\ntrust = \"mount\"").unwrap().rule().unwrap().unwrap().trust, Trust::Mount);
        assert_eq!(parsed("cgroup = \"a\"\nfail = \"open\"").unwrap().fail, FailMode::Open);
        assert_eq!(parsed("cgroup = \"a/*\"\nfail = \"observe\"").unwrap().fail, FailMode::Observe);
    }

    #[test]
    fn what_is_misspelt_or_means_nothing_is_refused_with_its_line() {
        for (keys, told) in [
            ("", "has one of"),
            ("cgroup = \"a\"\nunit = \"b.service\"", "has one of"),
            ("unit = \"nginx\"", "no name of a unit"),
            ("unit = \"shop.slice\"", "write `slice"),
            ("slice = \"nginx.service\"", "write `unit"),
            ("container = { runtime = \"lxc\", label = \"a\" }", "`docker`, `podman`, `containerd`"),
            ("container = { runtime = \"docker\" }", "label"),
            ("container = { runtime = \"docker\", label = \"a\", lable = \"b\" }", "lable"),
            ("container = { runtime = \"docker\", label = \"a\", root = \"x\" }", "absolute"),
            ("cgroup = \"a\"\nnmae = \"b\"", "nmae"),
            ("cgroup = \"a\"\nfail = \"close\"", "`closed`, `open`, `observe`"),
            ("cgroup = \"a\"\ntrust = \"admission\"", "`mount`"),
            ("cgroup = \"a/*\"\nname = \"{label}\"", "`{label}` is no part of a name"),
        ] {
            let error = parsed(keys).unwrap_err();
            assert!(error.contains(told) && error.contains("line"), "{keys}: {error}");
        }
    }

    #[test]
    fn patterns_lie_below_the_mount() {
        let mount = cgroup::cgroup2_mount().unwrap();
        let rule = |text: &str| parsed(&format!("cgroup = \"{text}\"")).unwrap().rule();
        assert!(rule("a/*").unwrap().is_some() && rule("a/b").unwrap().is_none());
        assert!(rule(&mount.join("a/*").display().to_string()).unwrap().is_some());
        assert!(rule("/elsewhere/*").unwrap_err().to_string().contains("does not lie below"));
        assert!(rule("a/[").is_err());
        let exempt = |text: &str| Config::parse(text).unwrap().exempt();
        assert_eq!(exempt("strict = \"a\"\nunenrolled = [\"a/b\", \"a/c*\"]").unwrap().len(), 2);
        assert!(exempt("unenrolled = [\"a\"]").unwrap_err().to_string().contains("without `strict`"));
    }
}
