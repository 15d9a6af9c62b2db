//! Pseudonyms: the same value gets the same one, and without the key nobody can tell which value it was.

use aws_lc_rs::hmac;

/// Bytes of the hash that are shown. Source: ours; among ten million values two share one with a chance of 1 in 5.
const SHOWN: usize = 6;

/// The key that pseudonyms are made with: one per installation, kept secret, for whoever has it can try values out.
#[derive(Clone)]
pub struct PseudonymKey(hmac::Key);

impl PseudonymKey {
    /// Length of a key. Unit: bytes. Source: RFC 2104 §3, as long as the hash.
    pub const LENGTH: usize = 32;

    /// The key made of these bytes, which must be random.
    #[must_use]
    pub fn new(bytes: &[u8; Self::LENGTH]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The pseudonym of a value of kind `name`.
    pub(crate) fn of(&self, name: &str, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(name.as_bytes());
        context.update(&[0]);
        context.update(value);
        context.sign().as_ref().iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Shows nothing of the key.
impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PseudonymKey")
    }
}
