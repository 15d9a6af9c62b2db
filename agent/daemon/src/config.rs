//! The agent's configuration: one TOML file, every key with its unit and default; an unknown key is an error.

mod collector;
mod dns;
mod enroll;
mod kubernetes;
mod traces;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use callgate_identity::callers::IssuerConfig;
use callgate_mask::Detectors;
use serde::Deserialize;

pub use collector::CollectorTls;
pub use dns::DnsConfig;
pub use enroll::{EnrollEntry, What};
pub use kubernetes::KubernetesConfig;
pub use traces::TracesConfig;

/// Where `callgate-agent` keeps its state unless told otherwise.
pub const STATE_DIR: &str = "/var/lib/callgate";
/// Where sockets and trust bundles of running agents live.
pub const RUNTIME_DIR: &str = "/run/callgate";
/// Where the configuration and the policies of a host live.
pub const CONFIG_DIR: &str = "/etc/callgate";

/// The documented default configuration, as `--print-config` prints it and `deploy/config/agent.toml` has it.
pub const AGENT_CONFIG: &str = include_str!("../../../deploy/config/agent.toml");

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of `*.cedar` files; none: see [`Config::policies`].
    pub policy_dir: Option<PathBuf>,
    /// Spool, enrolments, embedded store. Root-owned.
    pub state_dir: PathBuf,
    /// Control socket and trust bundles.
    pub runtime_dir: PathBuf,
    /// Where a BPF file system is, or is to be mounted.
    pub bpffs: PathBuf,
    /// Enrolled cgroups must lie below, absolute or below the cgroup v2 mount; none: the mount itself.
    pub cgroup_root: Option<PathBuf>,
    /// What becomes of connections that are older than an enrolment, or were made elsewhere and are held inside.
    pub older_sockets: OlderSockets,
    /// What becomes of a task of a workload that asks for netlink beyond routes.
    pub netlink: Answer,
    /// What becomes of a workload with processes that hold CAP_NET_RAW.
    pub net_raw: Answer,
    /// Name of this node in records; none: its name in the cluster, else the host name.
    pub node: Option<String>,
    /// Collector: `https://HOST:PORT`, `http://ADDRESS:PORT` (loopback only) or `unix:PATH`. None: records stay in the
    /// spool.
    pub collector: Option<String>,
    /// Certificates for a collector at `https://…`.
    pub collector_tls: Option<CollectorTls>,
    /// Address of `/metrics`, `/readyz` and `/healthz`; none: not served.
    pub metrics_listen: Option<SocketAddr>,
    /// PEM files whose roots are trusted for upstreams, beside the system's.
    pub upstream_ca: Vec<PathBuf>,
    /// How questions of DNS are answered.
    pub dns: DnsConfig,
    /// Where spans of calls go; none: none are made.
    pub traces: Option<TracesConfig>,
    /// Level of the agent's log: `error`, `warn`, `info`, `debug`, `trace`.
    pub log_level: Level,
    /// Level of the kernel programs' log.
    pub kernel_log_level: Level,
    /// Age of the heartbeat at which the kernel refuses. Unit: milliseconds.
    pub stale_after_ms: u64,
    /// Bound of the spool. Unit: MiB.
    pub spool_max_mib: u64,
    /// Most open connections.
    pub connections_max: usize,
    /// Longest request body whose arguments policy judges. Unit: KiB.
    pub arguments_max_kib: usize,
    /// Longest wait for open calls at the end. Unit: seconds.
    pub drain_timeout_s: u64,
    /// Services whose names need no resolution, with their addresses.
    pub service: Vec<ServiceEntry>,
    /// Kinds of findings beside those of the table; see [`Config::detectors`].
    pub detector: Vec<DetectorEntry>,
    /// Who may vouch for callers; checked by `Issuers::new`.
    pub issuer: Vec<IssuerConfig>,
    /// Cgroups that are enrolled, at start or as they come.
    pub enroll: Vec<EnrollEntry>,
    /// The cluster whose labels enrol pods of this node; none: no cluster is asked.
    pub kubernetes: Option<KubernetesConfig>,
    /// Below this cgroup nothing goes out that is neither enrolled nor exempt; none: what is not enrolled is untouched.
    pub strict: Option<PathBuf>,
    /// What [`Config::strict`] leaves alone; see [`Config::exempt`].
    pub unenrolled: Vec<String>,
}

/// Marks an error as the configuration's: the commands end with exit code 2 then.
#[derive(Clone, Debug)]
pub struct Unfit(String);

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A declared service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEntry {
    /// Host name as calls give it.
    pub name: String,
    /// Where it lives.
    pub addresses: Vec<IpAddr>,
}

/// A kind of findings of the user's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorEntry {
    /// The word in policies: of `a-z 0-9 _`.
    pub name: String,
    /// What is found: a regular expression whose matches have a bound.
    pub pattern: String,
    /// What a finding becomes; `[masked:NAME]` unless said otherwise.
    pub label: Option<String>,
}

