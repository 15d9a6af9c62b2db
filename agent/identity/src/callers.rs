//! On whose behalf a workload calls: tokens of configured issuers become verified [`Caller`]s.
//!
//! [`Issuers`] is made from the configuration's `[[issuer]]`s. For each request, [`Issuers::identify`] tells the caller,
//! that there is none, or why the request must be denied: a bad token is a denial, never an anonymous call.
//! Which header is a token of ours and which is the application's own stands in the table of [`presented`].
//!
//! The way of a token: [`presented`] finds it, [`seen`] knows it from before, [`parse`] reads it strictly,
//! [`verify`] judges its claims, [`keyring`] has its issuer's key (which [`fetch`] got and [`keys`] understood),
//! [`verify`] judges its signature. [`cluster`] has the cluster say whether it still stands by one of its own.
//!
//! Never trusted: anything the token says about how to verify it. Never shown: a byte of a token.
//! Not done here: deciding what a caller may (policy), taking the header off the request (the proxy).

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod algorithm;
mod clock;
mod cluster;
mod config;
mod error;
mod fetch;
mod glob;
mod json;
mod keyring;
mod keys;
pub mod parse;
mod presented;
mod seen;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use callgate_model::Caller;
use http::{HeaderMap, HeaderName};

use self::clock::Clock;
use self::cluster::ClusterIssuer;
use self::config::Terms;
use self::keyring::{Held, Keyring, Source};
use self::parse::Inspected;
use self::seen::{Digest, Seen, SeenTokens};
use self::verify::Claims;
use crate::upstream_config;

pub use self::algorithm::Algorithm;
pub use self::cluster::{Answer, ClusterApi, ClusterKeys, ClusterTokens, Review};
pub use self::config::IssuerConfig;
pub use self::error::{IssuersError, TokenError};
pub use self::presented::{Presented, Token};

/// Most issuers.
const ISSUERS_MAX: usize = 32;

/// Everybody who may vouch for callers. Made once, shared; a changed configuration makes another.
pub struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    cluster: Option<ClusterIssuer>,
    headers: Vec<HeaderName>,
    seen: SeenTokens,
    clock: Clock,
}

struct Issuer {
    terms: Terms,
    keyring: Arc<Keyring>,
}

/// A verified caller, and what is to be done with the header that named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identified {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The header that must not go on to the service; none: its issuer's tokens are forwarded.
    pub strip: Option<HeaderName>,
}

impl Issuers {
    /// Checks the configuration. Fetches nothing: see [`warm`](Self::warm).
    ///
    /// Blocking: reads certificate files, some milliseconds.
    ///
    /// # Errors
    /// Names the issuer and the key whose value is unfit.
    pub fn new(configs: &[IssuerConfig]) -> Result<Self, IssuersError> {
        Self::with_clock(configs, Clock::new())
    }

    fn with_clock(configs: &[IssuerConfig], clock: Clock) -> Result<Self, IssuersError> {
        if configs.len() > ISSUERS_MAX {
            return Err(IssuersError::TooMany(configs.len(), ISSUERS_MAX));
        }
        let mut issuers: Vec<Arc<Issuer>> = Vec::with_capacity(configs.len());
        let mut headers = Vec::new();
        for config in configs {
            let terms = Terms::of(config)?;
            if issuers.iter().any(|other| other.terms.issuer == terms.issuer) {
                return Err(IssuersError::setting(&terms.issuer, "issuer", "it is configured twice"));
            }
            let tls = upstream_config(config.ca.as_slice(), &[b"http/1.1"])
                .map_err(|source| IssuersError::Tls { issuer: terms.issuer.clone(), source })?;
            let Some(at) = terms.keys_at.clone() else { continue };
            let keyring = Keyring::new(&terms.issuer, Source::Web(at, tls), terms.stale_max, clock.clone());
            if !headers.contains(&terms.header) {
                headers.push(terms.header.clone());
            }
            issuers.push(Arc::new(Issuer { terms, keyring }));
        }
        Ok(Self { issuers, cluster: None, headers, seen: SeenTokens::new(), clock })
    }

