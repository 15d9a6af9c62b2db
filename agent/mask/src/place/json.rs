//! Masks values in a JSON stream by pointer, without building the document.
//!
//! What is not at a place passes byte by byte; a string becomes a label, a number a one and zeros, `true`, `false` and
//! `null` become `null`; of an object or an array every leaf does. Several documents in a row (JSON lines) are each read
//! from the root. What is no JSON is an error: where a value stands could not be told any more.

use std::sync::Arc;

use callgate_model::MaskHow;

use super::pointer::{Leads, Pointer, pointers};
use crate::error::MaskError;
use crate::rules::Rules;

/// Deepest nesting. Unit: levels. Source: the recursion limit of common parsers.
const DEPTH_MAX: usize = 128;

/// Longest key, escapes and all. Unit: bytes. Source: ours; as many may be held back.
const KEY_MAX: usize = 4096;

/// Longest value that is given a pseudonym, and longest number. Unit: bytes. Source: ours.
const VALUE_MAX: usize = 64 * 1024;

/// Masks one stream of JSON by place.
///
/// An error is final, as with [`Masker`](crate::Masker).
pub struct JsonPlaces {
    rules: Arc<Rules>,
    pointers: Vec<Pointer>,
    /// Containers that are open.
    open: Vec<Level>,
    expects: Expects,
    token: Token,
    /// The token's bytes: a key, or a value to be replaced.
    text: Vec<u8>,
    masked: u64,
    failed: Option<MaskError>,
}

/// An open container.
struct Level {
    object: bool,
    /// Values seen in an array.
    index: usize,
    /// Pointers that lead to it.
    here: Leads,
    /// Pointers that lead to its current member.
    member: Leads,
    /// All in it is masked.
    how: Option<MaskHow>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expects {
    Value,
    /// A value, or the end of an array that has just begun.
    ValueOrEnd,
    Key,
    /// A key, or the end of an object that has just begun.
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Between,
    /// In a string; `escaped` behind a backslash.
    String {
        key: bool,
        how: Option<MaskHow>,
        escaped: bool,
    },
    /// In a number or a word.
    Bare {
        how: Option<MaskHow>,
    },
}

impl JsonPlaces {
    /// For one stream; `None` if `rules` name no place in JSON.
    #[must_use]
    pub fn new(rules: &Arc<Rules>) -> Option<Self> {
        let pointers = pointers(rules);
        (!pointers.is_empty()).then(|| Self {
            rules: Arc::clone(rules),
            pointers,
            open: Vec::new(),
            expects: Expects::Value,
            token: Token::Between,
            text: Vec::new(),
            masked: 0,
            failed: rules.state.err(),
        })
    }

    /// Values replaced so far.
    #[must_use]
    pub fn masked(&self) -> u64 {
        self.masked
    }

    /// Takes the next bytes and appends to `out` what can be passed on.
    ///
    /// # Errors
    /// [`MaskError::NotJson`] if the stream is none, or deeper or with longer keys than is followed.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let done = input.iter().try_for_each(|byte| self.take(*byte, out));
        self.failed = done.err();
        done
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// As [`push`](Self::push), also if the last document is not whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.failed = Some(MaskError::Ended);
        if let Token::Bare { how } = self.token {
            self.end_bare(how, out)?;
        }
        if self.token == Token::Between && self.open.is_empty() { Ok(()) } else { Err(MaskError::NotJson) }
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), MaskError> {
        match self.token {
            Token::String { key, how, escaped } => self.in_string(byte, key, how, escaped, out),
            Token::Bare { how } if is_bare(byte) => self.in_bare(byte, how, out),
            Token::Bare { how } => {
                self.end_bare(how, out)?;
                self.between(byte, out)
            }
            Token::Between => self.between(byte, out),
        }
    }

