//! The shape of a path: what stands for one thing of many becomes `*`.

/// Longest segment that is taken for a word. Source: ours; words of interfaces are shorter, ids are not.
const WORD_MAX: usize = 32;

/// A path whose segments are words or `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Shape(Vec<Option<String>>);

impl Shape {
    /// The shape of `path`.
    pub(crate) fn of(path: &str) -> Self {
        let segments = path.strip_prefix('/').unwrap_or(path).split('/');
        Self(segments.map(|segment| (!is_id(segment)).then(|| segment.to_owned())).collect())
    }

    /// `path` as it is.
    pub(crate) fn exact(path: &str) -> Self {
        let segments = path.strip_prefix('/').unwrap_or(path).split('/');
        Self(segments.map(|segment| Some(segment.to_owned())).collect())
    }

    /// Its segments; none stands for any.
    pub(crate) fn segments(&self) -> &[Option<String>] {
        &self.0
    }

    /// Whether it stands for one path alone.
    pub(crate) fn is_exact(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for segment in &self.0 {
            write!(f, "/{}", segment.as_deref().unwrap_or("*"))?;
        }
        Ok(())
    }
}

/// Whether a segment is an id rather than a word: a number, hexadecimal, a UUID, something masked or encoded, a mix of
/// letters and several digits, or long. A version (`v1`) is a word.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let letters = segment.bytes().filter(u8::is_ascii_alphabetic).count();
    let hexadecimal =
        segment.len() >= 8 && digits > 0 && segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let number = digits > 0 && letters == 0;
    number
        || hexadecimal
        || segment.contains("[masked")
        || segment.contains(['%', '@', ':'])
        || (digits >= 3 && letters > 0)
        || segment.len() > WORD_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_stars_and_words_stay() {
        for (path, shape) in [
            ("/", "/"),
            ("/v1/users/7", "/v1/users/*"),
            ("/v1/users/7/cards/", "/v1/users/*/cards/"),
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/orders/A-7", "/orders/A-7"),
            ("/orders/ord_8f3a91", "/orders/*"),
            ("/o/019ab0d4-7f11-7000-8000-0c61c8d0d6fe", "/o/*"),
            ("/o/deadbeef00", "/o/*"),
            ("/o/deadbeef", "/o/deadbeef"),
            ("/u/[masked:email]", "/u/*"),
            ("/u/ann%20b", "/u/*"),
            ("/2026-11-22/report", "/*/report"),
            ("/oauth2/token", "/oauth2/token"),
        ] {
            assert_eq!(Shape::of(path).to_string(), shape, "{path}");
        }
        assert!(Shape::exact("/pkg.Svc123/Get").is_exact());
    }
}
