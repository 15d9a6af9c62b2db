//! The config file of the daemon: TOML, every key with a default, unknown keys refused.
//!
//! `deploy/config/collector.toml` shows every key; a test keeps the two together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use callgate_mtls::{ServerTls, TlsError, TlsFiles};
use serde::Deserialize;
use thiserror::Error;

use crate::{Listen, ListenError};

/// The documented default config, as `--print-config` prints it and `deploy/config/collector.toml` has it.
pub const COLLECTOR_CONFIG: &str = include_str!("../../deploy/config/collector.toml");

/// What the config file says.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen: `https://ADDRESS:PORT`, and in plain text `127.0.0.1:PORT`, `[::1]:PORT`, `unix:/absolute/path`.
    pub listen: Vec<String>,
    /// Directory of the store: one file per day, readable by its owner alone.
    pub store_dir: PathBuf,
    /// Cgroups whose processes may not connect, as paths below the cgroup v2 mount, beside those that are enrolled.
    pub refuse_cgroups: Vec<String>,
    /// Where a BPF file system is mounted: its pins tell which cgroups of this host are enrolled.
    pub bpffs: PathBuf,
    /// Certificates for `https://…`; none: no such address.
    pub tls: Option<Tls>,
    /// Address of `/metrics`, `/readyz` and `/healthz`; none: not served.
    pub metrics_listen: Option<SocketAddr>,
    /// How long a stop waits for peers to let go. Unit: seconds.
    pub shutdown_timeout_s: u64,
    /// What is logged, as a filter of tracing: `info`, `callgate_collector=debug`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// The collector's certificates, and whom it lets in by theirs.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Its certificate and what leads to the CA, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// CAs that vouch for clients, PEM.
    pub client_ca: PathBuf,
    /// Which names of clients count: `node/shop-*`, `reader/*`; empty: all.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Longest life of a connection; then it is made, and certificates are verified, anew. Unit: seconds.
    #[serde(default = "connection_max_s")]
    pub connection_max_s: u64,
}

/// Half an hour: twice the agents' own default, so that it is they who reconnect, between two batches.
fn connection_max_s() -> u64 {
    1_800
}

impl Tls {
    fn files(&self) -> TlsFiles {
        TlsFiles { ca: self.client_ca.clone(), cert: self.cert.clone(), key: self.key.clone() }
    }

    /// Reads the certificates, and follows them. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TlsError`] if they cannot be used.
    pub fn open(&self) -> Result<ServerTls, TlsError> {
        ServerTls::open(&self.files(), self.clients.clone(), Duration::from_secs(self.connection_max_s))
    }
}

