//! `[traces]`: spans of calls for an OpenTelemetry collector.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use http::Uri;
use serde::Deserialize;

/// The section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Where OTLP is spoken over gRPC: `https://HOST:PORT`, or `http://ADDRESS:PORT` (loopback only).
    pub endpoint: String,
    /// PEM file whose roots are trusted for it beside the system's.
    pub ca: Option<PathBuf>,
    /// How many of the calls without a parent are followed, from 0 to 1. With one, its caller decides.
    #[serde(default = "all")]
    pub sample_ratio: f64,
}

fn all() -> f64 {
    1.0
}

impl TracesConfig {
    /// Whether it can be used.
    ///
    /// # Errors
    /// Names the key that is unfit.
    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            bail!("`sample_ratio` of `[traces]` is {}, expected 0 to 1", self.sample_ratio);
        }
        let uri = self.uri()?;
        if self.ca.is_some() && uri.scheme_str() != Some("https") {
            bail!("`ca` of `[traces]` is for an `endpoint` that begins with `https://`");
        }
        Ok(())
    }

    /// The endpoint.
    ///
    /// # Errors
    /// If it is none, or plain text would leave the host.
    pub fn uri(&self) -> Result<Uri> {
        let shown = format!("`endpoint` of `[traces]`: `{}`", self.endpoint);
        let uri: Uri = self.endpoint.parse().with_context(|| format!("{shown} is no address"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if uri.path() != "/" || uri.query().is_some() || host.is_empty() || self.endpoint.contains('@') {
            bail!("{shown} is no `https://HOST:PORT` or `http://ADDRESS:PORT`");
        }
        let is_local = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if is_local => Ok(uri),
            Some("http") => bail!("{shown} is no loopback address: plain text stays on this host, use `https://`"),
            _ => bail!("{shown} must begin with `https://` or `http://`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn plain_text_stays_on_this_host() {
        let read = |text: &str| Config::parse(&format!("[traces]\n{text}")).map_err(|error| format!("{error:#}"));
        let traces = read("endpoint = \"http://127.0.0.1:4317\"").unwrap().traces.unwrap();
        assert_eq!(traces.sample_ratio, 1.0);
        read("endpoint = \"https://otel.example:4317\"\nca = \"/x\"").unwrap();
        for (text, said) in [
            ("endpoint = \"http://otel.example:4317\"", "is no loopback address"),
            ("endpoint = \"http://192.0.2.1:4317\"", "is no loopback address"),
            ("endpoint = \"127.0.0.1:4317\"", "is no"),
            ("endpoint = \"https://u:p@otel.example:4317\"", "is no"),
            ("endpoint = \"https://otel.example:4317/v1/traces\"", "is no"),
            ("endpoint = \"http://[::1]:4317\"\nca = \"/x\"", "`ca` of"),
            ("endpoint = \"http://[::1]:4317\"\nsample_ratio = 1.5", "expected 0 to 1"),
            ("sample_ratio = 0.5", "endpoint"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
