//! Issuers that are asked over real connections, and tokens that attack them.

mod attacks;
mod cluster;
mod freshness;
mod issuer;
mod transport;
