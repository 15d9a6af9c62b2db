//! Forms and queries: names and values, percent-encoded, every value a text.
//!
//! Frameworks disagree on nearly everything beyond `name=value&…`, so what they would read in two ways is refused:
//! names that are there twice, also as `name[]` beside `name`, semicolons, broken escapes, odd white space in names.

use std::borrow::Cow;
use std::collections::HashMap;

use callgate_model::{Argument, Arguments, Unfit};

/// Reads `text`, each pair to the pointer that `place` gives its name.
pub(super) fn read(text: &str, place: impl Fn(&str) -> String, arguments: &mut Arguments) -> Result<(), Unfit> {
    // Servers of an older time separate pairs by `;` too.
    if text.contains(';') {
        return Err(Unfit::Malformed);
    }
    let mut aliases: HashMap<String, bool> = HashMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        if name.trim() != name || name.chars().any(char::is_control) {
            return Err(Unfit::Malformed);
        }
        let (alias, indexed) = alias(&name);
        match aliases.insert(alias, indexed) {
            None => {}
            // `filter[a]` and `filter[b]` are two; whether they are the same name is told by their pointers.
            Some(true) if indexed => {}
            Some(_) => return Err(Unfit::Duplicate),
        }
        arguments.insert(place(&name), Argument::Text(value))?;
    }
    Ok(())
}

/// A name within a JSON pointer.
pub(super) fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) { name.replace('~', "~0").replace('/', "~1").into() } else { name.into() }
}

/// What PHP and its like make of a name: the part before a bracket, `.` and space as `_`; and whether there is one.
fn alias(name: &str) -> (String, bool) {
    let (base, indexed) = match name.find('[') {
        Some(at) => (name.get(..at).unwrap_or(name), true),
        None => (name, false),
    };
    (base.replace(['.', ' '], "_").to_lowercase(), indexed)
}

fn decode(raw: &str) -> Result<String, Unfit> {
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = bytes.next().and_then(hex_value);
                let low = bytes.next().and_then(hex_value);
                let (Some(high), Some(low)) = (high, low) else { return Err(Unfit::Malformed) };
                (high << 4) | low
            }
            plain => plain,
        });
    }
    String::from_utf8(decoded).map_err(|_| Unfit::NotUtf8)
}

fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
