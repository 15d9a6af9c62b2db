//! One body on its way into the record: decoded where it is coded, masked with every kind there is.

use callgate_audit::OpenCall;
use callgate_mask::Masker;
use callgate_model::{Direction, Reason};

use super::call_log::all_kinds;
use super::coding::Decoder;
use super::forward::Reading;

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
    Masked { decoder: Option<(Decoder, Vec<u8>)>, masker: Box<Masker> },
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

    /// Keeps a body that is read so; none: it cannot be.
    pub(super) fn new(reading: Option<Reading>) -> Self {
        let Some(Reading { content, codings }) = reading else { return Self::closed() };
        let decoder = (!codings.is_plain()).then(|| (Decoder::new(codings), Vec::new()));
        Self::of(Way::Masked { decoder, masker: Box::new(Masker::new(all_kinds(), content)) })
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

    /// # Errors
    /// [`Reason::Internal`] when the masker fails: nothing may follow unmasked, nor unrecorded.
    pub(super) fn feed(&mut self, open: &mut OpenCall, direction: Direction, data: &[u8]) -> Result<(), Reason> {
        self.bytes += data.len() as u64;
        match &mut self.way {
            Way::Closed => Ok(()),
            Way::Plain => {
                open.body(direction, data);
                Ok(())
            }
            Way::Masked { decoder: None, masker } => {
                self.buffer.clear();
                masker.push(data, &mut self.buffer).map_err(|_| Reason::Internal)?;
                open.body(direction, &self.buffer);
                Ok(())
            }
            Way::Masked { decoder: Some((decoder, decoded)), masker } => {
                decoder.feed(data);
                loop {
                    decoded.clear();
                    let Ok(more) = decoder.step(decoded) else {
                        // Whatever its receiver makes of it, we cannot read on: the record ends here.
                        self.way = Way::Closed;
                        return Ok(());
                    };
                    self.buffer.clear();
                    masker.push(decoded, &mut self.buffer).map_err(|_| Reason::Internal)?;
                    open.body(direction, &self.buffer);
                    if !more {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Ends the body: what the masker held is judged as its end.
    pub(super) fn finish(&mut self, open: &mut OpenCall, direction: Direction) {
        if self.bytes == 0 {
            return;
        }
        if let Way::Masked { mut masker, .. } = std::mem::replace(&mut self.way, Way::Closed) {
            self.buffer.clear();
            if masker.finish(&mut self.buffer).is_ok() {
                open.body(direction, &self.buffer);
            }
        }
    }
}
