//! Masks a short text at once: a header's value, a path, a query.

use std::borrow::Cow;
use std::sync::Arc;

use callgate_model::MaskKinds;

use crate::content::Content;
use crate::decode;
use crate::masker::Masker;
use crate::rules::Rules;

/// What stands for a text that cannot be masked.
const UNMASKABLE: &str = "[masked]";

/// `text` with every finding of `kinds` replaced; borrowed if there is none.
/// A text that cannot be masked (kinds of a later version) becomes `[masked]` as a whole.
///
/// ```
/// use callgate_mask::{kinds_named, mask_text};
/// let pii = kinds_named("pii").unwrap();
/// assert_eq!(mask_text(pii, "/users?mail=ann%40example.com"), "/users?mail=[masked:email]");
/// ```
#[must_use]
pub fn mask_text(kinds: MaskKinds, text: &str) -> Cow<'_, str> {
    if kinds.is_empty() {
        return Cow::Borrowed(text);
    }
    mask_text_by(&Rules::redact(kinds), text)
}

/// As [`mask_text`], by rules of any kind.
#[must_use]
pub fn mask_text_by<'a>(rules: &Arc<Rules>, text: &'a str) -> Cow<'a, str> {
    // Most texts are short and clean, and that is told without a masker.
    if rules.state.is_ok() && decode::is_clean(rules, Content::Text, 0, text.as_bytes()) == Ok(true) {
        return Cow::Borrowed(text);
    }
    let mut masker = Masker::by(rules, Content::Text);
    let mut out = Vec::with_capacity(text.len());
    if masker.push(text.as_bytes(), &mut out).and_then(|()| masker.finish(&mut out)).is_err() {
        return Cow::Borrowed(UNMASKABLE);
    }
    if masker.findings() == 0 {
        return Cow::Borrowed(text);
    }
    String::from_utf8(out).map_or(Cow::Borrowed(UNMASKABLE), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{kinds_named, known};

    #[test]
    fn borrows_what_is_clean() {
        assert!(matches!(mask_text(known(), "/v1/users/7?page=2"), Cow::Borrowed("/v1/users/7?page=2")));
        assert!(matches!(mask_text(MaskKinds::NONE, "ann@example.com"), Cow::Borrowed("ann@example.com")));
    }

    #[test]
    fn masks_kinds_asked_for_only() {
        let secrets = kinds_named("secrets").unwrap();
        assert_eq!(mask_text(secrets, "ann@example.com AKIAIOSFODNN7EXAMPLE"), "ann@example.com [masked:aws_key]");
    }

    #[test]
    fn a_kind_of_a_later_version_masks_everything() {
        assert_eq!(mask_text(MaskKinds(1 << 63), "harmless"), UNMASKABLE);
    }
}
