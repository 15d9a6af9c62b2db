//! Patterns of cgroup paths: `*` within one level, `**` over any number of them.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use thiserror::Error;

/// A glob over paths below the cgroup v2 mount, without a leading slash.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(GlobMatcher);

/// A text that is no [`Pattern`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{text}` is no pattern of cgroup paths: {why}")]
pub struct PatternError {
    text: String,
    why: String,
}

impl Pattern {
    /// Reads `text`: `*`, `?`, `[a-z]` and `{a,b}` within one level, `**` for any number of levels.
    ///
    /// # Errors
    /// [`PatternError`] for what is no glob, is empty, begins with a slash, or holds `..`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let refuse = |why: &str| PatternError { text: text.to_owned(), why: why.to_owned() };
        if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
            return Err(refuse("write the path below the cgroup v2 mount, without a slash at either end"));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(refuse("it holds `..`"));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        glob.map(|glob| Self(glob.compile_matcher())).map_err(|error| refuse(&error.kind().to_string()))
    }

    /// Whether `text` has signs that stand for others; without any, it is one path.
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '{'])
    }

    /// Whether it matches the whole of `path`.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.0.is_match(path)
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_level() {
        for (pattern, matching, others) in [
            (
                "kubepods*/**/pod*",
                &["kubepods/pod1", "kubepods.slice/a/b/pod1"][..],
                &["kubepods", "x/kubepods/pod1", "kubepods/pod1/c"][..],
            ),
            (
                "system.slice/*.service",
                &["system.slice/a.service"],
                &["system.slice/a.service/b", "system.slice/x/a.service"],
            ),
            ("**/docker-*.scope", &["docker-1.scope", "a/b/docker-1.scope"], &["docker-1.scope/c"]),
            ("ci/{a,b}/?", &["ci/a/1", "ci/b/2"], &["ci/c/1", "ci/a/12"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            for path in matching {
                assert!(parsed.matches(Path::new(path)), "{pattern} {path}");
            }
            for path in others {
                assert!(!parsed.matches(Path::new(path)), "{pattern} {path}");
            }
        }
        assert!(Pattern::is_pattern("a/*") && !Pattern::is_pattern("system.slice/user@1.service"));
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for text in ["", "/a/*", "a/*/", "../*", "a/[", "{a"] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains("no pattern"), "{error}");
        }
    }
}
