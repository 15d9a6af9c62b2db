//! Matches a subject against a pattern in which `*` stands for any run of characters. Linear in memory, no recursion.

/// Longest pattern. Unit: bytes. With subjects of at most 512 bytes it bounds the time of the worst match.
pub(super) const PATTERN_MAX: usize = 256;

/// Whether all of `text` matches `pattern`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(first) = pieces.next() else { return text.is_empty() };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        // The earliest place is always good enough: what follows has the most room then.
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_and_everything_else_is_itself() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "a"),
            ("a", "a"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*b*c", "aXbbYc"),
            ("a**c", "ac"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "ab"),
            ("a", "ba"),
            ("a*a", "a"),
            ("*a", "ab"),
            ("a*b*c", "acb"),
            ("a?", "ab"),
            (".*", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
