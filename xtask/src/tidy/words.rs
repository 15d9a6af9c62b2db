//! Words that may stand nowhere in the repository: paths of machines it was built on, hosts that machines get things from.
//!
//! Which mirror or registry is used is the machine's affair, and a path of one machine is wrong on every other.

use super::Finding;
use super::files::File;

/// Pieces are joined, so that this file does not break its own rule.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["/wo", "rk/"], "a path of a build machine"),
    (&["/ro", "ot/"], "a path of a build machine"),
    (&["/tmp/", "contracts"], "a path of a build machine"),
    (&["static.", "crates.io"], "a registry's host"),
    (&["index.", "crates.io"], "a registry's host"),
    (&["static.", "rust-lang.org"], "a registry's host"),
    (&["deb.", "debian.org"], "a mirror's host"),
    (&["archive.", "ubuntu.com"], "a mirror's host"),
    (&["artifact", "ory"], "a registry's host"),
];

/// Cargo writes the first, with the address of its registry; examples may name any host as a service.
const EXEMPT: &[&str] = &["Cargo.lock", "deploy/examples/"];

/// The words in all files.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_exempt = |file: &&File| EXEMPT.iter().any(|start| file.path.starts_with(start));
    for file in files.iter().filter(|file| !is_exempt(file)) {
        for (pieces, what) in FORBIDDEN {
            let word = pieces.concat();
            for (number, _) in file.text.lines().enumerate().filter(|(_, line)| names(line, &word)) {
                if !super::is_allowed(&file.text, number + 1, "word") {
                    findings.push(Finding::new(&file.path, number + 1, format!("`{word}`: {what}")));
                }
            }
        }
    }
    findings
}

/// Whether `line` holds `word`; a path counts only where it starts (`/proc/1` + `/root` is another).
fn names(line: &str, word: &str) -> bool {
    let within = |letter: char| letter.is_alphanumeric() || "}./_-*".contains(letter);
    line.match_indices(word)
        .any(|(at, _)| !word.starts_with('/') || !line[..at].chars().next_back().is_some_and(within))
}
