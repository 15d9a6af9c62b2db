//! Why a masker stops. Never carries a byte of the stream.

/// Why a masker stops; the caller must cut the stream off.
///
/// After any of these the masker refuses everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MaskError {
    /// The policy asks for a kind that this build has no detector for.
    #[error("a kind of finding is demanded that this version cannot mask: update the agent or change `@mask`")]
    UnknownKind,
    /// Pseudonyms are demanded, and there is no key to make them with.
    #[error("pseudonyms are demanded, and this masker was given no key")]
    NoKey,
    /// A stream in which places are masked is no JSON, or deeper or with longer names than is followed.
    #[error("not JSON as far as it can be followed, so that places in it cannot be told")]
    NotJson,
    /// More would have to be held back than is allowed.
    #[error("more bytes would have to be held back than a masker may")]
    TooMuchHeld,
    /// Bytes were pushed after the end.
    #[error("bytes after the end of a masked stream")]
    Ended,
    /// A rule that the masker keeps for itself does not hold: a defect of ours, so nothing more is let through.
    #[error("the masker found itself inconsistent, please report this")]
    Inconsistent,
}
