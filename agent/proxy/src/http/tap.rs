//! One body on its way into the record: decoded where it is coded, masked with every kind there is.

use std::sync::Arc;

use callgate_audit::OpenCall;
use callgate_mask::{Masker, Rules};
use callgate_model::{Direction, MaskPlace};

use super::coding::Decoder;
use super::forward::Reading;
use super::places::Places;

/// What of a body goes into the record.
pub(super) struct Tap {
    way: Way,
    bytes: u64,
    buffer: Vec<u8>,
}

enum Way {
    /// Nothing: it cannot be read, so it cannot be masked.
    Closed,
    /// As it comes: it is masked already.
    Plain,
    /// Masked here.
    Masked { decoder: Option<Decoder>, masking: Box<Masked> },
}

/// Masks what goes into the record.
struct Masked {
    places: Places,
    masker: Masker,
    decoded: Vec<u8>,
    placed: Vec<u8>,
}

impl Masked {
    /// Appends the masked form of `input` to `out`; none: it cannot be masked.
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.placed.clear();
        let input = if self.places.push(input, &mut self.placed).ok()? { self.placed.as_slice() } else { input };
        self.masker.push(input, out).ok()
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.placed.clear();
        self.places.finish(&mut self.placed).ok()?;
        self.masker.push(&self.placed, out).ok()?;
        self.masker.finish(out).ok()
    }
}

impl Tap {
    /// Keeps nothing and counts.
    pub(super) fn closed() -> Self {
        Self::of(Way::Closed)
    }

    /// Keeps what comes.
    pub(super) fn plain() -> Self {
        Self::of(Way::Plain)
    }

    /// Keeps a body that is read so, masked by `rules`; none: it cannot be.
    pub(super) fn new(rules: &Arc<Rules>, places: &[MaskPlace], reading: Option<Reading>) -> Self {
        let Some(reading) = reading else { return Self::closed() };
        let Ok(by_place) = Places::new(rules, places, &reading) else { return Self::closed() };
        let masker = Masker::by(rules, reading.content);
        let masking = Box::new(Masked { places: by_place, masker, decoded: Vec::new(), placed: Vec::new() });
        let decoder = (!reading.codings.is_plain()).then(|| Decoder::new(reading.codings));
        Self::of(Way::Masked { decoder, masking })
    }

    fn of(way: Way) -> Self {
        Self { way, bytes: 0, buffer: Vec::new() }
    }

    /// Bytes that passed, as they were on the wire.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts bytes that passed by.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Takes the next bytes. What cannot be read on, or not be masked, ends the record of this body.
    pub(super) fn feed(&mut self, open: &mut OpenCall, direction: Direction, data: &[u8]) {
        self.bytes += data.len() as u64;
        let Self { way, buffer, .. } = self;
        let fed = match way {
            Way::Closed => Some(()),
            Way::Plain => {
                open.body(direction, data);
                Some(())
            }
            Way::Masked { decoder, masking } => {
                feed(decoder.as_mut(), masking, data, buffer, |piece| open.body(direction, piece))
            }
        };
        if fed.is_none() {
            self.way = Way::Closed;
        }
    }

    /// Ends the body: what the masker held is judged as its end.
    pub(super) fn finish(&mut self, open: &mut OpenCall, direction: Direction) {
        if self.bytes == 0 {
            return;
        }
        if let Way::Masked { mut masking, .. } = std::mem::replace(&mut self.way, Way::Closed) {
            self.buffer.clear();
            if masking.finish(&mut self.buffer).is_some() {
                open.body(direction, &self.buffer);
            }
        }
    }
}

fn feed(
    decoder: Option<&mut Decoder>,
    masking: &mut Masked,
    data: &[u8],
    buffer: &mut Vec<u8>,
    mut keep: impl FnMut(&[u8]),
) -> Option<()> {
    let Some(decoder) = decoder else {
        buffer.clear();
        masking.push(data, buffer)?;
        keep(buffer);
        return Some(());
    };
    decoder.feed(data);
    loop {
        let mut decoded = std::mem::take(&mut masking.decoded);
        decoded.clear();
        let more = decoder.step(&mut decoded).ok()?;
        buffer.clear();
        masking.push(&decoded, buffer)?;
        masking.decoded = decoded;
        keep(buffer);
        if !more {
            return Some(());
        }
    }
}
