//! JSON pointers with `*`, followed while a document is read.

use callgate_model::{MaskHow, MaskPlace};

use crate::rules::Rules;

/// A pointer (RFC 6901): its segments, unescaped; `None` for `*`.
pub(super) struct Pointer {
    segments: Vec<Option<String>>,
    pub(super) how: MaskHow,
}

/// Which pointers lead to where a document stands: one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leads(u64);

/// The pointers of `rules`; at most 64, as many as a policy can have.
pub(super) fn pointers(rules: &Rules) -> Vec<Pointer> {
    let pointers = rules.masking.places.iter().filter_map(|(place, how)| match place {
        MaskPlace::Json(pointer) => Some(Pointer { segments: segments(pointer), how: *how }),
        _ => None,
    });
    pointers.collect()
}

fn segments(pointer: &str) -> Vec<Option<String>> {
    let unescaped = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
    pointer.split('/').skip(1).map(|segment| (segment != "*").then(|| unescaped(segment))).collect()
}

impl Leads {
    /// At the root every pointer may lead on.
    pub(super) fn root(pointers: &[Pointer]) -> Self {
        Self(pointers.iter().enumerate().fold(0, |all, (at, _)| all | 1_u64.checked_shl(at as u32).unwrap_or(0)))
    }

    /// Whether none leads here.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that lead on through `segment`, which stands at `depth` (the root's members have depth 0).
    pub(super) fn through(self, pointers: &[Pointer], depth: usize, segment: &str) -> Self {
        let leads = |pointer: &Pointer| match pointer.segments.get(depth) {
            Some(Some(name)) => name == segment,
            Some(None) => true,
            None => false,
        };
        Self(self.each(pointers).filter(|(_, pointer)| leads(pointer)).fold(0, |all, (bit, _)| all | bit))
    }

    /// How the value is masked to which `depth` segments lead, if one of the pointers ends there.
    pub(super) fn how(self, pointers: &[Pointer], depth: usize) -> Option<MaskHow> {
        self.each(pointers).filter(|(_, pointer)| pointer.segments.len() == depth).map(|(_, pointer)| pointer.how).max()
    }

    fn each(self, pointers: &[Pointer]) -> impl Iterator<Item = (u64, &Pointer)> {
        pointers.iter().enumerate().filter_map(move |(at, pointer)| {
            let bit = 1_u64.checked_shl(at as u32)?;
            (self.0 & bit != 0).then_some((bit, pointer))
        })
    }
}
