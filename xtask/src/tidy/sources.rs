//! Rules on Rust sources: header, length, unsafe code, unfinished code, where tests may attach.

use super::files::File;
use super::{Finding, code, is_allowed};

/// Longest source file. Unit: lines.
const LINES_MAX: usize = 600;

/// The only folders whose code may be unsafe: those that talk to the kernel, and the exam's hostile calls to it.
const MAY_BE_UNSAFE: &[&str] = &["agent/redirect/", "agent/warden/", "ebpf/", "tests/bypass/src/sys"];

/// Crates that read hostile bytes or decide on them: they forbid unsafe code, and deny what can panic.
const PANIC_FREE: &[&str] = &["agent/mask/", "agent/policy/", "agent/seal/", "agent/wire/"];
const PANIC_FREE_DENIES: &[&str] =
    &["clippy::unwrap_used", "clippy::expect_used", "clippy::indexing_slicing", "clippy::panic"];

/// All rules on all sources.
pub fn check(files: &[File]) -> Vec<Finding> {
    let sources = files.iter().filter(|file| file.path.ends_with(".rs"));
    let rules = [shape, words, attachments, promises];
    sources.flat_map(|file| rules.into_iter().flat_map(move |rule| rule(file))).collect()
}

fn shape(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.text.starts_with("//! ") {
        findings.push(Finding::new(&file.path, 1, "does not open with `//! ` and what it is"));
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        findings.push(Finding::new(&file.path, 0, format!("has {lines} lines; {LINES_MAX} is the limit")));
    }
    findings
}

fn words(file: &File) -> Vec<Finding> {
    let source = code::of(&file.text).code;
    let mut findings = Vec::new();
    if !MAY_BE_UNSAFE.iter().any(|folder| file.path.starts_with(folder)) {
        for line in code::lines_with_word(&source, "unsafe") {
            findings.push(Finding::new(&file.path, line, "unsafe code outside the crates that talk to the kernel"));
        }
    }
    for word in ["todo", "unimplemented", "dbg"] {
        for line in code::lines_with_word(&source, word) {
            if source.lines().nth(line - 1).is_some_and(|text| text.contains(&format!("{word}!"))) {
                findings.push(Finding::new(&file.path, line, format!("`{word}!` is left in it")));
            }
        }
    }
    findings
}

/// Nothing is ever attached at the mount's root by a test, and no code assumes where the cgroup tree is.
fn attachments(file: &File) -> Vec<Finding> {
    let read = code::of(&file.text);
    // Tests may make up a path as a sample; the root itself is no sample.
    let tests_from = match code::lines_with_word(&read.code, "cfg(test)").first() {
        _ if file.path.contains("/tests/") || file.path.ends_with("/tests.rs") => 0,
        Some(line) => *line,
        None => usize::MAX,
    };
    let mut findings = Vec::new();
    for (line, literal) in &read.literals {
        // tidy: allow(cgroup_path) this is the rule
        let Some(below) = literal.strip_prefix("/sys/fs/cgroup") else { continue };
        let is_root = matches!(below.trim_matches('/'), "" | "unified");
        let asserts = read.code.lines().nth(line - 1).is_some_and(|code| code.contains("assert"));
        let assumes = if *line > tests_from { is_root && !asserts } else { true };
        if assumes && !is_allowed(&file.text, *line, "cgroup_path") {
            findings.push(Finding::new(
                &file.path,
                *line,
                "assumes where cgroup2 is mounted; ask cgroup2_mount(), or say `tidy: allow(cgroup_path)` and why",
            ));
        }
    }
    for (number, line) in read.code.lines().enumerate() {
        let attaches = ["enrol(", "enroll(", "attach("].iter().any(|call| line.contains(call));
        if attaches && line.contains("cgroup2_mount") {
            findings.push(Finding::new(&file.path, number + 1, "attaches at the root of the cgroup tree"));
        }
    }
    findings
}

/// The crates that may not panic say so in their first file.
fn promises(file: &File) -> Vec<Finding> {
    let Some(folder) = PANIC_FREE.iter().find(|folder| file.path == format!("{folder}src/lib.rs")) else {
        return Vec::new();
    };
    let source: String = code::of(&file.text).code.split_whitespace().collect();
    let mut wanted = vec!["#![forbid(unsafe_code)]"];
    wanted.extend(PANIC_FREE_DENIES);
    wanted
        .into_iter()
        .filter(|word| !source.contains(word))
        .map(|word| Finding::new(&file.path, 0, format!("{folder} must not panic: `{word}` is missing")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let files = [File { path: path.to_owned(), text: text.to_owned() }];
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_has_no_findings() {
        let text = "//! Says what it is.\nfn f() { let forbid_unsafe_code = \"unsafe todo!\"; } // unsafe\n";
        assert_eq!(findings("agent/model/src/x.rs", text), [""; 0]);
        assert_eq!(findings("agent/redirect/src/x.rs", "//! Talks.\nunsafe {}\n"), [""; 0]);
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let of = |line: &str| findings("agent/model/src/x.rs", &format!("//! Says.\n{line}\n"));
        assert_eq!(findings("a.rs", "fn f() {}\n").len(), 1);
        assert_eq!(findings("a.rs", &format!("//! Long.\n{}", "\n".repeat(600))).len(), 1);
        assert_eq!(of("unsafe { x() }").len(), 1);
        assert_eq!(of("todo!()").len(), 1);
        assert_eq!(of("let p = \"/sys/fs/cgroup/unified\";").len(), 1);
        assert_eq!(of("#[cfg(test)]\nlet p = \"/sys/fs/cgroup/x\";").len(), 0);
        assert_eq!(of("#[cfg(test)]\nattach_at(\"/sys/fs/cgroup\");").len(), 1);
        assert_eq!(of("let p = \"/sys/fs/cgroup/x\"; // tidy: allow(cgroup_path) sample of a mounts file").len(), 0);
        assert_eq!(of("redirect.enrol(&cgroup2_mount()?, mode)").len(), 1);
        assert_eq!(findings("agent/seal/src/lib.rs", "//! Seals.\n").len(), 5);
    }
}
