//! `[[issuer]]` of the configuration: who may vouch for callers, and on which terms.
//!
//! Read by serde, then checked by [`Issuers::new`](super::Issuers::new), which names the key that is unfit.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri, header};
use serde::Deserialize;

use super::{Algorithm, ClusterTokens, IssuersError, glob};

/// Longest leeway that can be configured. Unit: seconds.
const LEEWAY_MAX_S: u64 = 300;
/// Longest use of keys beyond their time: a week. Unit: hours.
const STALE_MAX_H: u64 = 168;

/// One `[[issuer]]`. An unknown key is an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The issuer's identifier, an `https://` URL, compared with `iss` byte for byte.
    pub issuer: String,
    /// Who we are to this issuer: a token must name one of them in `aud`.
    pub audience: Vec<String>,
    /// Algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are; none: OIDC discovery.
    pub jwks_uri: Option<String>,
    /// PEM file of the CA certificates to trust for its TLS, beside the system's.
    pub ca: Option<PathBuf>,
    /// How far clocks may be apart. Unit: seconds, 0 to 300.
    #[serde(default = "leeway_s")]
    pub leeway_s: u64,
    /// How long its keys are used beyond their time when they cannot be fetched. Unit: hours, 0 to 168.
    #[serde(default = "stale_max_h")]
    pub stale_max_h: u64,
    /// The claim that lists groups.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// The header that its tokens come in: `authorization` (as a Bearer token) or one of its own (the bare token).
    #[serde(default = "header_name")]
    pub header: String,
    /// Whether the header goes on to the service; else it is taken off.
    #[serde(default)]
    pub forward: bool,
    /// Which subjects it may name; `*` stands for any run of characters. None: all.
    pub subject: Option<String>,
}

fn leeway_s() -> u64 {
    30
}

fn stale_max_h() -> u64 {
    24
}

fn groups_claim() -> String {
    "groups".into()
}

fn header_name() -> String {
    "authorization".into()
}

/// An issuer whose settings are fit.
#[derive(Debug)]
pub(super) struct Terms {
    pub issuer: String,
    pub audience: BTreeSet<String>,
    pub algorithms: Vec<Algorithm>,
    /// None: the cluster's API has them.
    pub keys_at: Option<KeysAt>,
    pub leeway_s: u64,
    pub stale_max: Duration,
    pub groups_claim: String,
    pub header: HeaderName,
    pub forward: bool,
    pub subject: Option<String>,
    /// Whether it is the cluster, whose claims mean more.
    pub is_cluster: bool,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug)]
pub(super) enum KeysAt {
    /// Here.
    Jwks(Uri),
    /// Where the discovery document at this address says.
    Discovery(Uri),
}

impl Terms {
    /// # Errors
    /// Names the key whose value is unfit.
    pub fn of(config: &IssuerConfig) -> Result<Self, IssuersError> {
        let unfit = |key, detail: &str| IssuersError::setting(&config.issuer, key, detail);
        let issuer = address(&config.issuer).map_err(|detail| unfit("issuer", detail))?;
        if issuer.query().is_some() {
            // OpenID Connect Discovery 1.0 §2: an issuer has neither query nor fragment.
            return Err(unfit("issuer", "it may have no query"));
        }
        let keys_at = match &config.jwks_uri {
            Some(uri) => KeysAt::Jwks(address_below(uri, &issuer).map_err(|detail| unfit("jwks_uri", detail))?),
            None => KeysAt::Discovery(discovery(&config.issuer).map_err(|detail| unfit("issuer", detail))?),
        };
        if config.audience.is_empty() || config.audience.iter().any(String::is_empty) {
            return Err(unfit("audience", "name at least one, none of them empty"));
        }
        if config.algorithms.is_empty() {
            return Err(unfit("algorithms", "name at least one"));
        }
        if config.leeway_s > LEEWAY_MAX_S {
            return Err(unfit("leeway_s", "0 to 300 are accepted"));
        }
        if config.stale_max_h > STALE_MAX_H {
            return Err(unfit("stale_max_h", "0 to 168 are accepted"));
        }
        if config.groups_claim.is_empty() || REGISTERED.contains(&config.groups_claim.as_str()) {
            return Err(unfit("groups_claim", "it must be a claim of its own"));
        }
        let header = Self::header(&config.header).map_err(|detail| unfit("header", detail))?;
        if config.subject.as_ref().is_some_and(|pattern| pattern.len() > glob::PATTERN_MAX) {
            return Err(unfit("subject", "the pattern is too long"));
        }
        Ok(Self {
            issuer: config.issuer.clone(),
            audience: config.audience.iter().cloned().collect(),
            algorithms: config.algorithms.clone(),
            keys_at: Some(keys_at),
            leeway_s: config.leeway_s,
            stale_max: Duration::from_secs(config.stale_max_h * 3600),
            groups_claim: config.groups_claim.clone(),
            header,
            forward: config.forward,
            subject: config.subject.clone(),
            is_cluster: false,
        })
    }

    /// Those of the cluster, which calls itself `issuer`.
    pub fn of_cluster(issuer: &str, tokens: &ClusterTokens, header: HeaderName) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: tokens.audience.iter().cloned().collect(),
            algorithms: CLUSTER_ALGORITHMS.to_vec(),
            keys_at: None,
            leeway_s: leeway_s(),
            stale_max: Duration::from_secs(stale_max_h() * 3600),
            groups_claim: groups_claim(),
            header,
            forward: tokens.forward,
            subject: None,
            is_cluster: true,
        }
    }

    /// # Errors
    /// What is wrong with the name.
    pub fn header(name: &str) -> Result<HeaderName, &'static str> {
        let header = HeaderName::try_from(name).map_err(|_| "it is not a header's name")?;
        if FRAMING.contains(&header) { Err("that header has another meaning") } else { Ok(header) }
    }
}

