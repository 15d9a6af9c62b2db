//! An ECDSA P-256 key that lives in the cryptographic library alone.
//!
//! It is not serialised, but for the CA key of a daemon, which must outlive it: see [`Key::kept`].
//! AWS-LC clears its memory when it is dropped.
//! The same type signs certificates (for rcgen) and handshakes (for rustls).

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::IdentityError;

/// A shared signing key.
#[derive(Clone)]
pub(crate) struct Key(Arc<EcdsaKeyPair>);

impl Key {
    /// Makes a fresh key.
    pub fn generate() -> Result<Self, IdentityError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| IdentityError::Crypto("key generation"))?;
        Ok(Self(Arc::new(pair)))
    }

    /// Reads the key in `file`, or makes one and writes it there, readable by its owner alone.
    pub fn kept(file: &Path) -> Result<Self, IdentityError> {
        let unusable = |detail: String| IdentityError::KeyFile { path: file.to_owned(), detail };
        match std::fs::read(file) {
            Ok(der) => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der)
                    .map_err(|_| unusable("it holds no P-256 key".into()))?;
                Ok(Self(Arc::new(pair)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                let der = key.0.to_pkcs8v1().map_err(|_| IdentityError::Crypto("key encoding"))?;
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(file)
                    .and_then(|mut out| out.write_all(der.as_ref()).and_then(|()| out.sync_all()))
                    .map_err(|error| unusable(error.to_string()))?;
                Ok(key)
            }
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.0.sign(&SystemRandom::new(), message).ok().map(|s| s.as_ref().to_vec())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signature(message).ok_or(rcgen::Error::RemoteKeyError)
    }
}

impl rustls::sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn rustls::sign::Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl rustls::sign::Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signature(message).ok_or_else(|| rustls::Error::General("signing failed".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
