//! What a masker goes by: kinds, how each is replaced, custom detectors, the key of pseudonyms.
//!
//! Made once per policy decision, or once and for all, and shared by the maskers of many streams.

use std::sync::Arc;

use callgate_model::{MaskHow, MaskKinds, Masking};

use crate::custom::Detectors;
use crate::detectors::DETECTORS;
use crate::error::MaskError;
use crate::finding::Text;
use crate::gate::Gates;
use crate::kinds::known;
use crate::pseudonym::PseudonymKey;
use crate::replace;

/// What to mask, and how.
///
/// With kinds that this version does not know, or pseudonyms without a key, its maskers refuse everything.
pub struct Rules {
    pub(crate) gates: Gates,
    pub(crate) masking: Masking,
    pub(crate) state: Result<(), MaskError>,
    detectors: Arc<Detectors>,
    key: Option<PseudonymKey>,
}

impl Rules {
    /// Rules that redact findings of `kinds` of the table.
    #[must_use]
    pub fn redact(kinds: MaskKinds) -> Arc<Self> {
        Self::new(&kinds.into(), Arc::default(), None)
    }

    /// Rules for `masking`, with the custom detectors of the config and the key of pseudonyms, if there is one.
    #[must_use]
    pub fn new(masking: &Masking, detectors: Arc<Detectors>, key: Option<PseudonymKey>) -> Arc<Self> {
        let kinds = masking.kinds();
        let custom = detectors.kinds().fold(known(), |all, (_, kind)| all.union(kind));
        let pseudonyms =
            !masking.pseudonym.is_empty() || masking.places.iter().any(|(_, how)| *how == MaskHow::Pseudonym);
        let (gates, state) = match Gates::new(kinds, Arc::clone(&detectors)) {
            None => (Gates::none(), Err(MaskError::Inconsistent)),
            Some(gates) if !custom.covers(kinds) => (gates, Err(MaskError::UnknownKind)),
            Some(gates) if pseudonyms && key.is_none() => (gates, Err(MaskError::NoKey)),
            Some(gates) => (gates, Ok(())),
        };
        Arc::new(Self { gates, masking: masking.clone(), state, detectors, key })
    }

    /// The name of row `row`.
    pub(crate) fn name(&self, row: usize) -> Option<&str> {
        DETECTORS.get(row).map(|detector| detector.name).or_else(|| self.detectors.name(row))
    }

    /// Every row, with its name.
    pub(crate) fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        let last = MaskKinds::NONE.0.count_zeros() as usize;
        (0..last).filter_map(|row| Some((row, self.name(row)?)))
    }

    /// What stands in the place of `found`, a finding of row `row`.
    pub(crate) fn replacement(&self, row: usize, found: &[u8], bare: bool) -> Text {
        if bare {
            return Text::Own(replace::number(found.len()));
        }
        let kind = MaskKinds(1_u64.checked_shl(u32::try_from(row).unwrap_or(u32::MAX)).unwrap_or(0));
        let detector = DETECTORS.get(row);
        if let Some(detector) = detector
            && self.masking.partial.covers(kind)
        {
            return replace::partial(detector, found);
        }
        if self.masking.pseudonym.covers(kind) {
            let name = self.name(row).unwrap_or_default();
            return Text::Own(self.pseudonym(name, &replace::canonical(row, found)));
        }
        match detector {
            Some(detector) => Text::Label(detector.label),
            None => Text::Own(self.detectors.label(row).unwrap_or_default().as_bytes().into()),
        }
    }

    /// What stands in the place of a value that is masked because of where it stands.
    pub(crate) fn value(&self, value: &[u8], how: MaskHow) -> Box<[u8]> {
        match how {
            MaskHow::Pseudonym => self.pseudonym("value", value),
            MaskHow::Redact | MaskHow::Partial => replace::VALUE.as_bytes().into(),
        }
    }

    fn pseudonym(&self, name: &str, value: &[u8]) -> Box<[u8]> {
        match &self.key {
            Some(key) => format!("[{name}:{}]", key.of(name, value)).into_bytes().into(),
            None => replace::VALUE.as_bytes().into(),
        }
    }
}

/// Says what is masked, not by which key.
impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("masking", &self.masking).field("state", &self.state).finish_non_exhaustive()
    }
}
