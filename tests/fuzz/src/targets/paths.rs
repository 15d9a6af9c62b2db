//! Canonical paths: canonical at once, the same path as before, and nothing in them that two servers read in two ways.

use callgate_wire::CanonicalPath;

pub fn run(data: &[u8]) -> bool {
    let Ok(raw) = std::str::from_utf8(data) else { return false };
    let Ok(path) = CanonicalPath::parse(raw) else { return false };
    let text = path.as_str();
    assert_eq!(CanonicalPath::parse(text).as_ref(), Ok(&path), "canonical is canonical");
    assert_eq!(text, path.to_string());

    let (before, after) = (decoded(data), decoded(text.as_bytes()));
    assert_eq!(before, after, "another path than was asked for");
    let meaning = String::from_utf8(after).expect("a path is text");
    assert!(text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!text.contains("//") && !text.contains(['?', '#', '\\', ';', '"', '<', '>']));
    assert!(!meaning.contains(['\\', '\0', '\r', '\n']));
    assert_eq!(meaning.matches('/').count(), text.matches('/').count(), "a hidden slash");
    for segment in meaning.split('/') {
        assert!(!matches!(segment.split(';').next(), Some("." | "..")), "climbs");
    }
    assert_eq!(path.segments(), text.split('/').filter(|segment| !segment.is_empty()).count());
    true
}

/// What the escapes stand for, by a reader of its own.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let escape = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(meant) => {
                out.push(meant);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}
