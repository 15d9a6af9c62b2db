//! The arguments of an HTTP request, from its query and its complete body, for policy to judge.
//!
//! Strict on purpose: what two servers could read in two ways is [`Unfit`], and a rule that names arguments then
//! denies the call. The bytes are judged as they are and forwarded as they are; nothing is rewritten here.
//! Never reads a body that is compressed or of a type not in [`Format`]. See [`json`], [`form`], [`number`].

mod form;
mod json;
mod number;
#[cfg(test)]
mod tests;

use callgate_model::{Arguments, Unfit};

/// A request's content: what decides how its arguments are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Content<'a> {
    /// Every value of `Content-Type`, in order.
    pub types: &'a [&'a [u8]],
    /// Every value of `Content-Encoding`, in order.
    pub encodings: &'a [&'a [u8]],
    /// The query as sent, without the `?`.
    pub query: &'a str,
    /// The complete body, without its framing.
    pub body: &'a [u8],
}

/// The types of content whose arguments are understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `application/json`, and every type that ends in `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

impl Format {
    /// The format of a body that is not empty, before the body is read: none other is worth holding back.
    ///
    /// # Errors
    /// [`Unfit::ContentEncoded`] for any coding but `identity`; [`Unfit::ContentType`] for none, several, another type
    /// (multipart too), or a charset other than UTF-8.
    pub fn of(types: &[&[u8]], encodings: &[&[u8]]) -> Result<Self, Unfit> {
        if encodings.iter().any(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
            return Err(Unfit::ContentEncoded);
        }
        let [one] = types else { return Err(Unfit::ContentType) };
        let text = std::str::from_utf8(one).map_err(|_| Unfit::ContentType)?.to_ascii_lowercase();
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or("");
        let format = match kind.split_once('/') {
            Some(("application", "json")) => Self::Json,
            Some(("application", "x-www-form-urlencoded")) => Self::Form,
            Some((top, sub)) if is_token(top) && is_token(sub) && sub.len() > 5 && sub.ends_with("+json") => Self::Json,
            _ => return Err(Unfit::ContentType),
        };
        parts.try_for_each(check_parameter)?;
        Ok(format)
    }
}

/// Reads the arguments of a request.
///
/// An empty body has no arguments, whatever its type is said to be. A name that the query and the body share is
/// there twice: frameworks merge the two, in either order.
///
/// # Errors
/// [`Unfit`], if they cannot be told for certain.
pub fn read_arguments(content: &Content<'_>) -> Result<Arguments, Unfit> {
    let mut arguments = Arguments::new();
    if !content.body.is_empty() {
        let format = Format::of(content.types, content.encodings)?;
        if content.body.starts_with(b"\xef\xbb\xbf") {
            return Err(Unfit::ByteOrderMark);
        }
        let text = std::str::from_utf8(content.body).map_err(|_| Unfit::NotUtf8)?;
        arguments = match format {
            Format::Json => json::read(text)?,
            Format::Form => {
                form::read(text, |name| format!("/{}", form::escape(name)), &mut arguments)?;
                arguments
            }
        };
    }
    let body = arguments.len();
    form::read(content.query, |name| format!("?{name}"), &mut arguments)?;
    let shared = |pointer: &str| {
        pointer.strip_prefix('?').is_some_and(|name| arguments.holds(&format!("/{}", form::escape(name))))
    };
    if body > 0 && arguments.iter().any(|(pointer, _)| shared(pointer)) {
        return Err(Unfit::Duplicate);
    }
    Ok(arguments)
}

/// A parameter of a content type: readers of JSON ignore all of them, or decode by the charset.
fn check_parameter(parameter: &str) -> Result<(), Unfit> {
    let (name, value) = parameter.split_once('=').ok_or(Unfit::ContentType)?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let plain = is_token(name) && !value.is_empty() && !value.contains(['"', '\\', ',']);
    if plain && (name != "charset" || value == "utf-8") { Ok(()) } else { Err(Unfit::ContentType) }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
