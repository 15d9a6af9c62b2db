//! What a resolver is told.

use std::time::Duration;

use hickory_proto::rr::Name;

use crate::upstreams::Upstreams;

/// Settings of a [`Resolver`](crate::Resolver).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom to ask.
    pub upstreams: Upstreams,
    /// Longest wait for one upstream's answer.
    pub timeout: Duration,
    /// Most answers kept; 0: none.
    pub cache_entries: usize,
    /// Most questions of one workload in a second; in a burst twice as many.
    pub queries_per_s: u32,
    /// Longest label. Unit: bytes.
    pub label_max: usize,
    /// Longest name, dots within it included. Unit: bytes.
    pub name_max: usize,
    /// Highest entropy of a run of letters and digits. Unit: bits per byte.
    pub entropy_max: f64,
    /// Shortest run whose entropy is looked at. Unit: bytes.
    pub entropy_from: usize,
    /// Domains at and below which names are not judged.
    pub exempt: Vec<Name>,
}

/// Why [`Settings`] cannot be used.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum UnfitSettings {
    /// Nothing could ever be asked.
    #[error("`{0}` is 0, so nothing could ever be asked")]
    Zero(&'static str),
    /// A run of that many bytes cannot have that entropy.
    #[error("`entropy_max` is {0}, expected 0 to 8 bits per byte")]
    Entropy(f64),
    /// Not a name.
    #[error("`{0}` is no name of a domain")]
    Name(String),
}

impl Default for Settings {
    /// The host's resolvers, and limits that names in use stay below.
    fn default() -> Self {
        Self {
            upstreams: Upstreams::host(),
            timeout: Duration::from_secs(3),
            cache_entries: 4_096,
            queries_per_s: 200,
            // Names of 61 to 63 are rare even where they are generated; tunnels fill labels to 63.
            label_max: 60,
            // Source: generated names of clouds stay below 130, reverse names of IPv6 have 72; tunnels go to 253.
            name_max: 160,
            // Source: measured over random text: hexadecimal has at most 4.0; 99 of 100 runs of base32 with 40 bytes,
            // and 85 of 100 with 32, have more; words without a hyphen have 3.3 to 3.8.
            entropy_max: 4.0,
            entropy_from: 24,
            exempt: Vec::new(),
        }
    }
}

impl Settings {
    /// Adds a domain whose names are not judged.
    ///
    /// # Errors
    /// [`UnfitSettings::Name`].
    pub fn exempt(&mut self, domain: &str) -> Result<(), UnfitSettings> {
        let mut name = Name::from_ascii(domain).map_err(|_| UnfitSettings::Name(domain.into()))?;
        if name.is_root() {
            return Err(UnfitSettings::Name(domain.into()));
        }
        name.set_fqdn(true);
        self.exempt.push(name.to_lowercase());
        Ok(())
    }

    /// Whether a resolver can work with them.
    ///
    /// # Errors
    /// [`UnfitSettings::Zero`], [`UnfitSettings::Entropy`].
    pub fn check(&self) -> Result<(), UnfitSettings> {
        let sizes = [
            ("queries_per_s", self.queries_per_s as usize),
            ("label_max_bytes", self.label_max),
            ("name_max_bytes", self.name_max),
            ("timeout_ms", usize::from(!self.timeout.is_zero())),
        ];
        if let Some((key, _)) = sizes.into_iter().find(|(_, value)| *value == 0) {
            return Err(UnfitSettings::Zero(key));
        }
        if !(0.0..=8.0).contains(&self.entropy_max) {
            return Err(UnfitSettings::Entropy(self.entropy_max));
        }
        Ok(())
    }
}