    /// The same, and the service accounts of the cluster behind `api`; see [`learn_cluster`](Self::learn_cluster).
    ///
    /// # Errors
    /// Names the key whose value is unfit.
    pub fn with_cluster(mut self, tokens: &ClusterTokens, api: Arc<dyn ClusterApi>) -> Result<Self, IssuersError> {
        let cluster = ClusterIssuer::new(tokens, api, self.clock.clone())?;
        if !self.headers.contains(&cluster.header) {
            self.headers.push(cluster.header.clone());
        }
        self.cluster = Some(cluster);
        Ok(self)
    }

    /// Asks the cluster who it is as an issuer, until it says so: its tokens are refused before that.
    pub async fn learn_cluster(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.learn().await;
        }
    }

    /// Whether no issuer is configured, so that every header is the application's own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty() && self.cluster.is_none()
    }

    /// The headers that tokens come in. Records must treat their values as credentials.
    #[must_use]
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Fetches the keys of all issuers, at most 5 seconds; returns the issuers whose keys could not be had.
    ///
    /// Not needed, but it spares the first call the wait, and tells the operator early.
    ///
    /// # Cancel safety
    /// The fetches go on when the future is dropped.
    pub async fn warm(&self) -> Vec<&str> {
        self.issuers.iter().for_each(|issuer| issuer.keyring.start());
        let mut without = Vec::new();
        for issuer in &self.issuers {
            if issuer.keyring.wait().await.is_none() {
                without.push(issuer.terms.issuer.as_str());
            }
        }
        without
    }

    /// What `headers` present: nothing, a token, or something to refuse. Nothing is verified yet.
    #[must_use]
    pub fn of_headers<'h>(&self, headers: &'h HeaderMap) -> Presented<'h> {
        let comes_in = |header: &HeaderName, iss: &str| {
            self.issuers.iter().any(|issuer| issuer.terms.header == header && issuer.terms.issuer == iss)
        };
        let came_in = |header: &HeaderName, digest: &Digest| {
            let issuer = self.seen.get(digest).and_then(|seen| self.at(seen.issuer));
            issuer.is_some_and(|issuer| issuer.terms.header == header)
        };
        presented::read(headers, &self.headers, comes_in, came_in)
    }

    /// The caller that `headers` name; none: no token of ours is presented.
    ///
    /// # Errors
    /// Why the request must be denied.
    /// # Cancel safety
    /// Dropping the future leaves a fetch of keys going, for whoever comes next.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Option<Identified>, TokenError> {
        let token = match self.of_headers(headers) {
            Presented::None => return Ok(None),
            Presented::Refused(error) => return Err(error),
            Presented::Token(token) => token,
        };
        let (seen, issuer) = self.judge(token.bytes, token.digest).await?;
        if issuer.terms.header != token.header {
            return Err(TokenError::UnknownIssuer);
        }
        let strip = (!issuer.terms.forward).then_some(token.header);
        Ok(Some(Identified { caller: seen.caller, strip }))
    }

    /// Verifies `token`, whatever it came in; waits for its issuer's keys where they must be fetched.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    /// # Cancel safety
    /// As [`identify`](Self::identify).
    pub async fn verify(&self, token: impl AsRef<[u8]>) -> Result<Arc<Caller>, TokenError> {
        let token = token.as_ref();
        Ok(self.judge(token, Digest::of(token)).await?.0.caller)
    }

    /// Verifies `token` without waiting; none: keys must be fetched first, or the cluster asked: ask
    /// [`verify`](Self::verify).
    ///
    /// Must run within a tokio runtime, as it may start a fetch in the background.
    pub fn verify_now(&self, token: impl AsRef<[u8]>) -> Option<Result<Arc<Caller>, TokenError>> {
        let token = token.as_ref();
        let digest = Digest::of(token);
        if let Some((seen, _)) = self.recall(&digest) {
            return match self.reviewer(&seen) {
                None => Some(Ok(seen.caller)),
                Some(cluster) => Some(cluster.known(&digest)?.map(|()| seen.caller)),
            };
        }
        let reading = match self.read(token, digest) {
            Ok(reading) => reading,
            Err(error) => return Some(Err(error)),
        };
        let held = reading.issuer.keyring.at_hand()?;
        let concluded = reading.conclude(&held)?;
        if concluded.as_ref().is_ok_and(|seen| self.reviewer(seen).is_some()) {
            return None;
        }
        Some(concluded.map(|seen| seen.caller))
    }

    async fn judge(&self, token: &[u8], digest: Digest) -> Result<(Seen, Arc<Issuer>), TokenError> {
        let known = match self.recall(&digest) {
            Some(known) => known,
            None => self.judge_alone(token, digest).await?,
        };
        if let Some(cluster) = self.reviewer(&known.0) {
            cluster.review(token, &digest, &known.0.caller.sub).await?;
        }
        Ok(known)
    }

    /// Who must stand by the token beside its signature.
    fn reviewer(&self, seen: &Seen) -> Option<&ClusterIssuer> {
        self.cluster.as_ref().filter(|_| seen.issuer == self.issuers.len())
    }

    /// The issuer of that place; the cluster's is behind the last.
    fn at(&self, place: usize) -> Option<Arc<Issuer>> {
        if place == self.issuers.len() {
            return self.cluster.as_ref()?.issuer();
        }
        self.issuers.get(place).cloned()
    }

    async fn judge_alone(&self, token: &[u8], digest: Digest) -> Result<(Seen, Arc<Issuer>), TokenError> {
        let reading = self.read(token, digest)?;
        let issuer = Arc::clone(&reading.issuer);
        let keyring = &issuer.keyring;
        let concluded = match keyring.at_hand() {
            Some(held) => match reading.conclude(&held) {
                Some(concluded) => Some(concluded),
                // A key that came after these, perhaps.
                None => keyring.anew(&held).await.and_then(|held| reading.conclude(&held)),
            },
            None => {
                let held = keyring.wait().await.ok_or(TokenError::KeysUnavailable)?;
                reading.conclude(&held)
            }
        };
        Ok((concluded.ok_or(TokenError::UnknownKey)??, issuer))
    }

    /// A token that was verified before and still holds: it has not expired, and its key is its issuer's still.
    fn recall(&self, digest: &Digest) -> Option<(Seen, Arc<Issuer>)> {
        let seen = self.seen.get(digest)?;
        let issuer = self.at(seen.issuer)?;
        if self.clock.unix_s() >= seen.exp {
            self.seen.forget(digest);
            return None;
        }
        // Without keys at hand it is for the full judgement to wait for them.
        let held = issuer.keyring.at_hand()?;
        held.keys.holds(seen.key).then_some((seen, issuer))
    }

    /// Everything about a token that needs no key.
    fn read<'i, 't>(&'i self, token: &'t [u8], digest: Digest) -> Result<Reading<'i, 't>, TokenError> {
        let inspected = parse::inspect(token)?;
        let issues = |place: &usize| self.at(*place).is_some_and(|issuer| issuer.terms.issuer == inspected.iss);
        let place = (0..=self.issuers.len()).find(issues).ok_or(TokenError::UnknownIssuer)?;
        let issuer = self.at(place).ok_or(TokenError::UnknownIssuer)?;
        let claims = verify::claims(&inspected, &issuer.terms, self.clock.unix_s())?;
        Ok(Reading { all: self, place, issuer, token, digest, inspected, claims })
    }
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cluster = self.cluster.as_ref().and_then(ClusterIssuer::issuer);
        f.debug_list().entries(self.issuers.iter().chain(&cluster).map(|issuer| &issuer.terms)).finish()
    }
}

/// A token that would hold if its signature does.
struct Reading<'i, 't> {
    all: &'i Issuers,
    place: usize,
    issuer: Arc<Issuer>,
    token: &'t [u8],
    digest: Digest,
    inspected: Inspected,
    claims: Claims,
}

impl Reading<'_, '_> {
    /// Judges the signature by `held`, and remembers a good one; none: the key is not among them.
    fn conclude(&self, held: &Held) -> Option<Result<Seen, TokenError>> {
        let key = held.keys.find(self.inspected.kid.as_deref(), self.inspected.algorithm)?;
        if let Err(error) = verify::signature(self.token, &self.inspected, &self.issuer.terms, key) {
            return Some(Err(error));
        }
        let caller = Arc::new(self.claims.to_caller(&self.inspected.iss));
        let seen = Seen { issuer: self.place, key: key.id, exp: self.claims.exp, caller };
        self.all.seen.keep(&self.digest, seen.clone());
        Some(Ok(seen))
    }
}
