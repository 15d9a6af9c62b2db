//! `docs/detectors.md` says what the table says. To write it anew: `CALLGATE_WRITE=1 cargo test -p callgate-mask --test table`.

use std::fmt::Write as _;
use std::path::Path;

use callgate_mask::DETECTORS;

const HEAD: &str = "# Detectors

The kinds that `@mask(\"…\")` and `callgate mask` know, made from the table in `agent/mask/src/detectors.rs`.
Each is found as it is spelt and through JSON, URL and HTML escapes and base64, up to three deep.
`all` stands for every kind that is in a group; the others must be named.
`partial` leaves what is shown under it; where nothing is shown it is refused, and within a group such kinds are redacted.
`pseudonym` replaces by a keyed hash; it is refused for what has no known end when it is replaced.

| kind | groups | partial | pseudonym | example |
| --- | --- | --- | --- | --- |
";

#[test]
fn the_document_says_what_the_table_says() {
    let mut text = HEAD.to_owned();
    for detector in DETECTORS {
        let groups: Vec<_> = detector.groups.iter().map(|group| group.name()).collect();
        let word = |has: bool| if has { "yes" } else { "" };
        // Of the samples the shortest, in which a bar would end the cell.
        let samples = detector.samples.iter().filter(|sample| !sample.text.contains(['|', '`', '\n']));
        let example = samples.min_by_key(|sample| sample.masked.len()).unwrap();
        let (partial, pseudonym) = (word(detector.has_partial()), word(detector.has_pseudonym()));
        writeln!(
            text,
            "| `{}` | {} | {partial} | {pseudonym} | `{}` |",
            detector.name,
            groups.join(", "),
            example.masked
        )
        .unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/detectors.md");
    if std::env::var_os("CALLGATE_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), text, "docs/detectors.md is not what the table says");
}
