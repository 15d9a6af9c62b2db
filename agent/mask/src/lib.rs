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
//!
//! Pure: no I/O, no unsafe code, no panic on any input. A matched value appears in no error and no `Debug`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod class;
mod content;
mod detectors;
mod error;
mod escape;
mod gate;
mod kinds;
mod masker;
mod replace;
mod scan;
mod text;
mod window;

pub use content::Content;
pub use detectors::{DETECTORS, Detector, Sample};
pub use error::MaskError;
pub use kinds::{Group, kind_names, kinds_named, names_of};
pub use masker::Masker;
pub use text::mask_text;
