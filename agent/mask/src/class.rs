//! Sets of bytes, made at compile time and asked with one load.

/// A set of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Class([bool; 256]);

impl Class {
    /// No byte.
    pub(crate) const NONE: Self = Self([false; 256]);

    /// Letters and digits.
    pub(crate) const ALNUM: Self = Self::NONE.range(b'0', b'9').range(b'A', b'Z').range(b'a', b'z');

    /// What base64url (RFC 4648 §5) is written with, without padding.
    pub(crate) const BASE64URL: Self = Self::ALNUM.bytes(b"-_");

    /// What base64 (RFC 4648 §4) is written with, without padding.
    pub(crate) const BASE64: Self = Self::ALNUM.bytes(b"+/");

    /// This set and the bytes from `first` to `last`, both included.
    #[expect(clippy::indexing_slicing, reason = "u8 indexes 256 places; used in constants only")]
    pub(crate) const fn range(mut self, first: u8, last: u8) -> Self {
        let mut byte = first as usize;
        while byte <= last as usize {
            self.0[byte] = true;
            byte += 1;
        }
        self
    }

    /// This set and each of `bytes`.
    #[expect(clippy::indexing_slicing, reason = "u8 indexes 256 places; used in constants only")]
    pub(crate) const fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = true;
            at += 1;
        }
        self
    }

    /// This set without each of `bytes`.
    #[expect(clippy::indexing_slicing, reason = "u8 indexes 256 places; used in constants only")]
    pub(crate) const fn bytes_not(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = false;
            at += 1;
        }
        self
    }

    /// Whether `byte` is in it.
    #[inline]
    pub(crate) fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_and_nothing_else() {
        let class = Class::NONE.range(b'a', b'c').bytes(b"-\xff");
        let held: Vec<u8> = (0..=255).filter(|byte| class.has(*byte)).collect();
        assert_eq!(held, b"-abc\xff");
    }
}
