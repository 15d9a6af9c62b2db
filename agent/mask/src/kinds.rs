//! The words that stand for kinds in policies (`@mask("pii")`) and on the command line.

use callgate_model::MaskKinds;

use crate::detectors::{DETECTORS, Detector};

/// A word for several kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// What identifies a person.
    Pii,
    /// What opens a door.
    Secrets,
}

impl Group {
    /// Every group.
    pub const EVERY: [Self; 2] = [Self::Pii, Self::Secrets];

    /// The word in policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pii => "pii",
            Self::Secrets => "secrets",
        }
    }
}

/// The word for every kind there is.
const ALL: &str = "all";

/// The kinds that `word` stands for: a kind's name, a group's, or `all`. `None` if there is no such word.
///
/// `all` holds every kind of a group; what is in none (`private_ip`) must be named.
/// `WORD=partial` and `WORD=pseudonym` stand for those of them that can be replaced so.
///
/// ```
/// use callgate_mask::kinds_named;
/// assert!(kinds_named("pii").unwrap().covers(kinds_named("email").unwrap()));
/// assert!(kinds_named("jwt=partial").is_none());
/// assert!(kinds_named("Email").is_none());
/// ```
#[must_use]
pub fn kinds_named(word: &str) -> Option<MaskKinds> {
    let (word, fits): (&str, fn(&Detector) -> bool) = match word.split_once('=') {
        None => (word, |_| true),
        Some((word, "partial")) => (word, Detector::has_partial),
        Some((word, "pseudonym")) => (word, Detector::has_pseudonym),
        Some(_) => return None,
    };
    let kinds = union(DETECTORS.iter().filter(|detector| fits(detector)).filter(|detector| {
        word == ALL && !detector.groups.is_empty()
            || word == detector.name
            || detector.groups.iter().any(|group| word == group.name())
    }));
    (!kinds.is_empty()).then_some(kinds)
}

/// Every word that [`kinds_named`] knows: `all`, the groups, the kinds.
pub fn kind_names() -> impl Iterator<Item = &'static str> {
    std::iter::once(ALL)
        .chain(Group::EVERY.iter().map(|group| group.name()))
        .chain(DETECTORS.iter().map(|detector| detector.name))
}

/// Names of the kinds in `kinds`, in the table's order.
pub fn names_of(kinds: MaskKinds) -> impl Iterator<Item = &'static str> {
    DETECTORS.iter().filter(move |detector| kinds.covers(detector.kind())).map(|detector| detector.name)
}

/// Every kind that has a detector.
pub(crate) fn known() -> MaskKinds {
    union(DETECTORS.iter())
}

fn union<'a>(detectors: impl Iterator<Item = &'a Detector>) -> MaskKinds {
    detectors.fold(MaskKinds::NONE, |kinds, detector| kinds.union(detector.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_listed_is_known() {
        for word in kind_names() {
            assert!(kinds_named(word).is_some(), "{word}");
        }
        for word in ["", "none", "Email", "pii ", "everything"] {
            assert_eq!(kinds_named(word), None, "{word}");
        }
    }

    #[test]
    fn groups_hold_what_they_say() {
        let names = |word| names_of(kinds_named(word).unwrap_or_default()).collect::<Vec<_>>();
        assert!(names("pii").starts_with(&["email", "payment_card", "iban", "us_ssn"]));
        assert!(names("secrets").starts_with(&["jwt", "pem_private_key", "aws_key"]));
        let private = kinds_named("private_ip").unwrap();
        assert_eq!(kinds_named("all"), Some(known().without(private)));
        assert!(!kinds_named("pii").unwrap().covers(private));
        assert_eq!(names("secrets=partial"), [""; 0]);
    }
}
