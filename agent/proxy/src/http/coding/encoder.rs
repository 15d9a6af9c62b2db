//! Puts codings on again, in the order in which they were.

use std::io;

use compression_codecs::brotli::params::EncoderParams;
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{BrotliEncoder, EncodeV2, GzipEncoder, ZlibEncoder, ZstdEncoder};

use super::{Coding, Codings};

/// Space that a codec is given at once. Unit: bytes.
const SPACE: usize = 16 << 10;

/// How hard brotli tries. Source: compresses about as well as gzip does by default, at a third of the time.
const BROTLI_QUALITY: i32 = 2;

/// Brotli's window as a power of two. Source: half a MiB, what answers of an API fill.
const BROTLI_WINDOW: i32 = 19;

/// How hard zstd tries. Source: its fastest ordinary level.
const ZSTD_LEVEL: i32 = 1;

/// Encodes one body, fast rather than small: the bytes were small once, and go a short way.
pub(in crate::http) struct Encoder {
    stages: Vec<Box<dyn EncodeV2 + Send>>,
    /// What one stage gives to the next.
    between: Vec<u8>,
}

impl Encoder {
    pub(in crate::http) fn new(codings: Codings) -> Self {
        Self { stages: codings.applied().map(codec_of).collect(), between: Vec::new() }
    }

    /// Takes the next bytes of the body and appends to `out` what is ready.
    ///
    /// # Errors
    /// Those of a codec, which none of them has on any input that we know of.
    pub(in crate::http) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.through(input, out, End::None)
    }

    /// Appends everything that was pushed, so that the receiver can decode it now.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(in crate::http) fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.through(&[], out, End::Flush)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(in crate::http) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.through(&[], out, End::Finish)
    }

    fn through(&mut self, input: &[u8], out: &mut Vec<u8>, end: End) -> io::Result<()> {
        let Some((first, later)) = self.stages.split_first_mut() else {
            out.extend_from_slice(input);
            return Ok(());
        };
        let [second] = later else { return run(&mut **first, input, end, out) };
        self.between.clear();
        run(&mut **first, input, end, &mut self.between)?;
        run(&mut **second, &self.between, end, out)
    }
}

/// What is done after the input.
#[derive(Clone, Copy)]
enum End {
    None,
    Flush,
    Finish,
}

fn run(codec: &mut (dyn EncodeV2 + Send), input: &[u8], end: End, out: &mut Vec<u8>) -> io::Result<()> {
    let mut input = PartialBuffer::new(input);
    while !input.unwritten().is_empty() {
        with_space(out, |space| codec.encode(&mut input, space).map(|()| true))?;
    }
    match end {
        End::None => Ok(()),
        End::Flush => until_done(out, |space| codec.flush(space)),
        End::Finish => until_done(out, |space| codec.finish(space)),
    }
}

fn until_done(out: &mut Vec<u8>, mut step: impl FnMut(&mut WriteBuffer<'_>) -> io::Result<bool>) -> io::Result<()> {
    while !with_space(out, &mut step)? {}
    Ok(())
}

fn with_space(out: &mut Vec<u8>, step: impl FnOnce(&mut WriteBuffer<'_>) -> io::Result<bool>) -> io::Result<bool> {
    let before = out.len();
    out.resize(before + SPACE, 0);
    let mut space = WriteBuffer::new_initialized(out.get_mut(before..).unwrap_or_default());
    let done = step(&mut space);
    let written = space.written_len();
    out.truncate(before + written);
    done
}

fn codec_of(coding: Coding) -> Box<dyn EncodeV2 + Send> {
    match coding {
        Coding::Gzip => Box::new(GzipEncoder::new(Level::Fastest.into())),
        Coding::Deflate => Box::new(ZlibEncoder::new(Level::Fastest.into())),
        Coding::Brotli => {
            let params = EncoderParams::default().quality(Level::Precise(BROTLI_QUALITY)).window_size(BROTLI_WINDOW);
            Box::new(BrotliEncoder::new(params))
        }
        Coding::Zstd => Box::new(ZstdEncoder::new(ZSTD_LEVEL)),
    }
}
