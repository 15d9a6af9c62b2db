//! The table of detectors: one row per kind, one file per row.
//!
//! To add a kind: a file in `detectors/` with its [`Detector`], a line in [`DETECTORS`], a free bit.
//! Names for policies, the gates, the metrics' labels, the property tests and the fuzz targets all come from this table.

use std::ops::Range;

use callgate_model::MaskKinds;

use crate::class::Class;
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

mod aws_key;
mod connection_string;
mod date_of_birth;
mod email;
mod iban;
mod ip;
mod jwt;
mod passport;
mod payment_card;
mod pem_private_key;
mod phone;
mod prefixed;
mod tokens;
mod tokens_more;
mod us_ssn;
mod words;

pub(crate) use payment_card::{is_separator, opens_card};
pub(crate) use prefixed::Prefix;

/// Every kind that can be masked; a row's place is its bit. Of two findings at one anchor that begin and end alike, the
/// upper row wins.
pub static DETECTORS: &[Detector] = &[
    email::DETECTOR,
    payment_card::DETECTOR,
    jwt::DETECTOR,
    pem_private_key::DETECTOR,
    aws_key::DETECTOR,
    iban::DETECTOR,
    us_ssn::DETECTOR,
    phone::DETECTOR,
    ip::IPV4,
    ip::IPV6,
    ip::PRIVATE,
    connection_string::DETECTOR,
    date_of_birth::DETECTOR,
    passport::DETECTOR,
    tokens::GITHUB,
    tokens::SLACK,
    tokens::GOOGLE,
    tokens::STRIPE,
    tokens::OPENAI,
    tokens::ANTHROPIC,
    tokens::BEARER,
    tokens_more::NPM,
    tokens_more::GITLAB,
    tokens_more::SENDGRID,
    tokens_more::TWILIO,
    tokens_more::AZURE_STORAGE,
    tokens_more::PYPI,
    tokens_more::VAULT,
    tokens_more::DIGITALOCEAN,
    tokens_more::HUGGING_FACE,
    tokens_more::SHOPIFY,
    tokens_more::DATABRICKS,
    tokens_more::GRAFANA,
];

/// How one kind of sensitive data is found and replaced.
pub struct Detector {
    /// The word in policies, config and metrics.
    pub name: &'static str,
    /// The bit in [`MaskKinds`]; never given to another kind, records carry it.
    pub bit: u32,
    /// Words that stand for this kind among others.
    pub groups: &'static [Group],
    /// What a finding becomes: valid inside a JSON string, and no detector's anchor.
    pub label: &'static str,
    /// Texts with findings, and what becomes of them.
    pub samples: &'static [Sample],
    /// Texts that look like findings and are none.
    pub near_misses: &'static [&'static str],
    /// What makes a place worth judging.
    pub(crate) gate: Gate,
    /// Most bytes from the anchor on that a judgement may look at. Unit: bytes.
    /// If that many are not enough, they are masked.
    pub(crate) longest: usize,
    /// Bytes that may belong to a finding although they stand before its anchor.
    pub(crate) leading: Leading,
    /// Judges one anchor.
    pub(crate) find: Find,
    /// Whether a finding may go on without end: only its opening is known when it is replaced.
    pub(crate) unbounded: bool,
    /// What may be left of a finding without telling it.
    pub(crate) partial: Partial,
}

