//! What maskers go by: the rules of each answer of policy, made once, and those of the record.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use callgate_mask::{Detectors, PseudonymKey, Rules, mask_text_by};
use callgate_model::{MaskKinds, MaskPlace, Masking};

/// Most rules that are kept. Source: ours; policies name a handful of combinations.
const KEPT: usize = 64;

/// Makes rules, and keeps them.
pub struct Masks {
    detectors: Arc<Detectors>,
    key: Option<PseudonymKey>,
    recorded: Arc<Rules>,
    kept: ArcSwap<Vec<(Masking, Arc<Rules>)>>,
}

/// What the masking of one call goes by.
pub(crate) struct CallMask {
    /// For the caller; none: nothing is masked.
    pub(crate) rules: Option<Arc<Rules>>,
    /// For the record: every kind there is, and the places that policy names.
    pub(crate) recorded: Arc<Rules>,
    /// The places that policy names.
    pub(crate) places: Vec<MaskPlace>,
    /// Whether the caller gets every kind masked, so that the record needs no second look.
    pub(crate) all: bool,
}

impl Masks {
    /// With the custom kinds of the configuration and the key of pseudonyms, where there is one.
    #[must_use]
    pub fn new(detectors: Arc<Detectors>, key: Option<PseudonymKey>) -> Self {
        let all = detectors.kinds_named("all").unwrap_or(MaskKinds(u64::MAX));
        let recorded = Rules::new(&all.into(), Arc::clone(&detectors), None);
        Self { detectors, key, recorded, kept: ArcSwap::default() }
    }

    /// What the masking of one call goes by, where policy demands `masking`.
    pub(crate) fn for_call(&self, masking: &Masking) -> CallMask {
        CallMask {
            rules: self.of(masking),
            recorded: self.recorded_for(masking),
            places: masking.places.iter().map(|(place, _)| place.clone()).collect(),
            all: masking.kinds().covers(self.all()),
        }
    }

    /// A text as records hold it.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        mask_text_by(&self.recorded, text)
    }

    /// Every kind there is.
    fn all(&self) -> MaskKinds {
        self.detectors.kinds_named("all").unwrap_or(MaskKinds(u64::MAX))
    }

    /// The rules for `masking`; none: nothing is masked.
    fn of(&self, masking: &Masking) -> Option<Arc<Rules>> {
        if masking.is_empty() {
            return None;
        }
        let kept = self.kept.load();
        if let Some((_, rules)) = kept.iter().find(|(known, _)| known == masking) {
            return Some(Arc::clone(rules));
        }
        let rules = Rules::new(masking, Arc::clone(&self.detectors), self.key.clone());
        let mut next = Vec::clone(&kept);
        if next.len() == KEPT {
            next.remove(0);
        }
        next.push((masking.clone(), Arc::clone(&rules)));
        self.kept.store(Arc::new(next));
        Some(rules)
    }

    /// The rules of records for a call that policy masks by `masking`: its places are masked there too.
    fn recorded_for(&self, masking: &Masking) -> Arc<Rules> {
        if masking.places.is_empty() {
            return Arc::clone(&self.recorded);
        }
        let both = Masking { places: masking.places.clone(), ..Masking::from(self.all()) };
        self.of(&both).unwrap_or_else(|| Arc::clone(&self.recorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_made_once_and_the_number_of_them_is_bounded() {
        let masks = Masks::new(Arc::default(), None);
        let one = masks.of(&MaskKinds(1).into()).unwrap();
        assert!(Arc::ptr_eq(&one, &masks.of(&MaskKinds(1).into()).unwrap()));
        assert!(masks.of(&Masking::default()).is_none());
        for kinds in 1..200 {
            masks.of(&MaskKinds(kinds).into());
        }
        assert_eq!(masks.kept.load().len(), KEPT);
    }
}
