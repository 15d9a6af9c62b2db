//! Runs every target over its corpus and over mutations of it, without libFuzzer: one test each, the same in every run.
//!
//! With `CALLGATE_WRITE=1` it first writes the seeds anew.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use callgate_fuzz::mutate::{Chance, mutate};
use callgate_fuzz::{TARGETS, Target};
use callgate_harness::count;
use libtest_mimic::{Arguments, Failed, Trial};

/// Longest that one input may take; more is a hang. Source: ours; a thousand times what they take, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if std::env::var_os("CALLGATE_WRITE").is_some_and(|value| value == "1") {
        TARGETS.iter().for_each(write_seeds);
    }
    let trials = TARGETS.iter().map(|target| Trial::test(target.name, move || judge(target)));
    let table = Trial::test("every_target_has_its_entry_point", every_target_has_its_entry_point);
    libtest_mimic::run(&arguments, trials.chain([table]).collect()).exit_code()
}

/// The corpus, then mutations of each of its files.
fn judge(target: &'static Target) -> Result<(), Failed> {
    let corpus = corpus(target);
    let all: Vec<&[u8]> = corpus.iter().map(|(_, bytes)| &bytes[..]).collect();
    let (mut accepted, mut refused) = (0, 0);
    for (name, bytes) in &corpus {
        match feed(target, bytes) {
            Ok(true) => accepted += 1,
            Ok(false) => refused += 1,
            Err(why) => return Err(format!("{}: seed {name}: {why}", target.name).into()),
        }
    }
    // A reader that takes nothing, or everything, would pass all the rest.
    if accepted == 0 || refused == 0 {
        return Err(format!("{}: {accepted} seeds accepted, {refused} refused", target.name).into());
    }
    for (name, bytes) in &corpus {
        for number in 0..count("fuzz_mutations") {
            let data = mutate(bytes, &all, &mut Chance::new(number, name));
            feed(target, &data).map_err(|why| {
                let found = keep(target, &data);
                format!("{}: mutation {number} of {name}: {why}\n{}\n{found}", target.name, data.escape_ascii())
            })?;
        }
    }
    Ok(())
}

/// Whether the target accepts `data`; an error if it broke a promise.
fn feed(target: &Target, data: &[u8]) -> Result<bool, String> {
    let began = Instant::now();
    let run = target.run;
    let result = catch_unwind(|| run(data)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    });
    if began.elapsed() > PATIENCE {
        return Err(format!("took {:?}", began.elapsed()));
    }
    result
}

/// Puts an input aside that found something; says where, for it to be added to the corpus.
fn keep(target: &Target, data: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("found-{}", target.name));
    match fs::write(&path, data) {
        Ok(()) => format!("kept in {}", path.display()),
        Err(error) => format!("could not be kept in {}: {error}", path.display()),
    }
}

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The files of a corpus, by name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut corpus: Vec<_> = files
        .map(|file| {
            let file = file.expect("the folder can be read");
            let bytes = fs::read(file.path()).expect("a file of the corpus can be read");
            (file.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    corpus.sort();
    corpus
}

fn write_seeds(target: &Target) {
    let folder = folder(target);
    fs::create_dir_all(&folder).expect("the corpus can be written");
    for seed in (target.seeds)() {
        fs::write(folder.join(&seed.name), &seed.bytes).expect("the corpus can be written");
    }
}

/// The manifest has a program for each target, and each calls its own.
fn every_target_has_its_entry_point() -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let programs = manifest.lines().filter(|line| line.starts_with("path = \"fuzz_targets/")).count();
    for target in TARGETS {
        let path = format!("fuzz_targets/{}.rs", target.name);
        let source = fs::read_to_string(root.join(&path))?;
        if !manifest.contains(&format!("name = \"{}\"\npath = \"{path}\"", target.name))
            || !source.contains(&format!("callgate_fuzz::run(\"{}\", data)", target.name))
        {
            return Err(format!("{path} or its [[bin]] is not that of `{}`", target.name).into());
        }
    }
    if programs == TARGETS.len() { Ok(()) } else { Err(format!("{programs} programs").into()) }
}
