//! Takes codings off, step by step.

use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{BrotliDecoder, DecodeV2, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};

use super::{Coding, CodingError, Codings, STEP};

/// Bytes that a body may grow to whatever its size. Unit: bytes. Source: ours; large enough for any page of an API.
const FREE: u64 = 16 << 20;

/// Beyond that, bytes for each byte of input, over both codings. Source: logs and JSON reach 20 to 60; a bomb of gzip 1,032.
const RATIO: u64 = 200;

/// Largest window of zstd, as a power of two. Source: RFC 9659 §3 asks clients for 8 MiB, and no more.
const ZSTD_WINDOW: u32 = 23;

/// Decodes one body.
pub(in crate::http) struct Decoder {
    /// The coding that was applied last comes first.
    stages: Vec<Stage>,
    /// Bytes of input so far.
    fed: u64,
}

struct Stage {
    coding: Coding,
    codec: Option<Box<dyn DecodeV2 + Send>>,
    input: Vec<u8>,
    given: usize,
    /// The last step filled its buffer: there may be more without further input.
    full: bool,
    /// The codec has seen its end.
    ended: bool,
    consumed: u64,
    produced: u64,
}

impl Decoder {
    pub(in crate::http) fn new(codings: Codings) -> Self {
        let stage = |coding| Stage {
            coding,
            codec: None,
            input: Vec::new(),
            given: 0,
            full: false,
            ended: false,
            consumed: 0,
            produced: 0,
        };
        Self { stages: codings.applied().rev().map(stage).collect(), fed: 0 }
    }

    /// Takes the next bytes of the body, to be asked for by [`step`](Self::step) until it says that there is no more.
    pub(in crate::http) fn feed(&mut self, input: &[u8]) {
        if let Some(first) = self.stages.first_mut() {
            self.fed += input.len() as u64;
            first.input.extend_from_slice(input);
        }
    }

    /// Appends at most [`STEP`] decoded bytes to `out`; whether there may be more.
    ///
    /// # Errors
    /// See [`CodingError`]; the body must be cut off.
    pub(in crate::http) fn step(&mut self, out: &mut Vec<u8>) -> Result<bool, CodingError> {
        let bound = FREE.saturating_add(RATIO.saturating_mul(self.fed));
        pull(&mut self.stages, bound, out)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// When it ends too early. A body without any byte is complete: some services announce a coding for those.
    pub(in crate::http) fn finish(&mut self) -> Result<(), CodingError> {
        let untouched = self.stages.iter().all(|stage| stage.consumed == 0 && stage.input.is_empty());
        if untouched || self.stages.iter_mut().all(Stage::has_ended) { Ok(()) } else { Err(CodingError::Broken) }
    }
}

/// Asks the last stage, and for its input the ones before it.
fn pull(stages: &mut [Stage], bound: u64, out: &mut Vec<u8>) -> Result<bool, CodingError> {
    let Some((last, before)) = stages.split_last_mut() else { return Ok(false) };
    loop {
        if last.full || !last.input.is_empty() {
            if last.run(bound, out)? {
                return Ok(true);
            }
        } else if !pull(before, bound, &mut last.input)? {
            return Ok(false);
        }
    }
}

impl Stage {
    /// Whether the codec is at its end; one that gave its last bytes when it was flushed has not said so yet.
    fn has_ended(&mut self) -> bool {
        let mut nothing = [0; 1];
        let mut output = WriteBuffer::new_initialized(&mut nothing);
        let Some(codec) = &mut self.codec else { return false };
        let ended = self.ended || codec.finish(&mut output).unwrap_or(false);
        ended && output.written_len() == 0 && self.input.is_empty()
    }

    /// Runs the codec once; whether it gave anything. It may give `bound` bytes in all.
    fn run(&mut self, bound: u64, out: &mut Vec<u8>) -> Result<bool, CodingError> {
        let rest = self.input.get(self.given..).unwrap_or_default();
        let coding = self.coding;
        let codec = self.codec.get_or_insert_with(|| codec_of(coding, rest.first().copied().unwrap_or(0)));
        if self.ended && !rest.is_empty() {
            // Members of gzip and frames of zstd may follow each other; of the others nothing may.
            if !matches!(coding, Coding::Gzip | Coding::Zstd) {
                return Err(CodingError::Broken);
            }
            codec.reinit().map_err(|_| CodingError::Broken)?;
            self.ended = false;
        }
        let before = out.len();
        out.resize(before + STEP, 0);
        let mut input = PartialBuffer::new(rest);
        let mut output = WriteBuffer::new_initialized(out.get_mut(before..).unwrap_or_default());
        let ran = if rest.is_empty() {
            codec.flush(&mut output).map(|_flushed| false)
        } else {
            codec.decode(&mut input, &mut output)
        };
        let (consumed, produced) = (input.written_len(), output.written_len());
        out.truncate(before + produced);
        self.ended |= ran.map_err(|_| CodingError::Broken)?;
        self.full = produced == STEP;
        if consumed == 0 && produced == 0 && !self.ended && !rest.is_empty() {
            return Err(CodingError::Broken);
        }
        self.given += consumed;
        if self.given == self.input.len() {
            self.input.clear();
            self.given = 0;
        }
        self.consumed += consumed as u64;
        self.produced += produced as u64;
        if self.produced > bound {
            return Err(CodingError::Bomb);
        }
        Ok(produced > 0)
    }
}

/// The codec for a body that begins with `first`.
fn codec_of(coding: Coding, first: u8) -> Box<dyn DecodeV2 + Send> {
    match coding {
        Coding::Gzip => Box::new(GzipDecoder::new()),
        // Meant is zlib's format (RFC 9110 §8.4.1.2); some services send the bare one, which begins otherwise.
        Coding::Deflate if first & 0x0f == 8 && first >> 4 <= 7 => Box::new(ZlibDecoder::new()),
        Coding::Deflate => Box::new(DeflateDecoder::new()),
        Coding::Brotli => Box::new(BrotliDecoder::new()),
        Coding::Zstd => Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(ZSTD_WINDOW)])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Encoder;
    use super::*;

