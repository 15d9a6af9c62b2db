//! The line before each chunk: `SIZE CRLF` or `SIZE;name=value CRLF`, and nothing looser.

use crate::HeadError;
use crate::limits::{CHUNK_DIGITS_MAX, CHUNK_MAX};

/// A chunk-size line that passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChunkLine {
    /// Bytes of data that follow; 0 for the last chunk.
    pub size: u64,
    /// Length of the extensions, each with its semicolon. Unit: bytes.
    pub extensions: usize,
}

/// Reads a line that ends at its first LF.
pub(super) fn read_line(line: &[u8]) -> Result<ChunkLine, HeadError> {
    let line = line.strip_suffix(b"\n").ok_or(HeadError::ChunkSize)?;
    let line = line.strip_suffix(b"\r").ok_or(HeadError::BareLf)?;
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at_checked(end).ok_or(HeadError::ChunkSize)?;
    if digits.is_empty() || digits.len() > CHUNK_DIGITS_MAX {
        return Err(HeadError::ChunkSize);
    }
    let size = std::str::from_utf8(digits).ok().and_then(|d| u64::from_str_radix(d, 16).ok());
    let size = size.filter(|s| *s <= CHUNK_MAX).ok_or(HeadError::ChunkSize)?;
    check_extensions(extensions)?;
    Ok(ChunkLine { size, extensions: extensions.len() })
}

/// The word for a line that is too long to be read.
pub(super) fn too_long(start: &[u8]) -> HeadError {
    if start.contains(&b';') { HeadError::ChunkExtension } else { HeadError::ChunkSize }
}

/// `*( ";" token [ "=" token ] )`: without the white space and quoted strings of RFC 9112 §7.1.1,
/// behind which line ends have been hidden.
fn check_extensions(text: &[u8]) -> Result<(), HeadError> {
    let Some(list) = text.strip_prefix(b";") else {
        return if text.is_empty() { Ok(()) } else { Err(HeadError::ChunkSize) };
    };
    let token = |t: &[u8]| !t.is_empty() && t.iter().all(crate::head::is_token);
    let good = |extension: &[u8]| {
        let mut parts = extension.splitn(2, |b| *b == b'=');
        parts.next().is_some_and(token) && parts.next().is_none_or(token)
    };
    if list.split(|b| *b == b';').all(good) { Ok(()) } else { Err(HeadError::ChunkExtension) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_plain_extensions() {
        for (line, size, extensions) in [
            (&b"0\r\n"[..], 0, 0),
            (b"1aF\r\n", 0x1af, 0),
            (b"0000000000000005\r\n", 5, 0),
            (b"7fffffff\r\n", 0x7fff_ffff, 0),
            (b"5;a=b;c\r\n", 5, 6),
        ] {
            assert_eq!(read_line(line), Ok(ChunkLine { size, extensions }), "{line:?}");
        }
    }

    #[test]
    fn refuses_anything_looser() {
        use HeadError::*;
        for (line, error) in [
            (&b"\r\n"[..], ChunkSize),
            (b"5 \r\n", ChunkSize),
            (b" 5\r\n", ChunkSize),
            (b"5\t\r\n", ChunkSize),
            (b"+5\r\n", ChunkSize),
            (b"-5\r\n", ChunkSize),
            (b"0x5\r\n", ChunkSize),
            (b"5_0\r\n", ChunkSize),
            (b"g\r\n", ChunkSize),
            (b"5\r\r\n", ChunkSize),
            (b"80000000\r\n", ChunkSize),
            (b"100000005\r\n", ChunkSize),
            (b"ffffffffffffffff\r\n", ChunkSize),
            (b"00000000000000005\r\n", ChunkSize),
            (b"5\n", BareLf),
            (b"5;a\n", BareLf),
            (b"5;\r\n", ChunkExtension),
            (b"5;a=\r\n", ChunkExtension),
            (b"5;=b\r\n", ChunkExtension),
            (b"5; a=b\r\n", ChunkExtension),
            (b"5;a=\"b\"\r\n", ChunkExtension),
            (b"5;a\rb\r\n", ChunkExtension),
            (b"5;a=b;;\r\n", ChunkExtension),
            (b"5;a=b=c\r\n", ChunkExtension),
        ] {
            assert_eq!(read_line(line), Err(error), "{line:?}");
        }
    }
}
