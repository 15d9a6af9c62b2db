//! Finds and replaces sensitive data in a byte stream.
//!
//! [`Masker`] takes a stream in pieces and gives it back with every finding replaced; the result does not depend on how
//! the stream was cut, and no byte is given out that later input could still make part of a finding.
//! [`DETECTORS`] is the table of kinds; [`kinds_named`] gives the words of policies their meaning; [`mask_text`] masks a
//! header or a query at once.
//!
//! How it works: cheap gates name the places worth judging, a small matcher per kind judges each of them in a window
//! whose bounds do not depend on the cut, and what cannot be judged yet waits. A finding without bounds (a token, a
//! private key) is replaced as soon as its opening is certain, and what belongs to it is dropped as it comes.
//! What a stream says once its escapes and its base64 are undone is searched in the same way, up to three encodings
//! deep, and what is found there is replaced where it stands.
//!
//! Pure: no I/O, no unsafe code, no panic on any input. A matched value appears in no error and no `Debug`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod class;
mod content;
mod custom;
mod decode;
mod detectors;
mod error;
mod escape;
mod finder;
mod finding;
mod gate;
mod kinds;
mod masker;
mod place;
mod pseudonym;
mod replace;
mod rules;
mod scan;
mod text;
mod weave;
mod window;

pub use content::Content;
pub use custom::{DetectorError, Detectors};
pub use detectors::{DETECTORS, Detector, Sample};
pub use error::MaskError;
pub use kinds::{Group, kind_names, kinds_named, names_of};
pub use masker::Masker;
pub use place::{JsonPlaces, mask_form, mask_header};
pub use pseudonym::PseudonymKey;
pub use rules::Rules;
pub use text::{mask_text, mask_text_by};
