//! Runs the table: root or nothing, sweep first, absences counted apart and held against the committed list.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock, mpsc};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{Case, FEATURES};

/// What is missing here, and why.
type Absent = BTreeMap<&'static str, String>;

/// Runs `cases` as the arguments say (those of any test binary); lines `absent: FEATURE …` tell what did not run.
pub fn main(cases: &[&[Case]]) -> ExitCode {
    let arguments = Arguments::from_args();
    let cases: Vec<Case> = cases.concat();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&cases, &Absent::new())).exit_code();
    }
    match prepare(&cases) {
        Ok(absent) => {
            for (feature, why) in &absent {
                println!("absent: {feature} ({why})");
            }
            libtest_mimic::run(&arguments, trials(&cases, &absent)).exit_code()
        }
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `(major, minor)` of a kernel release such as `6.18.44-rc1`.
pub(crate) fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|word| word.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn prepare(cases: &[Case]) -> Result<Absent> {
    ensure!(rustix::process::geteuid().is_root(), "these tests change cgroups and load kernel programs: run as root");
    for case in cases {
        for need in case.needs {
            let known = FEATURES.iter().any(|feature| feature.name == *need);
            ensure!(known, "`{}` needs `{need}`, which is not in the table of features", case.name);
        }
    }
    for left in callgate_harness::sweep()? {
        println!("swept: {left}");
    }
    Ok(FEATURES
        .iter()
        .filter_map(|feature| (feature.probe)().err().map(|why| (feature.name, format!("{why:#}"))))
        .collect())
}

fn trials(cases: &[Case], absent: &Absent) -> Vec<Trial> {
    let turn = Arc::new(RwLock::new(()));
    let mut trials: Vec<Trial> = cases.iter().map(|case| trial(*case, absent, &turn)).collect();
    let found: Vec<&'static str> = absent.keys().copied().collect();
    trials.push(Trial::test("absences_are_those_of_the_committed_list", move || {
        compare(&found).map_err(|error| Failed::from(format!("{error:#}")))
    }));
    trials
}

fn trial(case: Case, absent: &Absent, turn: &Arc<RwLock<()>>) -> Trial {
    let missing = case.needs.iter().copied().find(|need| absent.contains_key(need));
    let turn = turn.clone();
    Trial::ignorable_test(case.name, move || {
        if let Some(feature) = missing {
            return Ok(Completion::ignored_with(format!("absent: {feature}")));
        }
        let (_shared, _alone);
        if case.alone {
            _alone = turn.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _shared = turn.read().unwrap_or_else(PoisonError::into_inner);
        }
        run(case).map(|()| Completion::Completed)
    })
}

/// Runs one case on a thread of its own, so that one that hangs fails instead of stopping the run.
fn run(case: Case) -> Result<(), Failed> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name(case.name.to_owned()).spawn(move || {
        let result = (case.run)().map_err(|error| format!("{error:?}"));
        // Nobody listens any more when the time was over.
        let _ = sender.send(result);
    });
    let thread = thread.map_err(|error| Failed::from(format!("no thread: {error}")))?;
    match receiver.recv_timeout(case.timeout) {
        Ok(result) => {
            let _ = thread.join();
            result.map_err(Failed::from)
        }
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Failed::from(format!("no result after {:?}", case.timeout))),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => Err(Failed::from(panic_text(panic.as_ref()))),
            Ok(()) => Err(Failed::from("ended without a result")),
        },
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// Holds what is absent against the committed list of this kernel; without a list nothing may be absent.
fn compare(found: &[&str]) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let (major, minor) = version(&release);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("absent/{major}.{minor}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_default();
    let expected: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    ensure!(
        found == expected,
        "absent here: {found:?}; expected by tests/e2e/absent/{major}.{minor}.txt: {expected:?}. \
         If the difference is right, commit it there, one name a line, sorted"
    );
    Ok(())
}
