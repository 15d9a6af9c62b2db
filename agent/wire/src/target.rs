//! The request target: which form it has, and its path and query.
//!
//! The query passes as it is: it is not judged yet, and servers agree on where it begins.

use crate::limits::TARGET_MAX;
use crate::{Authority, CanonicalPath, HeadError, HeadRules};

/// The form of a request target (RFC 9112 §3.2). CONNECT's form is never accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`, of the same scheme and host as the connection and Host.
    Absolute,
    /// `*`, with OPTIONS.
    Asterisk,
}

/// A request target taken apart.
#[derive(Debug)]
pub(crate) struct Target {
    pub form: TargetForm,
    pub authority: Option<Authority>,
    pub path: CanonicalPath,
    pub query: Option<String>,
}

impl Target {
    /// Takes the target of a request with this method apart.
    pub fn read(method: &str, target: &str, rules: &HeadRules) -> Result<Self, HeadError> {
        if target.len() > TARGET_MAX {
            return Err(HeadError::TargetTooLong);
        }
        if !target.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HeadError::TargetChar);
        }
        if target.contains('#') {
            return Err(HeadError::Fragment);
        }
        if target == "*" {
            let path = CanonicalPath::asterisk();
            let asterisk = Self { form: TargetForm::Asterisk, authority: None, path, query: None };
            return if method == "OPTIONS" { Ok(asterisk) } else { Err(HeadError::AsteriskMethod) };
        }
        if target.starts_with('/') {
            let (path, query) = split_query(target)?;
            return Ok(Self { form: TargetForm::Origin, authority: None, path: CanonicalPath::parse(path)?, query });
        }
        Self::read_absolute(method, target, rules)
    }

    fn read_absolute(method: &str, target: &str, rules: &HeadRules) -> Result<Self, HeadError> {
        let (scheme, rest) = target.split_once("://").ok_or(HeadError::TargetForm)?;
        let tls = match scheme {
            s if s.eq_ignore_ascii_case("http") => false,
            s if s.eq_ignore_ascii_case("https") => true,
            _ => return Err(HeadError::TargetForm),
        };
        if tls != rules.tls {
            return Err(HeadError::SchemeMismatch);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(HeadError::TargetForm)?;
        // An Authority without Host's grammar is an odd target rather than an odd Host.
        let authority = Authority::parse(authority, rules.default_port).map_err(|e| match e {
            HeadError::HostInvalid => HeadError::TargetForm,
            other => other,
        })?;
        let (path, query) = split_query(rest)?;
        let path = match path {
            // RFC 9112 §3.2.4: this is `*` to the last hop, and `/` to a server that does not know.
            "" if method == "OPTIONS" => return Err(HeadError::TargetForm),
            "" => "/",
            path => path,
        };
        let path = CanonicalPath::parse(path)?;
        Ok(Self { form: TargetForm::Absolute, authority: Some(authority), path, query })
    }
}

/// Splits at the first `?`. In the query, `"<>` are refused because hyper refuses them, each other graphic character passes.
fn split_query(text: &str) -> Result<(&str, Option<String>), HeadError> {
    match text.split_once('?') {
        None => Ok((text, None)),
        Some((_, query)) if query.contains(['"', '<', '>']) => Err(HeadError::TargetChar),
        Some((path, query)) => Ok((path, Some(query.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: HeadRules = HeadRules { tls: false, default_port: 80 };

    #[test]
    fn tells_the_forms_apart() {
        let origin = Target::read("GET", "/a?b=/../?%", &PLAIN).unwrap();
        assert_eq!(
            (origin.form, origin.path.as_str(), origin.query.as_deref()),
            (TargetForm::Origin, "/a", Some("b=/../?%"))
        );
        let absolute = Target::read("GET", "HTTP://API.example:80?x", &PLAIN).unwrap();
        assert_eq!(absolute.form, TargetForm::Absolute);
        assert_eq!(absolute.authority.unwrap().service.to_string(), "api.example:80");
        assert_eq!((absolute.path.as_str(), absolute.query.as_deref()), ("/", Some("x")));
        assert_eq!(Target::read("OPTIONS", "*", &PLAIN).unwrap().form, TargetForm::Asterisk);
    }

    #[test]
    fn refuses_other_forms() {
        use HeadError::*;
        for (method, target, error) in [
            ("GET", "*", AsteriskMethod),
            ("GET", "a", TargetForm),
            ("GET", "api.example:443", TargetForm),
            ("GET", "ftp://a/", TargetForm),
            ("GET", "http://", TargetForm),
            ("GET", "http:///a", TargetForm),
            ("GET", "http://a:b/", TargetForm),
            ("OPTIONS", "http://a", TargetForm),
            ("GET", "https://a/", SchemeMismatch),
            ("GET", "http://u:p@a/", Userinfo),
            ("GET", "/a#b", Fragment),
            ("GET", "/a\u{7f}", TargetChar),
            ("GET", "/a?<b>", TargetChar),
            ("GET", "http://a\\b/", TargetForm),
        ] {
            assert_eq!(Target::read(method, target, &PLAIN).unwrap_err(), error, "{target}");
        }
        let long = format!("/{}", "a".repeat(TARGET_MAX));
        assert_eq!(Target::read("GET", &long, &PLAIN).unwrap_err(), TargetTooLong);
    }
}
