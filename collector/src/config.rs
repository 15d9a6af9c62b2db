//! The config file of the daemon: TOML, every key with a default, unknown keys refused.
//!
//! `deploy/config/collector.toml` shows every key; a test keeps the two together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::{Listen, ListenError};

/// What the config file says.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen: `127.0.0.1:PORT`, `[::1]:PORT` or `unix:/absolute/path`.
    pub listen: Vec<String>,
    /// Directory of the store: one file per day, readable by its owner alone.
    pub store_dir: PathBuf,
    /// Cgroups whose processes may not connect, as paths below the cgroup v2 mount, beside every `callgate run`.
    pub refuse_cgroups: Vec<String>,
    /// How long a stop waits for peers to let go. Unit: seconds.
    pub shutdown_timeout_s: u64,
    /// What is logged, as a filter of tracing: `info`, `callgate_collector=debug`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
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

    fn check(&self) -> Result<(), ConfigError> {
        self.listen()?;
        self.log_filter()?;
        if !self.store_dir.is_absolute() {
            return Err(ConfigError::Relative { key: "store_dir", path: self.store_dir.clone() });
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
        let published = include_str!("../../deploy/config/collector.toml");
        assert_eq!(read(published).unwrap(), Config::default());
        let keys: toml::Table = published.parse().unwrap();
        let shown: Vec<_> = keys.keys().map(String::as_str).collect();
        let all = ["listen", "log", "log_format", "refuse_cgroups", "shutdown_timeout_s", "store_dir"];
        assert!(all.iter().all(|key| shown.contains(key)) && shown.len() == all.len(), "{shown:?}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            ("stor_dir = \"/x\"", "unknown field `stor_dir`"),
            ("listen = [\"0.0.0.0:4700\"]", "can be reached from other hosts"),
            ("listen = []", "`listen` is empty"),
            ("store_dir = \"x\"", "`store_dir`: `x` is not absolute"),
            ("refuse_cgroups = [\"x\"]", "`refuse_cgroups`"),
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
