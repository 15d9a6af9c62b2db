//! What must be masked in an answer, and how: the meaning of `@mask("…")`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which kinds of findings to replace: one bit per row of the masker's table of detectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaskKinds(pub u64);

impl MaskKinds {
    /// No kind.
    pub const NONE: Self = Self(0);

    /// Whether no kind is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every kind of `other` is in it.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What stands in the place of a finding. The greater one wins where two are demanded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskHow {
    /// Its kind, and a part that tells little: a card's last four digits.
    Partial,
    /// Its kind, and a keyed hash: the same value has the same one, so that joins survive.
    Pseudonym,
    /// Its kind alone.
    #[default]
    Redact,
}

impl MaskHow {
    /// Each with its word in policies.
    pub const WORDS: [(&'static str, Self); 3] =
        [("redact", Self::Redact), ("partial", Self::Partial), ("pseudonym", Self::Pseudonym)];

    /// The word in policies.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Pseudonym => "pseudonym",
            Self::Redact => "redact",
        }
    }
}

/// A place whose value is masked whatever it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskPlace {
    /// A value in JSON: a pointer (RFC 6901), in which `*` stands for any one segment.
    Json(String),
    /// A header, by its name in lower case.
    Header(String),
    /// A field of a form, by its name.
    Form(String),
}

/// What must be masked: the union over the determining policies.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Masking {
    /// Kinds that are replaced whole.
    pub redact: MaskKinds,
    /// Kinds of which a part is left.
    pub partial: MaskKinds,
    /// Kinds that are replaced by a keyed hash.
    pub pseudonym: MaskKinds,
    /// Places, sorted, each once.
    pub places: Vec<(MaskPlace, MaskHow)>,
}

/// Redacts these kinds.
impl From<MaskKinds> for Masking {
    fn from(kinds: MaskKinds) -> Self {
        Self { redact: kinds, ..Self::default() }
    }
}

impl Masking {
    /// Most places of one policy set's answer. Source: ours; each costs a comparison per value.
    pub const PLACES_MAX: usize = 64;

    /// Whether nothing is masked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds().is_empty() && self.places.is_empty()
    }

    /// Every kind that is replaced, however.
    #[must_use]
    pub fn kinds(&self) -> MaskKinds {
        self.redact.union(self.partial).union(self.pseudonym)
    }

    /// Both together: what is redacted by one is redacted, then what has a pseudonym has one.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.redact = self.redact.union(other.redact);
        self.pseudonym = self.pseudonym.union(other.pseudonym).without(self.redact);
        self.partial = self.partial.union(other.partial).without(self.redact).without(self.pseudonym);
        for (place, how) in &other.places {
            self.add(place.clone(), *how);
        }
        self
    }

    /// Reads `WHAT` or `WHAT=HOW`, separated by commas. `kinds` tells the kinds of a word, and of `WORD=HOW` those of
    /// them that can be replaced so.
    ///
    /// # Errors
    /// See [`MaskWordError`].
    pub fn parse(text: &str, kinds: impl Fn(&str) -> Option<MaskKinds>) -> Result<Self, MaskWordError> {
        let mut masking = Self::default();
        for word in text.split(',').map(str::trim) {
            masking = masking.union(&one(word, &kinds)?);
        }
        if masking.places.len() > Self::PLACES_MAX {
            return Err(MaskWordError::Places);
        }
        Ok(masking)
    }

    fn add(&mut self, place: MaskPlace, how: MaskHow) {
        match self.places.binary_search_by(|(other, _)| other.cmp(&place)) {
            Ok(at) => {
                if let Some((_, held)) = self.places.get_mut(at) {
                    *held = how.max(*held);
                }
            }
            Err(at) => self.places.insert(at, (place, how)),
        }
    }
}

/// Reads one word.
fn one(word: &str, kinds: &impl Fn(&str) -> Option<MaskKinds>) -> Result<Masking, MaskWordError> {
    if word.is_empty() {
        return Err(MaskWordError::Empty);
    }
    let (what, how) = match word.rsplit_once('=') {
        Some((what, how)) => {
            let known = MaskHow::WORDS.iter().find(|(known, _)| *known == how.trim());
            (what.trim(), known.ok_or_else(|| MaskWordError::How(how.trim().to_owned()))?.1)
        }
        None => (word, MaskHow::Redact),
    };
    if let Some(place) = place(what)? {
        if how == MaskHow::Partial {
            return Err(MaskWordError::Unfit(what.to_owned(), how));
        }
        return Ok(Masking { places: vec![(place, how)], ..Masking::default() });
    }
    let all = kinds(what).filter(|kinds| !kinds.is_empty()).ok_or_else(|| MaskWordError::Kind(what.to_owned()))?;
    if how == MaskHow::Redact {
        return Ok(all.into());
    }
    // Of a group, what cannot be replaced so is redacted; a kind that cannot is refused.
    let fit = kinds(&format!("{what}={}", how.word())).filter(|kinds| !kinds.is_empty());
    let fit = fit.ok_or_else(|| MaskWordError::Unfit(what.to_owned(), how))?;
    let rest = Masking::from(all.without(fit));
    Ok(match how {
        MaskHow::Partial => Masking { partial: fit, ..rest },
        _ => Masking { pseudonym: fit, ..rest },
    })
}