/// Form of the log's lines, on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a config file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("config `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no such file; the message names line, column and key.
    #[error("config `{path}`: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// An address to listen on.
    #[error("key `listen`: {0}")]
    Listen(#[from] ListenError),
    /// Nothing to listen on.
    #[error("key `listen` is empty: name at least one address")]
    NoListen,
    /// A path that is not absolute.
    #[error("key `{key}`: `{path}` is not absolute")]
    Relative {
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// TLS without certificates.
    #[error("key `listen`: `{0}` takes certificates: configure `[tls]`")]
    NoCertificates(String),
    /// Certificates that nobody would see.
    #[error("`[tls]` is configured, and no address in `listen` begins with `https://`: plain text would be spoken")]
    UnusedTls,
    /// Certificates that cannot be used.
    #[error("`[tls]`: {0}")]
    Tls(#[from] TlsError),
    /// A pattern that could match no name.
    #[error("key `clients`: `{0}` matches no client: expected `node/NAME` or `reader/NAME`, where `*` is any text")]
    Pattern(String),
    /// A time that would not let a connection come about, or never end.
    #[error("key `connection_max_s` is {0}, expected 10 to 86400")]
    ConnectionMax(u64),
    /// Not a filter.
    #[error("key `log`: `{0}` is no log filter; try `info` or `callgate_collector=debug`")]
    Log(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["unix:/run/callgate/collector.sock".into()],
            store_dir: "/var/lib/callgate/store".into(),
            refuse_cgroups: Vec::new(),
            bpffs: crate::server::BPFFS.into(),
            tls: None,
            metrics_listen: None,
            shutdown_timeout_s: 10,
            log: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file and the key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })?;
        config.check()?;
        Ok(config)
    }

    /// Where to listen.
    ///
    /// # Errors
    /// [`ConfigError::Listen`] or [`ConfigError::NoListen`].
    pub fn listen(&self) -> Result<Vec<Listen>, ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoListen);
        }
        Ok(self.listen.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
    }

    /// How long a stop waits.
    #[must_use]
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout_s)
    }

    /// What is logged.
    ///
    /// # Errors
    /// [`ConfigError::Log`].
    pub fn log_filter(&self) -> Result<tracing_subscriber::EnvFilter, ConfigError> {
        self.log.parse().map_err(|_| ConfigError::Log(self.log.clone()))
    }

    fn check_tls(&self, listen: &[Listen]) -> Result<(), ConfigError> {
        let secure = listen.iter().find(|listen| matches!(listen, Listen::Tls(_)));
        let tls = match (secure, &self.tls) {
            (None, None) => return Ok(()),
            (Some(listen), None) => return Err(ConfigError::NoCertificates(listen.to_string())),
            (None, Some(_)) => return Err(ConfigError::UnusedTls),
            (Some(_), Some(tls)) => tls,
        };
        let fits =
            |pattern: &&String| pattern.starts_with("node/") || pattern.starts_with("reader/") || *pattern == "*";
        if let Some(pattern) = tls.clients.iter().find(|pattern| !fits(pattern)) {
            return Err(ConfigError::Pattern(pattern.clone()));
        }
        if !(10..=86_400).contains(&tls.connection_max_s) {
            return Err(ConfigError::ConnectionMax(tls.connection_max_s));
        }
        ServerTls::check(&tls.files())?;
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let listen = self.listen()?;
        self.check_tls(&listen)?;
        self.log_filter()?;
        if !self.store_dir.is_absolute() {
            return Err(ConfigError::Relative { key: "store_dir", path: self.store_dir.clone() });
        }
        if !self.bpffs.is_absolute() {
            return Err(ConfigError::Relative { key: "bpffs", path: self.bpffs.clone() });
        }
        match self.refuse_cgroups.iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(ConfigError::Relative { key: "refuse_cgroups", path: path.into() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_published_file_shows_every_key_with_its_default() {
        assert_eq!(read(COLLECTOR_CONFIG).unwrap(), Config::default(), "as it is printed it changes nothing");
        // Without the checks: they would look for the files of examples.
        let parse = |text: &str| toml::from_str::<Config>(text).map(|c| format!("{c:?}")).map_err(|e| e.to_string());
        callgate_harness::documented::check(COLLECTOR_CONFIG, parse).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            ("stor_dir = \"/x\"", "unknown field `stor_dir`"),
            ("listen = [\"0.0.0.0:4700\"]", "can be reached from other hosts"),
            ("listen = [\"https://0.0.0.0:4700\"]", "configure `[tls]`"),
            ("[tls]\ncert = \"/x\"\nkey = \"/x\"\nclient_ca = \"/x\"", "plain text would be spoken"),
            (
                "listen = [\"https://0.0.0.0:1\"]\n[tls]\ncert = \"/x\"\nkey = \"/x\"\nclient_ca = \"/x\"",
                "cannot read `/x`",
            ),
            (
                "listen = [\"https://0.0.0.0:1\"]\n[tls]\ncert = \"/x\"\nkey = \"/x\"\nclient_ca = \"/x\"\nclients = [\"n\"]",
                "`n` matches no client",
            ),
            ("listen = []", "`listen` is empty"),
            ("store_dir = \"x\"", "`store_dir`: `x` is not absolute"),
            ("refuse_cgroups = [\"x\"]", "`refuse_cgroups`"),
            ("bpffs = \"x\"", "`bpffs`: `x` is not absolute"),
            ("log = \"=,=\"", "no log filter"),
            ("log_format = \"xml\"", "unknown variant `xml`"),
            ("shutdown_timeout_s = -1", "shutdown_timeout_s"),
        ];
        for (text, expected) in wrong {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Config::read(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
