//! A SHA-256 value, printed as 64 hex digits.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; Hash::LEN]);

/// Why something is not a [`Hash`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not a hash: expected 32 bytes, or 64 hex digits")]
pub struct HashError;

impl Hash {
    /// Length of a hash. Unit: bytes. Source: FIPS 180-4, SHA-256.
    pub const LEN: usize = 32;

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The bytes, for a message.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// What a finished digest gave.
    pub(crate) fn of_digest(digest: &aws_lc_rs::digest::Digest) -> Self {
        let mut bytes = [0; Self::LEN];
        // The lengths are equal; `zip` says so without a way to panic.
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

/// A hash of bytes that come piece by piece, a body's for example.
#[derive(Clone)]
pub struct Digest(aws_lc_rs::digest::Context);

impl Digest {
    /// Of nothing yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a digest that appears by default would hash nothing")]
    pub fn new() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The plain SHA-256 of all bytes, without a domain.
    #[must_use]
    pub fn finish(self) -> Hash {
        Hash::of_digest(&self.0.finish())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashError;
    fn try_from(bytes: &[u8]) -> Result<Self, HashError> {
        bytes.try_into().map(Self).map_err(|_| HashError)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // At once: digit by digit through the formatter it took a microsecond, and each call's `end` has two.
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
        let mut text = [0; 2 * Self::LEN];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, HashError> {
        let mut bytes = [0; Self::LEN];
        if text.len() != 2 * Self::LEN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HashError);
        }
        for (to, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
            let pair = text.get(at..at + 2).ok_or(HashError)?;
            *to = u8::from_str_radix(pair, 16).map_err(|_| HashError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_pieces() {
        let mut digest = Digest::new();
        digest.update(b"a");
        digest.update(b"bc");
        // Source: FIPS 180-4, example of SHA-256.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.finish().to_string(), expected);
    }

    #[test]
    fn prints_what_it_parses() {
        let text = "00ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1dfe";
        assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
        for bad in ["", "00", &text[1..], &text.replace('f', "g"), &format!("{text}0"), &text.replace("00", "+0")] {
            assert_eq!(bad.parse::<Hash>(), Err(HashError), "{bad}");
        }
        assert_eq!(Hash::try_from(&[1_u8; 31][..]), Err(HashError));
        assert_eq!(Hash::try_from(&[1_u8; 32][..]), Ok(Hash([1; 32])));
    }
}
