//! Follows the frames of an HTTP/2 connection closely enough to count those that cost work and carry nothing.
//!
//! Never reads what is in a frame and never refuses one: framing is the library's. Whoever reads the connection holds
//! the count against a budget, which bounds floods of settings, pings, resets, empty data and continuations alike.

/// Length of the preface that a client sends first. Unit: bytes. Source: RFC 9113 §3.4.
const PREFACE: u32 = 24;

/// Length of a frame's head. Unit: bytes. Source: RFC 9113 §4.1.
const HEAD: usize = 9;

/// Types of frames that carry a call onwards. Source: RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// `END_STREAM` of a DATA frame: it ends a call, even when it is empty. Source: RFC 9113 §6.1.
const END_STREAM: u8 = 1;

/// Counts the idle frames of one direction of a connection.
#[derive(Debug)]
pub struct FrameMeter {
    head: [u8; HEAD],
    have: usize,
    /// Bytes to pass before the next head: of the preface, or of a frame's payload.
    skip: u32,
}

impl FrameMeter {
    /// Begins at a client's preface.
    #[must_use]
    pub fn new() -> Self {
        Self { head: [0; HEAD], have: 0, skip: PREFACE }
    }

    /// Reads on, and says how many idle frames began in `bytes`: each frame but HEADERS, and DATA that carries
    /// bytes or ends a call.
    ///
    /// ```
    /// use callgate_wire::FrameMeter;
    /// let mut meter = FrameMeter::new();
    /// assert_eq!(meter.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0);
    /// assert_eq!(meter.push(&[0, 0, 0, 4, 0, 0, 0, 0, 0]), 1);
    /// ```
    pub fn push(&mut self, bytes: &[u8]) -> u32 {
        let mut idle = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.skip > 0 {
                let n = rest.len().min(self.skip as usize);
                self.skip -= n as u32;
                rest = rest.get(n..).unwrap_or_default();
                continue;
            }
            let n = rest.len().min(HEAD - self.have);
            for (place, byte) in self.head.iter_mut().skip(self.have).zip(rest.iter().take(n)) {
                *place = *byte;
            }
            self.have += n;
            rest = rest.get(n..).unwrap_or_default();
            if self.have == HEAD {
                self.have = 0;
                idle += u32::from(self.begin());
            }
        }
        idle
    }

    /// Takes the head that is complete; whether its frame is idle.
    fn begin(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = u32::from_be_bytes([0, high, middle, low]);
        match kind {
            HEADERS => false,
            DATA => self.skip == 0 && flags & END_STREAM == 0,
            _ => true,
        }
    }
}

impl Default for FrameMeter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + payload, 0xff);
        frame
    }

    fn preface() -> FrameMeter {
        let mut meter = FrameMeter::new();
        assert_eq!(meter.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0);
        meter
    }

    #[test]
    fn counts_what_carries_nothing() {
        for (bytes, idle) in [
            (frame(DATA, 0, 1), 0),
            (frame(DATA, 0, 0), 1),
            (frame(DATA, END_STREAM, 0), 0),
            (frame(HEADERS, 4, 20), 0),
            (frame(2, 0, 5), 1),
            (frame(3, 0, 4), 1),
            (frame(4, 1, 0), 1),
            (frame(6, 0, 8), 1),
            (frame(8, 0, 4), 1),
            (frame(9, 0, 0), 1),
            (frame(0xbe, 0, 70_000), 1),
        ] {
            assert_eq!(preface().push(&bytes), idle, "type {}", bytes[3]);
        }
    }

    proptest! {
        #[test]
        fn the_count_does_not_depend_on_the_cut(
            frames in proptest::collection::vec((0u8..12, any::<u8>(), 0usize..40), 0..40),
            cuts in proptest::collection::vec(1usize..30, 1..40),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, *payload)).collect();
            let whole = preface().push(&bytes);
            let (mut meter, mut rest, mut sum) = (preface(), &bytes[..], 0);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                sum += meter.push(piece);
                rest = after;
            }
            prop_assert_eq!(sum, whole);
        }
    }
}
