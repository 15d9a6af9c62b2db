//! One escape: `\u0040`, `\/`, `%40`, `&#64;`, `&commat;`, a full-width digit, a space that is none of ASCII.
//!
//! What stands for an ASCII character becomes that character, however it is written; what is invisible becomes nothing.

/// What stands at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// A byte that means itself.
    Plain,
    /// An escape of `length` bytes, and what it says.
    Escape { length: usize, says: Said },
    /// More bytes are needed to tell.
    More,
}

/// What an escape says: up to four bytes, none for what is invisible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Said {
    bytes: [u8; 4],
    length: usize,
}

impl Said {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn byte(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], length: 1 }
    }

    /// `code` in UTF-8; its ASCII twin if it has one.
    fn code(code: u32) -> Self {
        let mut said = Self { bytes: [0; 4], length: 0 };
        if let Some(twin) = twin(code) {
            return twin.map_or(said, Self::byte);
        }
        let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        said.length = letter.encode_utf8(&mut said.bytes).len();
        said
    }
}

/// First bytes of escapes that are written in ASCII.
pub(super) const OPENING_ASCII: [u8; 3] = [b'\\', b'%', b'&'];

/// First bytes of characters beyond ASCII that look like one of ASCII.
pub(super) const OPENING_OTHER: [u8; 3] = [0xc2, 0xe2, 0xef];

/// Longest name of an entity that is known.
const NAME_MAX: usize = 8;

/// Most digits of a numeric entity, leading zeros included.
const NUMBER_MAX: usize = 8;

/// Entities that stand for ASCII or for what looks like it. Source: HTML, named character references.
const ENTITIES: [(&[u8], u8); 45] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"nbsp", b' '),
    (b"commat", b'@'),
    (b"period", b'.'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"comma", b','),
    (b"sol", b'/'),
    (b"bsol", b'\\'),
    (b"lowbar", b'_'),
    (b"UnderBar", b'_'),
    (b"hyphen", b'-'),
    (b"dash", b'-'),
    (b"ndash", b'-'),
    (b"mdash", b'-'),
    (b"minus", b'-'),
    (b"num", b'#'),
    (b"percnt", b'%'),
    (b"plus", b'+'),
    (b"equals", b'='),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"lbrack", b'['),
    (b"lsqb", b'['),
    (b"rbrack", b']'),
    (b"rsqb", b']'),
    (b"lbrace", b'{'),
    (b"lcub", b'{'),
    (b"rbrace", b'}'),
    (b"rcub", b'}'),
    (b"quest", b'?'),
    (b"excl", b'!'),
    (b"ast", b'*'),
    (b"dollar", b'$'),
    (b"verbar", b'|'),
    (b"grave", b'`'),
    (b"Tab", b'\t'),
    (b"NewLine", b'\n'),
    (b"ensp", b' '),
    (b"emsp", b' '),
    (b"thinsp", b' '),
];

/// What stands at the start of `bytes`; with `ended` nothing comes after them.
pub(super) fn at(bytes: &[u8], ended: bool) -> Unit {
    let unit = match bytes {
        [b'\\', rest @ ..] => backslash(rest, ended),
        [b'%', high, low, ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => escape(3, Said::byte(u8::try_from(high << 4 | low).unwrap_or(b'?'))),
            _ => Unit::Plain,
        },
        [b'%', high] if hex(*high).is_none() => Unit::Plain,
        [b'%', ..] => Unit::More,
        [b'&', rest @ ..] => entity(rest, ended),
        [0xc2, low, ..] => folded(2, (2 << 6) | u32::from(*low & 0x3f)),
        [0xe2 | 0xef, middle, _, ..] if !matches!(middle, 0x80 | 0x81 | 0x88 | 0xbb..=0xbd) => Unit::Plain,
        [high @ (0xe2 | 0xef), middle, low, ..] => {
            let code = u32::from(*high & 0xf) << 12 | u32::from(*middle & 0x3f) << 6 | u32::from(*low & 0x3f);
            folded(3, code)
        }
        [0xc2] | [0xe2 | 0xef] | [0xe2 | 0xef, _] => Unit::More,
        _ => Unit::Plain,
    };
    if ended && unit == Unit::More { Unit::Plain } else { unit }
}

fn escape(length: usize, says: Said) -> Unit {
    Unit::Escape { length, says }
}

/// A character beyond ASCII that looks like one of ASCII, written in UTF-8.
fn folded(length: usize, code: u32) -> Unit {
    if twin(code).is_some() { escape(length, Said::code(code)) } else { Unit::Plain }
}

/// The ASCII character that `code` is taken for, or nothing where it is invisible; `None` if it has no twin.
fn twin(code: u32) -> Option<Option<u8>> {
    let ascii = |code: u32| u8::try_from(code).ok();
    match code {
        0..=0x7f => Some(ascii(code)),
        0xad | 0x200b..=0x200d | 0x2060 | 0xfeff => Some(None),
        0xa0 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => Some(Some(b' ')),
        0x2010..=0x2015 | 0x2212 => Some(Some(b'-')),
        0xff01..=0xff5e => Some(ascii(code - 0xff01 + 0x21)),
        _ => None,
    }
}