    fn between(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), MaskError> {
        match (byte, self.expects) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'"', Expects::Key | Expects::KeyOrEnd) => {
                self.token = Token::String { key: true, how: None, escaped: false };
            }
            (b'"', Expects::Value | Expects::ValueOrEnd) => {
                let (_, how) = self.value()?;
                self.token = Token::String { key: false, how, escaped: false };
            }
            (b'{' | b'[', Expects::Value | Expects::ValueOrEnd) => {
                let (here, how) = self.value()?;
                if self.open.len() >= DEPTH_MAX {
                    return Err(MaskError::NotJson);
                }
                self.expects = if byte == b'{' { Expects::KeyOrEnd } else { Expects::ValueOrEnd };
                self.open.push(Level { object: byte == b'{', index: 0, here, member: here, how });
            }
            (b'}', Expects::KeyOrEnd | Expects::CommaOrEnd) if self.open.last().is_some_and(|level| level.object) => {
                self.close();
            }
            (b']', Expects::ValueOrEnd | Expects::CommaOrEnd)
                if self.open.last().is_some_and(|level| !level.object) =>
            {
                self.close();
            }
            (b':', Expects::Colon) => self.expects = Expects::Value,
            (b',', Expects::CommaOrEnd) => {
                let object = self.open.last().is_some_and(|level| level.object);
                self.expects = if object { Expects::Key } else { Expects::Value };
            }
            (_, Expects::Value | Expects::ValueOrEnd) if is_bare(byte) => {
                let (_, how) = self.value()?;
                self.token = Token::Bare { how };
                return self.in_bare(byte, how, out);
            }
            _ => return Err(MaskError::NotJson),
        }
        out.push(byte);
        Ok(())
    }

    /// The pointers that lead to the value which begins here, and how it is masked.
    fn value(&mut self) -> Result<(Leads, Option<MaskHow>), MaskError> {
        let depth = self.open.len();
        let Some(level) = self.open.last_mut() else {
            let root = Leads::root(&self.pointers);
            return Ok((root, root.how(&self.pointers, 0)));
        };
        if !level.object {
            let follows = !level.here.is_empty();
            level.member = if follows {
                level.here.through(&self.pointers, depth - 1, &level.index.to_string())
            } else {
                level.here
            };
            level.index = level.index.checked_add(1).ok_or(MaskError::NotJson)?;
        }
        Ok((level.member, level.how.max(level.member.how(&self.pointers, depth))))
    }

    fn close(&mut self) {
        self.open.pop();
        self.end_value();
    }

    /// Behind a value: more of the container, or the next document.
    fn end_value(&mut self) {
        self.token = Token::Between;
        self.expects = if self.open.is_empty() { Expects::Value } else { Expects::CommaOrEnd };
    }

    fn in_string(
        &mut self,
        byte: u8,
        key: bool,
        how: Option<MaskHow>,
        escaped: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        if byte != b'"' || escaped {
            if key || how == Some(MaskHow::Pseudonym) {
                self.text.push(byte);
                if self.text.len() > if key { KEY_MAX } else { VALUE_MAX } {
                    return Err(MaskError::NotJson);
                }
            }
            if how.is_none() {
                out.push(byte);
            }
            self.token = Token::String { key, how, escaped: byte == b'\\' && !escaped };
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        if key {
            let name = unescaped(&text);
            let depth = self.open.len();
            if let Some(level) = self.open.last_mut() {
                level.member = level.here.through(&self.pointers, depth.saturating_sub(1), &name);
            }
            self.token = Token::Between;
            self.expects = Expects::Colon;
        } else {
            if let Some(how) = how {
                out.extend_from_slice(&self.rules.value(unescaped(&text).as_bytes(), how));
                self.masked += 1;
            }
            self.end_value();
        }
        out.push(byte);
        Ok(())
    }

    fn in_bare(&mut self, byte: u8, how: Option<MaskHow>, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if how.is_none() {
            out.push(byte);
            return Ok(());
        }
        self.text.push(byte);
        if self.text.len() > VALUE_MAX { Err(MaskError::NotJson) } else { Ok(()) }
    }

    fn end_bare(&mut self, how: Option<MaskHow>, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if how.is_some() {
            let text = std::mem::take(&mut self.text);
            match text.first() {
                Some(b'0'..=b'9' | b'-') => {
                    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
                    out.extend_from_slice(&crate::replace::number(digits));
                }
                _ => out.extend_from_slice(b"null"),
            }
            self.masked += 1;
        }
        self.end_value();
        Ok(())
    }
}

/// Shows no byte of the stream.
impl std::fmt::Debug for JsonPlaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonPlaces").field("masked", &self.masked).field("failed", &self.failed).finish_non_exhaustive()
    }
}

/// Whether `byte` can be part of a number or a word.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// What a string of JSON says.
fn unescaped(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        let taken = crate::decode::json_escape(rest, &mut out).unwrap_or_else(|| {
            out.push(*first);
            1
        });
        rest = rest.get(taken..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}