/// How a kind judges an anchor.
#[derive(Clone, Copy)]
pub(crate) enum Find {
    /// By code of its own.
    By(fn(&Window<'_>) -> Result<Outcome, NeedMore>),
    /// By a prefix and what follows it.
    Prefixed(&'static [Prefix]),
}

impl Find {
    pub(crate) fn judge(&self, window: &Window<'_>) -> Result<Outcome, NeedMore> {
        match self {
            Self::By(find) => find(window),
            Self::Prefixed(prefixes) => prefixed::find(prefixes, window),
        }
    }
}

/// What `@mask("KIND=partial")` leaves of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Partial {
    /// Nothing: the kind refuses it.
    Refused,
    /// The last letters and digits.
    Last(usize),
    /// The `@` and what follows it.
    Domain,
}

impl Detector {
    /// Whether `@mask("KIND=partial")` can be asked for.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        self.partial != Partial::Refused
    }

    /// Whether findings have an end that is known when they are replaced, as a pseudonym needs.
    #[must_use]
    pub fn has_pseudonym(&self) -> bool {
        !self.unbounded
    }

    /// The kind as a set of one.
    #[must_use]
    pub fn kind(&self) -> MaskKinds {
        MaskKinds(1_u64.checked_shl(self.bit).unwrap_or(0))
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("name", &self.name).field("bit", &self.bit).finish_non_exhaustive()
    }
}

/// A text with findings.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The text.
    pub text: &'static str,
    /// What the masker makes of it, with this one kind on.
    pub masked: &'static str,
}

/// What makes a place worth judging: the first byte of any of these is an anchor.
#[derive(Clone, Copy)]
pub(crate) struct Gate {
    /// A single byte that is rare in text.
    pub(crate) byte: Option<u8>,
    /// Literals of at least three bytes.
    pub(crate) literals: &'static [&'static str],
    /// Groups of digits of these shapes.
    pub(crate) shapes: Shapes,
}

impl Gate {
    /// Literals alone.
    pub(crate) const fn literals(literals: &'static [&'static str]) -> Self {
        Self { byte: None, literals, shapes: Shapes::NONE }
    }

    /// Shapes of numbers alone.
    pub(crate) const fn shapes(shapes: Shapes) -> Self {
        Self { byte: None, literals: &[], shapes }
    }
}

/// Bytes before an anchor that may belong to its finding.
#[derive(Clone, Copy)]
pub(crate) struct Leading {
    /// Which bytes; the run of them that ends at the anchor may belong.
    pub(crate) class: &'static Class,
    /// How many at most. Unit: bytes.
    pub(crate) most: usize,
}

impl Leading {
    /// Findings begin at their anchor or after it.
    pub(crate) const NONE: Self = Self { class: &Class::NONE, most: 0 };
}

/// What an anchor turned out to be. Positions are the window's.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Nothing.
    Nothing,
    /// Nothing, and no anchor before this position can be anything either.
    NothingBefore(usize),
    /// A finding. What stands between the anchor and its start holds no anchor of any kind.
    Found(Range<usize>),
    /// The certain opening of a finding whose end is not known, and what takes the rest.
    Opened(Range<usize>, Swallow),
}

/// Takes what belongs to a finding that has been opened, from the window's anchor on.
pub(crate) type Swallow = fn(&Window<'_>) -> Swallowed;

/// What a swallowing detector took. Positions are the window's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Swallowed {
    /// Everything before `upto`. With `ended` the finding ends there; otherwise more bytes are needed to go on.
    Until { upto: usize, ended: bool },
    /// Nothing: what stands before `upto` passes, and the finding goes on there.
    Passing { upto: usize },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::LOOKBEHIND;

    #[test]
    fn names_bits_and_labels_are_unlike() {
        for (at, one) in DETECTORS.iter().enumerate() {
            assert!(one.bit as usize == at && !one.samples.is_empty() && !one.near_misses.is_empty(), "{}", one.name);
            for other in &DETECTORS[..at] {
                assert!(one.name != other.name && one.bit != other.bit && one.label != other.label);
            }
        }
    }

    #[test]
    fn labels_fit_into_a_json_string() {
        for detector in DETECTORS {
            assert_eq!(detector.label, format!("[masked:{}]", detector.name));
            assert!(detector.label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'));
        }
    }

    #[test]
    fn rows_keep_what_the_engine_relies_on() {
        for Detector { name, gate, leading, longest, .. } in DETECTORS {
            assert!(gate.literals.iter().all(|literal| literal.len() >= 3), "{name}");
            assert!(leading.most * 2 <= LOOKBEHIND && *longest <= 8192, "{name}");
        }
    }
}
