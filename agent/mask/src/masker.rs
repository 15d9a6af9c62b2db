//! The masker of one stream: takes it in pieces, gives it back masked, and never early.
//!
//! What comes out depends on the stream alone, not on how it was cut. Where the judging happens: [`scan`](crate::scan).

use std::sync::Arc;

use callgate_model::MaskKinds;

use crate::content::Content;
use crate::error::MaskError;
use crate::finder::Finder;
use crate::rules::Rules;
use crate::weave::Weave;

/// Masks one stream.
///
/// Memory: between two calls it keeps at most [`Masker::HELD_MAX`] bytes that are not out yet, and per encoding that it
/// sees through as much again; on text without findings a word or so.
/// While a finding without bounds is swallowed it keeps nothing of it.
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
    rules: Arc<Rules>,
    finder: Finder,
    weave: Weave,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Failed(MaskError),
}

impl Masker {
    /// Most bytes held back; more is an error. Unit: bytes.
    /// Source: a judgement takes 8,192 decoded bytes at most, each of which may be written with six, twice over.
    pub const HELD_MAX: usize = 1 << 19;

    /// A masker that redacts findings of `kinds`. With kinds that this version does not know it refuses everything.
    #[must_use]
    pub fn new(kinds: MaskKinds, content: Content) -> Self {
        Self::by(&Rules::redact(kinds), content)
    }

    /// A masker that goes by `rules`.
    #[must_use]
    pub fn by(rules: &Arc<Rules>, content: Content) -> Self {
        let state = rules.state.map_or_else(State::Failed, |()| State::Open);
        let finder = Finder::new(rules, content, 0);
        Self { rules: Arc::clone(rules), finder, weave: Weave::default(), state }
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
            let mut found = Vec::new();
            masker.finder.finish(&mut found)?;
            masker.weave.push(&[], &mut found, u64::MAX, out)
        })?;
        self.state = State::Failed(MaskError::Ended);
        Ok(())
    }

    /// Findings replaced so far.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.weave.counts.iter().sum()
    }

    /// Findings replaced so far, by name of kind, zeros too.
    pub fn findings_by_kind(&self) -> impl Iterator<Item = (&str, u64)> + '_ {
        self.rules.names().map(|(row, name)| (name, self.weave.counts.get(row).copied().unwrap_or(0)))
    }

    /// Bytes that are held back. Unit: bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.weave.held()
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Self) -> Result<(), MaskError>) -> Result<(), MaskError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        let done = act(self);
        if let Err(error) = done {
            self.state = State::Failed(error);
            self.weave.forget();
        }
        done
    }

    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        let mut found = Vec::new();
        self.finder.push(input, &mut found)?;
        self.weave.push(input, &mut found, self.finder.settled(), out)?;
        if self.weave.held() > Self::HELD_MAX { Err(MaskError::TooMuchHeld) } else { Ok(()) }
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
