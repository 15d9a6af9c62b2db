//! Values of a body that are masked because of where they stand, before the masker looks for findings.

use std::sync::Arc;

use callgate_mask::{Content, JsonPlaces, Rules, mask_form};
use callgate_model::{MaskPlace, Reason};

use super::forward::Reading;

/// Longest form that is masked by place. Unit: bytes. Source: ours; forms are held until they have ended.
const FORM_MAX: usize = 64 << 10;

/// Masks one body by place.
pub(super) enum Places {
    /// No place of this body is masked.
    None,
    Json(Box<JsonPlaces>),
    /// A form, held until it has ended.
    Form(Arc<Rules>, Vec<u8>),
}

impl Places {
    /// For a body that is read so, under `rules` that name `places`.
    ///
    /// # Errors
    /// [`Reason::Unmaskable`] where places in JSON are masked and the body says that it is none: nobody could tell
    /// what stands where.
    pub(super) fn new(rules: &Arc<Rules>, places: &[MaskPlace], reading: &Reading) -> Result<Self, Reason> {
        if reading.is_form {
            let fields = places.iter().any(|place| matches!(place, MaskPlace::Form(_)));
            return Ok(if fields { Self::Form(Arc::clone(rules), Vec::new()) } else { Self::None });
        }
        match JsonPlaces::new(rules) {
            None => Ok(Self::None),
            Some(json) if reading.content == Content::Json => Ok(Self::Json(Box::new(json))),
            Some(_) => Err(Reason::Unmaskable),
        }
    }

    /// Takes the next bytes and appends to `out` what can be passed on; whether `out` is to be used: else the input is.
    ///
    /// # Errors
    /// [`Reason::Unmaskable`]: the body must be cut off.
    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<bool, Reason> {
        match self {
            Self::None => return Ok(false),
            Self::Json(json) => json.push(input, out).map_err(|_| Reason::Unmaskable)?,
            Self::Form(_, held) if held.len() + input.len() > FORM_MAX => return Err(Reason::Unmaskable),
            Self::Form(_, held) => held.extend_from_slice(input),
        }
        Ok(true)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Reason> {
        match self {
            Self::None => Ok(()),
            Self::Json(json) => json.finish(out).map_err(|_| Reason::Unmaskable),
            Self::Form(rules, held) => {
                let form = std::str::from_utf8(held).map_err(|_| Reason::Unmaskable)?;
                out.extend_from_slice(mask_form(rules, form).as_bytes());
                Ok(())
            }
        }
    }

    /// Values replaced so far.
    pub(super) fn masked(&self) -> u64 {
        match self {
            Self::Json(json) => json.masked(),
            Self::None | Self::Form(..) => 0,
        }
    }
}