/// Algorithms that API servers sign with. Source: kube-apiserver's `--service-account-signing-key-file`.
const CLUSTER_ALGORITHMS: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::ES384];

/// Claims with a meaning of their own. Source: RFC 7519 §4.1.
const REGISTERED: &[&str] = &["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// Headers that frame a message or that every application uses for something else.
const FRAMING: &[HeaderName] = &[
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Reads the address of an issuer or of its keys: `https`, or `http` to a loopback address, and nothing odd.
pub(super) fn address(text: &str) -> Result<Uri, &'static str> {
    if text.contains(['#', '\\']) || text.contains(char::is_whitespace) {
        return Err("an address with a fragment, a backslash or a blank is not accepted");
    }
    let uri: Uri = text.parse().map_err(|_| "it is not an address")?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("an address with a user is not accepted");
    }
    match (uri.scheme_str(), uri.host()) {
        (_, None | Some("")) => Err("it names no host"),
        (Some("https"), _) => Ok(uri),
        (Some("http"), Some(host)) if is_loopback(host) => Ok(uri),
        (Some("http"), _) => Err("http:// is accepted for loopback addresses only, use https://"),
        _ => Err("it must begin with https://"),
    }
}

/// The same, for an address that `issuer` names: never less protected than the issuer's own.
pub(super) fn address_below(text: &str, issuer: &Uri) -> Result<Uri, &'static str> {
    let uri = address(text)?;
    if issuer.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
        return Err("an https:// issuer must have its keys at an https:// address");
    }
    Ok(uri)
}

/// Where the discovery document of `issuer` is. Source: OpenID Connect Discovery 1.0 §4.1.
fn discovery(issuer: &str) -> Result<Uri, &'static str> {
    address(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // `localhost` is a name like any other, and is not accepted.
    bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "issuer = \"https://idp.example\"\naudience = [\"gate\"]\nalgorithms = [\"ES256\"]\n";

    fn terms(text: &str) -> Result<Terms, String> {
        let config: IssuerConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        Terms::of(&config).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let terms = terms(GOOD).unwrap();
        assert_eq!((terms.leeway_s, terms.groups_claim.as_str(), terms.forward), (30, "groups", false));
        assert_eq!(terms.header, header::AUTHORIZATION);
        let Some(KeysAt::Discovery(at)) = terms.keys_at else { panic!("no discovery") };
        assert_eq!(at, "https://idp.example/.well-known/openid-configuration");
    }

    #[test]
    fn symmetric_algorithms_and_none_are_refused_when_read() {
        for algorithm in ["HS256", "HS384", "HS512", "none", "None", "ES256K", "rs256"] {
            let text = GOOD.replace("ES256", algorithm);
            let said = terms(&text).unwrap_err();
            assert!(said.contains(algorithm) && said.contains("asymmetric"), "{said}");
        }
    }

    #[test]
    fn unfit_values_are_named() {
        let cases = [
            ("leeway = 1", "leeway"),
            ("leeway_s = 301", "leeway_s"),
            ("leeway_s = -1", "leeway_s"),
            ("stale_max_h = 169", "stale_max_h"),
            ("header = \"host\"", "header"),
            ("header = \"x y\"", "header"),
            ("groups_claim = \"sub\"", "groups_claim"),
            ("groups_claim = \"\"", "groups_claim"),
            ("jwks_uri = \"http://127.0.0.1/keys\"", "jwks_uri"),
            ("jwks_uri = \"https://user@idp.example/keys\"", "jwks_uri"),
            ("jwks_uri = \"/keys\"", "jwks_uri"),
            ("ca = 1", "ca"),
        ];
        for (line, key) in cases {
            let said = terms(&format!("{GOOD}{line}\n")).unwrap_err();
            assert!(said.contains(key), "{line}: {said}");
        }
        for (from, to, key) in [
            ("[\"gate\"]", "[]", "audience"),
            ("[\"gate\"]", "[\"\"]", "audience"),
            ("[\"ES256\"]", "[]", "algorithms"),
            ("issuer", "issuers", "issuers"),
            ("idp.example", "idp.example/?x", "issuer"),
            ("idp.example", "user@idp.example", "issuer"),
        ] {
            let said = terms(&GOOD.replace(from, to)).unwrap_err();
            assert!(said.contains(key), "{to}: {said}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_addresses_only() {
        for fit in [
            "http://127.0.0.1:8080",
            "https://idp.example/keys?p=a%20b",
            "http://127.9.9.9/x",
            "http://[::1]:80/realm",
            "https://idp.example/",
        ] {
            assert!(address(fit).is_ok(), "{fit}");
        }
        for unfit in [
            "http://idp.example",
            "http://localhost:80",
            "http://127.0.0.1.example",
            "http://0.0.0.0",
            "http://[::ffff:10.0.0.1]",
            "http://169.254.169.254",
            "ftp://127.0.0.1",
            "https://",
            "idp.example",
            "https://idp.example/#x",
            "https://a@idp.example/",
            "",
        ] {
            assert!(address(unfit).is_err(), "{unfit}");
        }
    }
}