/// What becomes of sockets that no hook has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OlderSockets {
    /// They are destroyed; a process that holds a raw, packet or other socket without a hook is ended.
    #[default]
    Destroy,
    /// They are recorded, and work on.
    Report,
}

/// What becomes of what a workload should not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is refused.
    Refuse,
    /// It is recorded, and goes on.
    Report,
}

/// A log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The word that tracing's filters use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy_dir: None,
            state_dir: STATE_DIR.into(),
            runtime_dir: RUNTIME_DIR.into(),
            bpffs: "/sys/fs/bpf".into(),
            cgroup_root: None,
            older_sockets: OlderSockets::default(),
            netlink: Answer::Refuse,
            net_raw: Answer::Report,
            node: None,
            kubernetes: None,
            collector: None,
            collector_tls: None,
            metrics_listen: None,
            upstream_ca: Vec::new(),
            dns: DnsConfig::default(),
            traces: None,
            log_level: Level::Info,
            kernel_log_level: Level::Warn,
            stale_after_ms: 2000,
            spool_max_mib: 1024,
            connections_max: 16_384,
            arguments_max_kib: 1024,
            drain_timeout_s: 10,
            service: Vec::new(),
            detector: Vec::new(),
            issuer: Vec::new(),
            enroll: Vec::new(),
            strict: None,
            unenrolled: Vec::new(),
        }
    }
}

impl Config {
    /// Reads `path`.
    ///
    /// # Errors
    /// Names the file, and for an unknown or unfit key its line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| Unfit(format!("cannot read the config `{}`", path.display())))?;
        Self::parse(&text).with_context(|| Unfit(format!("in the config `{}`", path.display())))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// For an unknown key, a value of the wrong kind or out of range.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        if !(500..=60_000).contains(&config.stale_after_ms) {
            bail!("`stale_after_ms` is {}, expected 500 to 60000", config.stale_after_ms);
        }
        if config.spool_max_mib < 8 {
            bail!("`spool_max_mib` is {}, expected 8 or more", config.spool_max_mib);
        }
        if !(1..=65_536).contains(&config.arguments_max_kib) {
            bail!("`arguments_max_kib` is {}: 1 to 65536 can be held back for policy", config.arguments_max_kib);
        }
        config.check_collector_tls()?;
        if let Some(traces) = &config.traces {
            traces.check()?;
        }
        if config.connections_max == 0 {
            bail!("`connections_max` is 0, so nothing could ever connect");
        }
        Ok(config)
    }

    /// The kinds of findings that this configuration adds.
    ///
    /// # Errors
    /// Names the one that is refused, and why.
    pub fn detectors(&self) -> Result<Arc<Detectors>> {
        let mut detectors = Detectors::default();
        for DetectorEntry { name, pattern, label } in &self.detector {
            detectors.add(name, pattern, label.as_deref()).context("in the config: `[[detector]]`")?;
        }
        Ok(Arc::new(detectors))
    }

    /// Where the policies of a host are: `policy_dir`, or below [`CONFIG_DIR`].
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.policy_dir.clone().unwrap_or_else(|| Path::new(CONFIG_DIR).join("policies"))
    }

    /// Age of the heartbeat at which the kernel refuses.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        Duration::from_millis(self.stale_after_ms)
    }

    /// This node's name: configured, or the cluster's, or the host's.
    #[must_use]
    pub fn node_name(&self) -> String {
        let name = self
            .node
            .clone()
            .or_else(|| self.named_by_cluster())
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let fit: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        if fit.is_empty() { "node".into() } else { fit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.state_dir, Path::new(STATE_DIR));
        assert_eq!(config.stale_after(), Duration::from_secs(2));
    }

    #[test]
    fn the_printed_configuration_shows_every_key_with_its_default() {
        assert_eq!(
            format!("{:?}", Config::parse(AGENT_CONFIG).unwrap()),
            format!("{:?}", Config::default()),
            "as it is printed it changes nothing"
        );
        let parse = |text: &str| Config::parse(text).map(|c| format!("{c:?}")).map_err(|error| format!("{error:#}"));
        callgate_harness::documented::check(AGENT_CONFIG, parse).unwrap();
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = format!("{:#}", Config::parse("log_level = \"info\"\npolicy_dri = \"x\"\n").unwrap_err());
        assert!(error.contains("policy_dri") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_name_that_policy_could_not_tell_apart_is_refused() {
        let error = format!("{:#}", Config::parse("[[enroll]]\ncgroup = \"a\"\nname = \"x/y\"\n").unwrap_err());
        assert!(error.contains("`x/y` is no name of a workload") && error.contains("line 3"), "{error}");
    }

    #[test]
    fn issuers_are_read_and_symmetric_algorithms_refused() {
        let text = "[[issuer]]\nissuer = \"https://idp.example\"\naudience = [\"gate\"]\nalgorithms = [\"ES256\"]\n";
        assert_eq!(Config::parse(text).unwrap().issuer[0].leeway_s, 30);
        for (from, to) in [("ES256", "HS256"), ("ES256", "none"), ("audience", "audiences")] {
            assert!(Config::parse(&text.replace(from, to)).is_err(), "{to}");
        }
    }
}
