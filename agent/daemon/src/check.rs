//! `callgate-agent --check`: all of a configuration that can be told without starting.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use callgate_enroll::cgroup;
use callgate_identity::callers::Issuers;
use callgate_identity::upstream_config;
use callgate_uplink::{ClientTls, Endpoint};

use crate::config::What;
use crate::{Config, place};

/// Tries what `config` names, but for the policies: roots of upstreams, collector, limits of DNS, enrolments.
///
/// Gives what is no fault and still worth a look: cgroups that are not there yet.
///
/// # Errors
/// The first thing that is unfit, with its key.
pub fn check(config: &Config) -> Result<Vec<String>> {
    upstream_config(&config.upstream_ca, &[]).context("`upstream_ca`")?;
    config.detectors()?;
    Issuers::new(&config.issuer).context("`[[issuer]]`")?;
    if let Some(collector) = &config.collector {
        let endpoint = collector.parse::<Endpoint>().context("`collector`")?;
        check_certificates(config, &endpoint)?;
    }
    config.dns.settings().and_then(|settings| Ok(settings.check()?)).context("`[dns]`")?;
    let mut seen = BTreeSet::new();
    let mut notes = Vec::new();
    for entry in &config.enroll {
        let named = || format!("`[[enroll]]` of `{}`", entry.shown());
        let What::Path(path) = &entry.what else {
            entry.rule().with_context(named)?;
            continue;
        };
        let path = place::directory(config, path).with_context(named)?;
        if !path.is_dir() {
            notes.push(format!("{}: there is no such cgroup now; it is enrolled when it appears", named()));
        }
        if !seen.insert(path) {
            bail!("{}: it is enrolled twice", named());
        }
    }
    if let Some(strict) = &config.strict {
        let path = place::at_or_below_root(config, strict).context("`strict`")?;
        if path == cgroup::cgroup2_mount()? {
            bail!(
                "`strict`: it is the cgroup v2 mount itself, where everything of this host lives: name a cgroup below it"
            );
        }
        if !path.is_dir() {
            bail!("`strict`: there is no cgroup `{}`: make it before the agent starts", path.display());
        }
    }
    config.exempt()?;
    Ok(notes)
}

/// The collector takes a node's records from a certificate that names that node, and from no other.
fn check_certificates(config: &Config, endpoint: &Endpoint) -> Result<()> {
    if !matches!(endpoint, Endpoint::Tls(_)) {
        return Ok(());
    }
    let (Some(tls), Some(files)) = (&config.collector_tls, config.collector_files()) else {
        bail!("`collector`: `{endpoint}` takes certificates: configure `[collector_tls]`");
    };
    if tls.signer.is_some() {
        return Ok(());
    }
    let certificate = ClientTls::check(&files).context("`[collector_tls]`")?;
    let node = config.node_name();
    if !certificate.client.is_node(&node) {
        bail!(
            "`[collector_tls]`: the certificate in `{}` names {:?} and not this node, `node/{node}`: the collector would refuse its records",
            files.cert.display(),
            certificate.client.names()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(more: &str) -> Result<Vec<String>, String> {
        check(&Config::parse(more).unwrap()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_would_not_start_is_named() {
        assert_eq!(checked("").unwrap(), [""; 0]);
        for (more, key) in [
            ("upstream_ca = [\"/no/such.pem\"]", "upstream_ca"),
            ("collector = \"tcp:1\"", "collector"),
            ("collector = \"http://192.0.2.1:4700\"", "takes TLS"),
            ("collector = \"https://192.0.2.1:4700\"", "configure `[collector_tls]`"),
            (
                "collector = \"https://192.0.2.1:4700\"\n[collector_tls]\nca = \"/x\"\ncert = \"/x\"\nkey = \"/x\"",
                "cannot read `/x`",
            ),
            ("[dns]\nqueries_per_s = 0", "`queries_per_s` is 0"),
            ("[dns]\nexempt = [\"a..b\"]", "`a..b` is no name"),
            ("[[enroll]]\ncgroup = \"/tmp\"", "[[enroll]]` of `/tmp`"),
            ("[[enroll]]\ncgroup = \"a\"\n[[enroll]]\ncgroup = \"a\"", "twice"),
            ("[[enroll]]\ncgroup = \"/tmp/*\"", "[[enroll]]` of `/tmp/*`"),
            ("strict = \"/tmp\"", "`strict`"),
            ("strict = \"callgate-test-none\"", "there is no cgroup"),
            ("unenrolled = [\"a/*\"]", "without `strict`"),
        ] {
            let error = checked(more).unwrap_err();
            assert!(error.contains(key), "{more}: {error}");
        }
        let missing = checked("[[enroll]]\ncgroup = \"callgate-test-none\"").unwrap();
        assert!(missing[0].contains("when it appears"), "{missing:?}");
    }
}
