//! What a masked body passes through: its codings are taken off, findings are replaced, the codings are put on again.
//!
//! Gives bounded pieces, whatever a piece of the input grows to. Bytes that were decoded and masked go into the record;
//! the encoded ones go to the caller.

use std::sync::Arc;

use bytes::Bytes;
use callgate_mask::{Masker, Rules};
use callgate_model::{Direction, MaskPlace, Reason};

use super::call_log::CallLog;
use super::coding::{Decoder, Encoder};
use super::forward::Reading;
use super::places::Places;

/// The way of one body.
pub(crate) struct Pipe {
    coder: Option<Coder>,
    places: Places,
    placed: Vec<u8>,
    masker: Masker,
    /// Plain input that the masker has not seen.
    plain: Bytes,
    state: State,
}

struct Coder {
    decoder: Decoder,
    encoder: Encoder,
    /// The decoder may have more to give.
    more: bool,
    /// The encoder was given something since it was flushed.
    unflushed: bool,
    decoded: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// No more input will come; what is held must be given.
    Ending,
    Ended,
}

impl Pipe {
    /// For a body that is read so.
    ///
    /// # Errors
    /// [`Reason::Unmaskable`]: it must not pass at all.
    pub(crate) fn new(rules: &Arc<Rules>, places: &[MaskPlace], reading: Reading) -> Result<Self, Reason> {
        let Reading { content, codings, .. } = reading;
        let coder = (!codings.is_plain()).then(|| Coder {
            decoder: Decoder::new(codings),
            encoder: Encoder::new(codings),
            more: false,
            unflushed: false,
            decoded: Vec::new(),
        });
        let places = Places::new(rules, places, &reading)?;
        let masker = Masker::by(rules, content);
        Ok(Self { coder, places, placed: Vec::new(), masker, plain: Bytes::new(), state: State::Open })
    }

    /// Takes the next bytes; to be asked for by [`next`](Self::next) until there is nothing.
    pub(crate) fn feed(&mut self, data: Bytes) {
        match &mut self.coder {
            Some(coder) => {
                coder.decoder.feed(&data);
                coder.more = true;
            }
            None => self.plain = data,
        }
    }

    /// Says that no more input will come.
    pub(crate) fn end(&mut self) {
        self.state = State::Ending;
    }

    /// The next bytes for the caller; none: more input is needed, or all was given.
    ///
    /// # Errors
    /// [`Reason::Unmaskable`]: the body must be cut off.
    pub(crate) fn next(&mut self, log: &CallLog) -> Result<Option<Bytes>, Reason> {
        loop {
            let mut masked = Vec::new();
            if !self.plain.is_empty() {
                let plain = std::mem::take(&mut self.plain);
                masked.reserve(plain.len() + 64);
                mask(&mut self.places, &mut self.placed, &mut self.masker, &plain, &mut masked)?;
            } else if let Some(coder) = self.coder.as_mut().filter(|coder| coder.more) {
                coder.decoded.clear();
                coder.more = coder.decoder.step(&mut coder.decoded).map_err(unmaskable)?;
                mask(&mut self.places, &mut self.placed, &mut self.masker, &coder.decoded, &mut masked)?;
            } else if self.state == State::Ending {
                self.state = State::Ended;
                if let Some(coder) = &mut self.coder {
                    coder.decoder.finish().map_err(unmaskable)?;
                }
                self.placed.clear();
                self.places.finish(&mut self.placed)?;
                self.masker.push(&self.placed, &mut masked).map_err(|_| Reason::Unmaskable)?;
                self.masker.finish(&mut masked).map_err(|_| Reason::Unmaskable)?;
                log.masked(self.masker.findings() + self.places.masked());
            } else {
                return Ok(None);
            }
            log.body(Direction::Response, &masked);
            let out = self.encoded(masked)?;
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }

    /// What the encoder has gathered of earlier input.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn flush(&mut self) -> Result<Option<Bytes>, Reason> {
        let Some(coder) = self.coder.as_mut().filter(|coder| coder.unflushed) else { return Ok(None) };
        coder.unflushed = false;
        let mut out = Vec::new();
        coder.encoder.flush(&mut out).map_err(|_| Reason::Unmaskable)?;
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn encoded(&mut self, masked: Vec<u8>) -> Result<Vec<u8>, Reason> {
        let Some(coder) = &mut self.coder else { return Ok(masked) };
        let mut out = Vec::new();
        coder.encoder.push(&masked, &mut out).map_err(|_| Reason::Unmaskable)?;
        coder.unflushed |= !masked.is_empty();
        if self.state == State::Ended {
            coder.encoder.finish(&mut out).map_err(|_| Reason::Unmaskable)?;
            coder.unflushed = false;
        }
        Ok(out)
    }
}

/// First by place, then by what is found.
fn mask(
    places: &mut Places,
    placed: &mut Vec<u8>,
    masker: &mut Masker,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    placed.clear();
    let input = if places.push(input, placed)? { placed.as_slice() } else { input };
    masker.push(input, out).map_err(|_| Reason::Unmaskable)
}

fn unmaskable(error: super::coding::CodingError) -> Reason {
    tracing::debug!(%error, "an answer is cut off");
    Reason::Unmaskable
}