    const EACH: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    fn encoded(codings: Codings, text: &[u8]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::new(codings), Vec::new());
        encoder.push(text, &mut out).unwrap();
        encoder.finish(&mut out).unwrap();
        out
    }

    fn decoded(codings: Codings, pieces: &[&[u8]]) -> Result<Vec<u8>, CodingError> {
        let (mut decoder, mut out) = (Decoder::new(codings), Vec::new());
        for piece in pieces {
            decoder.feed(piece);
            loop {
                let before = out.len();
                let more = decoder.step(&mut out)?;
                assert!(out.len() - before <= STEP);
                if !more {
                    break;
                }
            }
        }
        decoder.finish()?;
        Ok(out)
    }

    fn one(coding: Coding) -> Codings {
        Codings([Some(coding), None])
    }

    #[test]
    fn every_coding_and_every_pair_comes_back_however_it_is_cut() {
        let text = "one line of many, with numbers: 1234567890\n".repeat(5000).into_bytes();
        let pairs = EACH.into_iter().flat_map(|a| EACH.map(|b| Codings([Some(a), Some(b)])));
        for codings in EACH.map(one).into_iter().chain(pairs) {
            let coded = encoded(codings, &text);
            assert!(coded.len() < text.len() / 10, "{codings:?}");
            let bytes: Vec<&[u8]> = coded.chunks(1).collect();
            assert_eq!(decoded(codings, &bytes).as_ref(), Ok(&text), "{codings:?}");
            assert_eq!(decoded(codings, &[&coded]).unwrap(), text, "{codings:?}");
        }
    }

    #[test]
    fn what_ends_early_or_goes_on_is_broken() {
        for coding in EACH {
            let coded = encoded(one(coding), b"some text that is long enough");
            assert_eq!(decoded(one(coding), &[&coded[..coded.len() - 1]]), Err(CodingError::Broken), "{coding:?}");
            let more = [&coded[..], b"ann@example.com"].concat();
            assert_eq!(decoded(one(coding), &[&more]), Err(CodingError::Broken), "{coding:?}");
            assert_eq!(decoded(one(coding), &[b"ann@example.com"]), Err(CodingError::Broken), "{coding:?}");
            assert_eq!(decoded(one(coding), &[]), Ok(Vec::new()));
        }
    }

    #[test]
    fn members_that_follow_each_other_are_one_text() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let coded = [encoded(one(coding), b"one "), encoded(one(coding), b"two")].concat();
            assert_eq!(decoded(one(coding), &[&coded]).unwrap(), b"one two", "{coding:?}");
        }
    }

    #[test]
    fn a_bare_deflate_is_understood() {
        // A stored block: final, length 5 and its complement, the bytes.
        let bare = [&[0x01, 0x05, 0x00, 0xfa, 0xff][..], b"hello"].concat();
        assert_eq!(decoded(one(Coding::Deflate), &[&bare]).unwrap(), b"hello");
    }

    #[test]
    fn a_bomb_is_stopped_at_its_bound() {
        let zeros = vec![0; 1 << 20];
        for codings in EACH.map(one).into_iter().chain([Codings([Some(Coding::Gzip), Some(Coding::Gzip)])]) {
            let (mut encoder, mut coded) = (Encoder::new(codings), Vec::new());
            for _ in 0..256 {
                encoder.push(&zeros, &mut coded).unwrap();
            }
            encoder.finish(&mut coded).unwrap();
            let mut decoder = Decoder::new(codings);
            decoder.feed(&coded);
            let (mut out, mut total) = (Vec::new(), 0u64);
            let ended = loop {
                out.clear();
                match decoder.step(&mut out) {
                    Ok(true) => total += out.len() as u64,
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            assert_eq!(ended, Err(CodingError::Bomb), "{codings:?}");
            assert!(total <= FREE + RATIO * coded.len() as u64, "{codings:?}: {total}");
        }
    }

    proptest! {
        #[test]
        fn noise_is_refused_and_never_panics(noise in proptest::collection::vec(any::<u8>(), 1..2000), which in 0usize..4) {
            let _ = decoded(one(EACH[which]), &[&noise]);
        }
    }
}
