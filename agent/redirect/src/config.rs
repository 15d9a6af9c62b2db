//! What a [`Redirect`](crate::Redirect) is told.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Settings of one instance.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the instance, part of the path of its pins: 1 to 64 of `a-z 0-9 - _`.
    pub instance: String,
    /// Where bpffs is, or shall be mounted.
    pub bpffs: PathBuf,
    /// From which level on the kernel programs log; what is below costs nothing.
    pub log_level: LogLevel,
    /// Age at which the heartbeat counts as stale, and every new connection is refused.
    pub stale_after: Duration,
}

impl Config {
    /// An instance with the defaults: bpffs at `/sys/fs/bpf`, no kernel log, stale after 2 s.
    #[must_use]
    pub fn new(instance: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            bpffs: PathBuf::from("/sys/fs/bpf"),
            log_level: LogLevel::Off,
            stale_after: Duration::from_secs(2),
        }
    }
}

/// Level of the kernel programs' own log. The numbers are aya-log's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum LogLevel {
    /// Nothing: the log calls are removed by the verifier.
    #[default]
    Off = 0,
    /// Errors.
    Error = 1,
    /// And warnings.
    Warn = 2,
    /// And information.
    Info = 3,
    /// And each redirect and each refusal.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// Not a [`LogLevel`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a log level: `off`, `error`, `warn`, `info`, `debug` or `trace`")]
pub struct UnknownLogLevel(pub String);

impl LogLevel {
    const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word used in configuration.
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

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;
    fn from_str(text: &str) -> Result<Self, UnknownLogLevel> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| UnknownLogLevel(text.into()))
    }
}