/// The place that `what` names, if it is one.
fn place(what: &str) -> Result<Option<MaskPlace>, MaskWordError> {
    let wrong = || MaskWordError::Place(what.to_owned());
    let Some((kind, name)) = what.split_once(':') else { return Ok(None) };
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match kind {
        "json" if name.starts_with('/') && name.len() <= 256 && name.matches('/').count() <= 32 => {
            Ok(Some(MaskPlace::Json(name.to_owned())))
        }
        "header" if !name.is_empty() && name.len() <= 256 && name.bytes().all(token) => {
            Ok(Some(MaskPlace::Header(name.to_ascii_lowercase())))
        }
        "form" if !name.is_empty() && name.len() <= 256 => Ok(Some(MaskPlace::Form(name.to_owned()))),
        _ => Err(wrong()),
    }
}

/// Why words of `@mask` are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MaskWordError {
    /// Nothing between two commas.
    Empty,
    /// No such kind or group.
    Kind(String),
    /// No such way to replace.
    How(String),
    /// The kind, or the place, cannot be replaced so.
    Unfit(String, MaskHow),
    /// No place can be written so.
    Place(String),
    /// Too many places.
    Places,
}

impl fmt::Display for MaskWordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "an empty word between its commas"),
            Self::Kind(word) => write!(f, "no kind `{}`", word.escape_debug()),
            Self::How(word) => {
                write!(f, "no replacement `{}`: redact, partial or pseudonym", word.escape_debug())
            }
            Self::Unfit(word, how) => write!(f, "`{}` cannot be replaced by `{}`", word.escape_debug(), how.word()),
            Self::Place(word) => {
                write!(f, "no place `{}`: json:/a/*/b, header:NAME or form:FIELD", word.escape_debug())
            }
            Self::Places => write!(f, "more than {} places", Masking::PLACES_MAX),
        }
    }
}

impl std::error::Error for MaskWordError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(word: &str) -> Option<MaskKinds> {
        let bits = match word {
            "email" | "email=partial" | "email=pseudonym" => 1,
            "key" => 4,
            "all" => 7,
            "all=partial" => 3,
            _ => return None,
        };
        Some(MaskKinds(bits))
    }

    fn read(text: &str) -> Result<Masking, MaskWordError> {
        Masking::parse(text, kinds)
    }

    #[test]
    fn words_are_read() {
        let some = read("email=partial, key , json:/users/*/email=pseudonym,header:X-Key").unwrap();
        assert_eq!((some.redact, some.partial, some.pseudonym), (MaskKinds(4), MaskKinds(1), MaskKinds::NONE));
        assert_eq!(
            some.places,
            [
                (MaskPlace::Json("/users/*/email".into()), MaskHow::Pseudonym),
                (MaskPlace::Header("x-key".into()), MaskHow::Redact),
            ]
        );
        assert_eq!(
            read("all=partial").unwrap(),
            Masking { redact: MaskKinds(4), partial: MaskKinds(3), ..Masking::default() }
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (text, error) in [
            ("", MaskWordError::Empty),
            ("email,", MaskWordError::Empty),
            ("phone", MaskWordError::Kind("phone".into())),
            ("email=hide", MaskWordError::How("hide".into())),
            ("key=partial", MaskWordError::Unfit("key".into(), MaskHow::Partial)),
            ("json:/a=partial", MaskWordError::Unfit("json:/a".into(), MaskHow::Partial)),
            ("json:a", MaskWordError::Place("json:a".into())),
            ("header:a b", MaskWordError::Place("header:a b".into())),
            ("cookie:a", MaskWordError::Place("cookie:a".into())),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_stricter_wins() {
        let both = |one: &str, other: &str| read(one).unwrap().union(&read(other).unwrap());
        assert_eq!(both("email=partial", "email"), read("email").unwrap());
        assert_eq!(both("email=pseudonym", "email"), read("email").unwrap());
        assert_eq!(both("email=partial", "email=pseudonym"), read("email=pseudonym").unwrap());
        assert_eq!(both("json:/a=pseudonym", "json:/a").places, [(MaskPlace::Json("/a".into()), MaskHow::Redact)]);
        assert!(Masking::default().is_empty() && !read("json:/a").unwrap().is_empty());
    }
}
