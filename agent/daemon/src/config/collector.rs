//! The way to the collector: its address, and the certificates that it takes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use callgate_uplink::{ClientTls, Endpoint, Route, TlsFiles};
use serde::Deserialize;

use super::Config;

/// Our certificates towards the collector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorTls {
    /// CAs that vouch for the collector, PEM.
    pub ca: PathBuf,
    /// Our certificate, which names this node, and what leads to the CA, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Instead of both: the signer whom the cluster is asked for one.
    pub signer: Option<String>,
    /// Longest life of a connection; then it is made, and certificates are verified, anew. Unit: seconds.
    #[serde(default = "connection_max_s")]
    pub connection_max_s: u64,
}

fn connection_max_s() -> u64 {
    900
}

impl Config {
    /// The way to the collector, if there is one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the address is none, takes certificates that are not configured, or those cannot be used.
    pub fn route(&self) -> Result<Option<Route>> {
        let Some(collector) = &self.collector else { return Ok(None) };
        let endpoint: Endpoint = collector.parse().context("`collector`")?;
        let tls = match (&endpoint, &self.collector_tls, self.collector_files()) {
            (Endpoint::Tls(_), Some(tls), Some(files)) => {
                let max = Duration::from_secs(tls.connection_max_s);
                Some(match &tls.signer {
                    // The first one is still to come.
                    Some(_) => ClientTls::await_files(&files, max),
                    None => ClientTls::open(&files, max).context("`[collector_tls]`")?,
                })
            }
            _ => None,
        };
        Ok(Some(Route::new(endpoint, tls).context("`collector`")?))
    }

    /// The files for the way to the collector, if it takes any.
    #[must_use]
    pub fn collector_files(&self) -> Option<TlsFiles> {
        let tls = self.collector_tls.as_ref()?;
        let (cert, key) = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => (self.issued_certificate(), self.issued_certificate()),
        };
        Some(TlsFiles { ca: tls.ca.clone(), cert, key })
    }

    /// Where the certificate is kept that the cluster issued, with its key.
    #[must_use]
    pub fn issued_certificate(&self) -> PathBuf {
        self.state_dir.join("collector.pem")
    }

    pub(super) fn check_collector_tls(&self) -> Result<()> {
        let Some(tls) = &self.collector_tls else { return Ok(()) };
        match (&tls.cert, &tls.key, &tls.signer) {
            (Some(_), Some(_), None) => {}
            (None, None, Some(_)) if self.kubernetes.is_some() => {}
            (None, None, Some(_)) => {
                bail!("`[collector_tls]` has a `signer`: say with `[kubernetes]` in which cluster")
            }
            _ => bail!("`[collector_tls]` takes `cert` and `key`, or else a `signer`"),
        }
        if !(10..=86_400).contains(&tls.connection_max_s) {
            bail!("`connection_max_s` is {}, expected 10 to 86400", tls.connection_max_s);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_from_files_or_from_the_cluster() {
        let parsed = |more: &str, end: &str| Config::parse(&format!("[collector_tls]\nca = \"/ca\"\n{more}\n{end}"));
        let files = |config: Config| config.collector_files().unwrap();
        let by_files = files(parsed("cert = \"/c\"\nkey = \"/k\"", "").unwrap());
        assert_eq!((by_files.cert, by_files.key), ("/c".into(), "/k".into()));
        let by_cluster = files(parsed("signer = \"a.b/c\"", "[kubernetes]").unwrap());
        assert_eq!((by_cluster.cert.as_path(), by_cluster.ca), (by_cluster.key.as_path(), "/ca".into()));
        for (more, end, why) in [
            ("cert = \"/c\"", "", "or else a `signer`"),
            ("cert = \"/c\"\nkey = \"/k\"\nsigner = \"a.b/c\"", "[kubernetes]", "or else a `signer`"),
            ("signer = \"a.b/c\"", "", "in which cluster"),
            ("cert = \"/c\"\nkey = \"/k\"\nconnection_max_s = 1", "", "expected 10 to 86400"),
        ] {
            let error = parsed(more, end).unwrap_err().to_string();
            assert!(error.contains(why), "{more}: {error}");
        }
    }
}
