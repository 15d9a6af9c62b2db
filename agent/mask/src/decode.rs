//! Seeing through encodings: what a text says once its escapes or its base64 are undone.
//!
//! A stream has at most [`DEPTH_MAX`] layers. On each, [`View`] undoes one level of every escape there is (JSON, URL,
//! HTML, look-alike characters) and [`Runs`] decodes base64; what they make is searched like the stream itself, and what
//! is found there is mapped back. Both are functions of the stream alone, however it was cut.

mod base64;
mod runs;
mod tries;
mod trigger;
mod unit;
mod view;

pub(crate) use runs::{Runs, is_clean};
pub(crate) use trigger::{Trigger, first};
pub(crate) use view::View;

/// How many encodings are seen through one inside the other. Source: ours; JSON in a JSON string in base64 has three.
pub(crate) const DEPTH_MAX: u8 = 3;

/// Undoes the JSON escape that `text` begins with: how long it is, if there is one.
pub(crate) fn json_escape(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    if text.first() != Some(&b'\\') {
        return None;
    }
    match unit::at(text, true) {
        unit::Unit::Escape { length, says } => {
            out.extend_from_slice(says.bytes());
            Some(length)
        }
        _ => None,
    }
}