/// What stands behind a backslash: JSON (RFC 8259 §7), and `\x40` of JavaScript.
fn backslash(rest: &[u8], ended: bool) -> Unit {
    match rest {
        [] => Unit::More,
        [plain @ (b'"' | b'\\' | b'/' | b'\''), ..] => escape(2, Said::byte(*plain)),
        [b'n', ..] => escape(2, Said::byte(b'\n')),
        [b'r', ..] => escape(2, Said::byte(b'\r')),
        [b't', ..] => escape(2, Said::byte(b'\t')),
        [b'b' | b'f', ..] => escape(2, Said::byte(b' ')),
        [b'x', digits @ ..] => match number::<2>(digits) {
            Number::Is(code) => escape(4, Said::code(code)),
            Number::Short => Unit::More,
            Number::No => Unit::Plain,
        },
        [b'u', digits @ ..] => unicode(digits, ended),
        _ => Unit::Plain,
    }
}

/// The four digits of `\uXXXX`, and those of a second half behind a first.
fn unicode(digits: &[u8], ended: bool) -> Unit {
    let code = match number::<4>(digits) {
        Number::Is(code) => code,
        Number::Short => return Unit::More,
        Number::No => return Unit::Plain,
    };
    if !(0xd800..0xdc00).contains(&code) {
        return escape(6, Said::code(code));
    }
    let low = match digits.get(4..).unwrap_or_default() {
        [b'\\', b'u', digits @ ..] => number::<4>(digits),
        [] | [b'\\'] if !ended => return Unit::More,
        _ => Number::No,
    };
    match low {
        Number::Is(low @ 0xdc00..0xe000) => escape(12, Said::code(0x1_0000 + ((code & 0x3ff) << 10 | low & 0x3ff))),
        Number::Short if !ended => Unit::More,
        _ => escape(6, Said::code(code)),
    }
}

enum Number {
    Is(u32),
    Short,
    No,
}

/// The number that `N` hexadecimal digits spell.
fn number<const N: usize>(digits: &[u8]) -> Number {
    let mut value = 0;
    for at in 0..N {
        match digits.get(at).map(|digit| hex(*digit)) {
            None => return Number::Short,
            Some(None) => return Number::No,
            Some(Some(digit)) => value = value << 4 | digit,
        }
    }
    Number::Is(value)
}

pub(super) fn hex(digit: u8) -> Option<u32> {
    char::from(digit).to_digit(16)
}

/// What stands behind `&`.
fn entity(rest: &[u8], ended: bool) -> Unit {
    match rest {
        [] | [b'#'] | [b'#', b'x' | b'X'] => Unit::More,
        [b'#', b'x' | b'X', digits @ ..] => numeric(digits, 16, 3, ended),
        [b'#', digits @ ..] => numeric(digits, 10, 2, ended),
        _ => {
            let length = rest.iter().take(NAME_MAX + 1).take_while(|byte| byte.is_ascii_alphabetic()).count();
            match rest.get(length) {
                None if length <= NAME_MAX => Unit::More,
                Some(b';') => {
                    let name = rest.get(..length).unwrap_or_default();
                    let known = ENTITIES.iter().find(|(known, _)| *known == name);
                    known.map_or(Unit::Plain, |(_, byte)| escape(length + 2, Said::byte(*byte)))
                }
                _ => Unit::Plain,
            }
        }
    }
}

/// The digits of a numeric entity; browsers take it without its semicolon too.
fn numeric(digits: &[u8], radix: u32, opening: usize, ended: bool) -> Unit {
    let length = digits.iter().take(NUMBER_MAX).take_while(|digit| char::from(**digit).is_digit(radix)).count();
    let end = match digits.get(length) {
        None if !ended => return Unit::More,
        Some(b';') => length + 1,
        _ => length,
    };
    if length == 0 {
        return Unit::Plain;
    }
    let code = digits.iter().take(length).fold(0_u32, |code, digit| {
        code.saturating_mul(radix).saturating_add(char::from(*digit).to_digit(radix).unwrap_or(0))
    });
    escape(opening + end, Said::code(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &[u8]) -> Option<(usize, String)> {
        match at(text, true) {
            Unit::Escape { length, says } => Some((length, String::from_utf8_lossy(says.bytes()).into_owned())),
            _ => None,
        }
    }

    #[test]
    fn escapes_say_what_they_stand_for() {
        for (text, length, says) in [
            (r"\u0040x", 6, "@"),
            (r"\u00F6", 6, "ö"),
            (r"\ud83d\ude00", 12, "😀"),
            (r"\ud83dx", 6, "\u{fffd}"),
            (r"\/", 2, "/"),
            (r"\\u0040", 2, "\\"),
            (r"\n", 2, "\n"),
            (r"\x40", 4, "@"),
            ("%40", 3, "@"),
            ("&#64;", 5, "@"),
            ("&#064x", 5, "@"),
            ("&#x40;", 6, "@"),
            ("&commat;", 8, "@"),
            ("\u{a0}", 2, " "),
            ("–", 3, "-"),
            ("４", 3, "4"),
            (r"\uff14", 6, "4"),
            ("\u{200b}", 3, ""),
        ] {
            assert_eq!(said(text.as_bytes()), Some((length, says.to_owned())), "{text}");
        }
        for text in ["\\", r"\q", r"\u00g0", "%4", "%4x", "&", "&nothing;", "&amp", "&#;", "é", "“", "a", ""] {
            assert_eq!(said(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_may_go_on_asks_for_more() {
        for text in ["\\", r"\u00", r"\ud83d", r"\ud83d\", r"\ud83d\ude", "%", "%4", "&", "&#", "&#x", "&#6", "&com"] {
            assert_eq!(at(text.as_bytes(), false), Unit::More, "{text}");
        }
        assert_eq!(at(&[0xef, 0xbc], false), Unit::More);
    }
}
