//! The algorithms that a token may be signed with: asymmetric ones, and no others exist here.

use serde::{Deserialize, Deserializer, de};

/// A signature algorithm of JWS. Source: RFC 7518 §3.1, RFC 8037 §3.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &'static [Self] = &[
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The algorithms of RSA keys.
    pub(super) const RSA: &'static [Self] =
        &[Self::RS256, Self::RS384, Self::RS512, Self::PS256, Self::PS384, Self::PS512];

    /// The name in headers and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that name, to the letter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.as_str() == name)
    }

    pub(super) fn of_library(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as Theirs;
        match self {
            Self::RS256 => Theirs::RS256,
            Self::RS384 => Theirs::RS384,
            Self::RS512 => Theirs::RS512,
            Self::PS256 => Theirs::PS256,
            Self::PS384 => Theirs::PS384,
            Self::PS512 => Theirs::PS512,
            Self::ES256 => Theirs::ES256,
            Self::ES384 => Theirs::ES384,
            Self::EdDSA => Theirs::EdDSA,
        }
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
            de::Error::custom(format!("`{name}` is not one of the asymmetric algorithms: {}", all.join(", ")))
        })
    }
}
