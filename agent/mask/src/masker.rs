//! The masker of one stream: takes it in pieces, gives it back masked, and never early.
//!
//! What comes out depends on the stream alone, not on how it was cut. Where the judging happens: [`scan`](crate::scan).

use callgate_model::MaskKinds;

use crate::content::Content;
use crate::detectors::DETECTORS;
use crate::error::MaskError;
use crate::gate::Gates;
use crate::kinds::known;
use crate::scan::Scan;
use crate::window::LOOKBEHIND;

/// Bytes of new input taken beside the kept ones before the rest is masked where it lies. Unit: bytes.
/// Source: enough that the search gets [`LOOKBEHIND`] bytes into it, small enough that copying them costs nothing.
const SEAM: usize = 512;

/// Masks one stream.
///
/// Memory: between two calls it keeps at most [`Masker::HELD_MAX`] bytes that are not out yet, and 128 that
/// are; on text without findings a word or so. While a finding without bounds is swallowed it keeps nothing of it.
/// `out` grows by the input, with each finding (six bytes or more) replaced by at most 24.
///
/// An error is final: the caller must cut the stream off, and everything later is refused with the same error.
/// Dropped without [`finish`](Self::finish), held bytes are lost, never passed.
///
/// ```
/// use callgate_mask::{Content, Masker, kinds_named};
/// let mut masker = Masker::new(kinds_named("pii").unwrap(), Content::Text);
/// let mut out = Vec::new();
/// masker.push(b"from ann@exam", &mut out)?;
/// assert_eq!(out, b"from ");
/// masker.push(b"ple.com to you", &mut out)?;
/// masker.finish(&mut out)?;
/// assert_eq!(out, b"from [masked:email] to you");
/// assert_eq!(masker.findings(), 1);
/// # Ok::<(), callgate_mask::MaskError>(())
/// ```
pub struct Masker {
    scan: Scan,
    state: State,
    /// The last bytes seen: those held and what stands before them.
    kept: Vec<u8>,
    /// Offset of the first byte of `kept` in the stream.
    kept_from: u64,
    /// How much of the stream has been pushed. Unit: bytes.
    received: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Failed(MaskError),
}

impl Masker {
    /// Most bytes held back. Unit: bytes. Source: the longest judgement of any detector, what may stand before its
    /// anchor, and the byte behind it.
    pub const HELD_MAX: usize = 8192 + LOOKBEHIND + 1;

    /// A masker that replaces findings of `kinds`. With kinds that this version does not know it refuses everything.
    #[must_use]
    pub fn new(kinds: MaskKinds, content: Content) -> Self {
        let (gates, state) = match Gates::new(kinds) {
            Some(gates) if known().covers(kinds) => (gates, State::Open),
            Some(gates) => (gates, State::Failed(MaskError::UnknownKind)),
            None => (Gates::none(), State::Failed(MaskError::Inconsistent)),
        };
        Self { scan: Scan::new(gates, content), state, kept: Vec::new(), kept_from: 0, received: 0 }
    }

    /// Takes the next bytes of the stream and appends to `out` what can be passed on by now.
    ///
    /// # Errors
    /// See [`MaskError`]; what was appended before is masked and may be sent, nothing may follow it.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.guarded(|masker| masker.take(input, out))
    }

    /// Ends the stream: appends what was held, judged as the stream's last bytes.
    ///
    /// # Errors
    /// As [`push`](Self::push). Afterwards every call gives [`MaskError::Ended`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.guarded(|masker| {
            let kept = std::mem::take(&mut masker.kept);
            masker.scan.over(&kept, masker.kept_from, true, out)
        })?;
        self.state = State::Failed(MaskError::Ended);
        Ok(())
    }

    /// Findings replaced so far.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.scan.found.iter().sum()
    }

    /// Findings replaced so far, by name of kind, zeros too.
    pub fn findings_by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        DETECTORS.iter().map(|detector| detector.name).zip(self.scan.found.iter().copied())
    }

    /// Bytes that are held back. Unit: bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        usize::try_from(self.received.saturating_sub(self.scan.emitted)).unwrap_or(usize::MAX)
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Self) -> Result<(), MaskError>) -> Result<(), MaskError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        let done = act(self);
        if let Err(error) = done {
            self.state = State::Failed(error);
            self.kept = Vec::new();
        }
        done
    }

    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        let input_from = self.received;
        self.received += input.len() as u64;
        let mut rest = input;
        // First where kept and new bytes meet, on a copy; as soon as the search no longer needs kept ones, in place.
        while !self.kept.is_empty() && self.scan.next < input_from + LOOKBEHIND as u64 {
            if rest.is_empty() {
                self.trim();
                return Ok(());
            }
            let (head, tail) = rest.split_at_checked(SEAM.max(self.kept.len())).unwrap_or((rest, &[]));
            self.kept.extend_from_slice(head);
            rest = tail;
            self.scan.over(&self.kept, self.kept_from, false, out)?;
        }
        if rest.is_empty() {
            self.trim();
            return Ok(());
        }
        self.scan.over(input, input_from, false, out)?;
        let keep = self.scan.kept_from().checked_sub(input_from).and_then(|keep| usize::try_from(keep).ok());
        let keep = keep.unwrap_or(0);
        self.kept.clear();
        self.kept.extend_from_slice(input.get(keep..).ok_or(MaskError::Inconsistent)?);
        self.kept_from = input_from + keep as u64;
        Ok(())
    }

    /// Forgets what the search has left behind for good.
    fn trim(&mut self) {
        let past = self.scan.kept_from().saturating_sub(self.kept_from);
        let past = usize::try_from(past).unwrap_or(usize::MAX).min(self.kept.len());
        self.kept.drain(..past);
        self.kept_from += past as u64;
    }
}

/// Says how far it is; shows no byte of the stream.
impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker")
            .field("state", &self.state)
            .field("findings", &self.findings())
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}
