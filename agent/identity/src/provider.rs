//! The cryptography of both sides: AWS-LC, hybrid post-quantum key exchange first.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// AWS-LC with X25519MLKEM768 before the classical groups.
///
/// The order is set here, not left to a cargo feature that another crate of the build could change.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    Arc::new(provider)
}
