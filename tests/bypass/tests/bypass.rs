//! The exam once, and in full also while something happens to the agent: nothing gets through, and `docs/bypass.md` says
//! what this kernel says.
//!
//! To write that document anew: `CALLGATE_WRITE=1 cargo test -p callgate-bypass --test bypass`.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use callgate_bypass::exam::{Row, Verdict, document, table};
use callgate_bypass::outside::OUTSIDE;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// The exam's lines; every trial asks, the first one has it run.
static ROWS: OnceLock<Result<Vec<Row>, String>> = OnceLock::new();

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let failed = |error: anyhow::Error| Failed::from(format!("{error:?}"));
    let trials = vec![
        Trial::test("nothing_gets_through", move || nothing_gets_through().map_err(failed)),
        Trial::test("what_is_outside_the_model_still_gets_through", move || {
            what_is_outside_the_model_still_gets_through().map_err(failed)
        }),
        Trial::ignorable_test("the_document_says_what_the_exam_says", move || the_document().map_err(failed)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn rows() -> Result<&'static [Row]> {
    let rows = ROWS.get_or_init(|| examine().map_err(|error| format!("{error:?}")));
    rows.as_deref().map_err(|error| anyhow::anyhow!(error.clone()))
}

/// In a process of its own: it moves itself into another network namespace.
fn examine() -> Result<Vec<Row>> {
    let file = tempfile::NamedTempFile::new()?;
    let mut exam = Command::new(callgate_harness::program("callgate-bypass")?);
    exam.arg("--json").arg(file.path());
    if callgate_harness::is_full() {
        exam.arg("--full");
    }
    let output = exam.output()?;
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // 1 says that something got through, which is for the trials to tell; anything else, that there was no exam.
    ensure!(matches!(output.status.code(), Some(0 | 1)), "{}: {told}", output.status);
    serde_json::from_slice(&std::fs::read(file.path())?).with_context(|| told)
}

fn nothing_gets_through() -> Result<()> {
    let rows = rows()?;
    let vectors: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.vector.as_str()).collect();
    ensure!(vectors.len() >= 80, "only {} vectors were tried", vectors.len());
    let through: Vec<String> = rows.iter().filter(|row| row.fails()).map(table::line).collect();
    ensure!(through.is_empty(), "got through:\n{}", through.join("\n"));
    Ok(())
}

/// A row that is closed must be taken out of the table: else it would hide the day when it opens again.
fn what_is_outside_the_model_still_gets_through() -> Result<()> {
    let rows = rows()?;
    for name in OUTSIDE.iter().flat_map(|one| one.vectors) {
        let through = rows.iter().any(|row| row.verdict == Verdict::Outside && row.vector == *name);
        ensure!(through, "`{name}` gets through no more: take it out of `outside.rs`");
    }
    Ok(())
}

/// What of a line is the same in every run: of a vector's cells whether it gets through, is proxied, or is held. By which
/// errno it is stopped, and whether a socket that was handed in is cut before or after its first use, is a matter of
/// moments; which of sudo and its like there are, one of the host.
fn steady(line: &str) -> String {
    if !line.starts_with("| `") {
        return line.to_owned();
    }
    let cell = |cell: &str| match cell.trim() {
        "" => "",
        cell if cell.contains("REACHED") => "reached",
        cell if cell.contains("outside the model") => "outside",
        cell if cell.contains("proxied") => "proxied",
        _ => "held",
    };
    let (what, cells) = line.match_indices(" | ").nth(1).map_or((line, ""), |(at, _)| line.split_at(at));
    format!("{what}: {}", cells.split(" |").map(cell).collect::<Vec<_>>().join(","))
}

fn the_document() -> Result<Completion> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bypass.md");
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let write = std::env::var_os("CALLGATE_WRITE").is_some();
    let kernel = document::kernel()?;
    if !write && !there.starts_with(&document::title(&kernel)) {
        return Ok(Completion::ignored_with(format!("absent: docs/bypass.md is of another kernel than {kernel}")));
    }
    let text = document::text(rows()?)?;
    if write {
        std::fs::write(&path, &text)?;
    }
    let known: Vec<String> = there.lines().map(steady).collect();
    let differ: Vec<&str> = text.lines().filter(|line| !known.contains(&steady(line))).collect();
    ensure!(
        write || (differ.is_empty() && text.lines().count() == known.len()),
        "docs/bypass.md does not say what the exam says; it would say:\n{}",
        differ.join("\n")
    );
    Ok(Completion::Completed)
}
