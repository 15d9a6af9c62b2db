//! Request targets: what is forwarded for one is read as the same call.

use callgate_wire::{Head, HeadRules, HeadScanner, TargetForm};

/// The input is a target; its Host is the one that a URL names, so that URLs get past the comparison of the two.
pub fn run(data: &[u8]) -> bool {
    let accepted = [false, true].into_iter().filter_map(|tls| {
        let rules = HeadRules { tls, default_port: if tls { 443 } else { 80 } };
        let text = std::str::from_utf8(data).ok()?;
        let host =
            text.split_once("://").map_or("api.example", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
        let head = read(&format!("GET {text} HTTP/1.1\r\nHost: {host}\r\n\r\n"), &rules)?;
        forwards(&head, &rules);
        Some(())
    });
    accepted.count() > 0
}

fn forwards(head: &Head, rules: &HeadRules) {
    let target = head.path_and_query();
    let text = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", head.host_field(rules));
    let again = read(&text, rules).unwrap_or_else(|| panic!("what is forwarded is refused: {text:?}"));
    assert_eq!((&again.path, &again.query, &again.service), (&head.path, &head.query, &head.service));
    assert_eq!(again.form, TargetForm::Origin);
    assert_eq!(again.path_and_query(), target);
}

fn read(text: &str, rules: &HeadRules) -> Option<Head> {
    let (mut out, mut heads) = (Vec::new(), Vec::new());
    HeadScanner::new(*rules).push(text.as_bytes(), &mut out, &mut heads).ok()?;
    // Line ends in the input could make more or less than one request of it.
    (heads.len() == 1 && out.len() == text.len()).then(|| heads.remove(0))
}
