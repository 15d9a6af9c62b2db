//! Why a masker stops. Never carries a byte of the stream.

/// Why a masker stops; the caller must cut the stream off.
///
/// After any of these the masker refuses everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MaskError {
    /// The policy asks for a kind that this build has no detector for.
    #[error("a kind of finding is demanded that this version cannot mask: update the agent or change `@mask`")]
    UnknownKind,
    /// Bytes were pushed after the end.
    #[error("bytes after the end of a masked stream")]
    Ended,
    /// A rule that the masker keeps for itself does not hold: a defect of ours, so nothing more is let through.
    #[error("the masker found itself inconsistent, please report this")]
    Inconsistent,
}
