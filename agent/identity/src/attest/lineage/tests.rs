//! Chains of a record that a test wrote, over real processes.

use std::collections::HashMap;
use std::path::Path;
use std::process::Child;
use std::sync::Mutex;
use std::time::Duration;

use callgate_model::Monotonic;

use super::*;
use crate::attest::tests::{cat, executed, now, origin};

/// What a kernel would have noted.
#[derive(Default)]
struct Noted {
    processes: Mutex<HashMap<u32, (Executed, StartedBy)>>,
    executions: Mutex<HashMap<u64, Execution>>,
}

impl Executions for Noted {
    fn current(&self, pid: u32) -> Option<(Executed, StartedBy)> {
        self.processes.lock().unwrap().get(&pid).cloned()
    }

    fn execution(&self, id: ExecutionId) -> Option<Execution> {
        self.executions.lock().unwrap().get(&id.0).cloned()
    }
}

fn by(id: u64) -> StartedBy {
    StartedBy::Execution(ExecutionId(id))
}

impl Noted {
    /// Execution `id`, of `process`, which is in it.
    fn executes(&self, id: u64, process: &Child, started_by: StartedBy) {
        let executed = executed(&Path::new("/proc").join(process.id().to_string())).unwrap();
        self.processes.lock().unwrap().insert(process.id(), (executed.clone(), by(id)));
        self.execution(id, process.id(), executed, started_by);
    }

    /// Execution `id` of a process that is gone.
    fn executed(&self, id: u64, started_by: StartedBy) {
        let executed = Executed { start: Duration::from_secs(id), device: 1, inode: id };
        self.execution(id, u32::MAX, executed, started_by);
    }

    fn execution(&self, id: u64, pid: u32, executed: Executed, by: StartedBy) {
        let name = format!("/named/{id}");
        let execution = Execution { by, at: Monotonic(Duration::from_secs(1)), pid, executed, name };
        self.executions.lock().unwrap().insert(id, execution);
    }
}

/// Processes that end with the test.
struct Alive(Vec<Child>);

impl Alive {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| cat()).collect())
    }

    fn end(&mut self, index: usize) {
        let child = &mut self.0[index];
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        (0..self.0.len()).for_each(|index| self.end(index));
    }
}

fn attestor(noted: &Arc<Noted>) -> Attestor {
    Attestor::new().with_executions(Arc::clone(noted) as Arc<dyn Executions>)
}

fn lineage(attestor: &Attestor, process: &Child) -> Lineage {
    attestor.process(&origin(process.id(), now()), Path::new("")).lineage
}

fn shown(lineage: &Lineage) -> (String, LineageEnd) {
    (lineage.to_string(), lineage.end)
}

#[test]
fn tells_who_started_it_nearest_first_with_the_digests_of_those_who_go_on() {
    let (alive, noted) = (Alive::new(2), Arc::new(Noted::default()));
    noted.executes(3, &alive.0[0], by(2));
    noted.executed(2, by(1));
    noted.executes(1, &alive.0[1], StartedBy::Nobody);
    let process = attestor(&noted).process(&origin(alive.0[0].id(), now()), Path::new(""));
    let (executable, Lineage { ancestors, end }) = (process.executable.unwrap(), process.lineage);
    assert_eq!(end, LineageEnd::Entry);
    let [gone, first] = ancestors.as_slice() else { panic!("{ancestors:?}") };
    assert_eq!((gone.path.as_str(), gone.inode, &gone.sha256), ("/named/2", 2, &None));
    assert_eq!((first.pid, &first.sha256), (alive.0[1].id(), &Some(executable.sha256)));
    assert_eq!((&first.path, first.inode, first.device), (&executable.path, executable.inode, executable.device));
    assert_ne!(first.start_time, 0);
}

#[test]
fn a_process_that_is_not_in_the_execution_any_more_lends_it_no_digest() {
    let (alive, noted) = (Alive::new(2), Arc::new(Noted::default()));
    noted.executes(3, &alive.0[0], by(1));
    noted.executes(1, &alive.0[1], StartedBy::Nobody);
    // The same file once more, perhaps with another content.
    noted.processes.lock().unwrap().get_mut(&alive.0[1].id()).unwrap().1 = by(2);
    let told = lineage(&attestor(&noted), &alive.0[0]);
    assert_eq!((told.ancestors[0].sha256.as_deref(), told.ancestors[0].path.as_str()), (None, "/named/1"));
    // Another file.
    noted.executes(1, &alive.0[1], StartedBy::Nobody);
    noted.executions.lock().unwrap().get_mut(&1).unwrap().executed.inode += 1;
    let told = lineage(&attestor(&noted), &alive.0[0]);
    assert_eq!(told.ancestors[0].sha256, None);
}

#[test]
fn nothing_is_known_of_one_that_executed_something_since_it_connected() {
    let (alive, noted) = (Alive::new(1), Arc::new(Noted::default()));
    let process = &alive.0[0];
    let told = || shown(&lineage(&attestor(&noted), process));
    let unknown = (String::new(), LineageEnd::Unknown);
    assert_eq!(told(), unknown, "nothing was noted of it");
    noted.executes(2, process, by(1));
    noted.executed(1, StartedBy::Nobody);
    assert_eq!(told(), ("1".to_owned(), LineageEnd::Entry));
    // The same program again, but later than the connect.
    noted.executions.lock().unwrap().get_mut(&2).unwrap().at = Monotonic(now() + Duration::from_secs(60));
    assert_eq!(told(), unknown);
    noted.executes(2, process, by(1));
    noted.processes.lock().unwrap().get_mut(&process.id()).unwrap().0.inode += 1;
    assert_eq!(told(), unknown, "another program");
    assert_eq!(lineage(&Attestor::new(), process), Lineage::default(), "no record at all");
}

#[test]
fn an_entry_has_nobody_before_it() {
    let (alive, noted) = (Alive::new(1), Arc::new(Noted::default()));
    let process = &alive.0[0];
    let told = |by| {
        noted.executes(1, process, StartedBy::Nobody);
        noted.processes.lock().unwrap().get_mut(&process.id()).unwrap().1 = by;
        shown(&lineage(&attestor(&noted), process))
    };
    assert_eq!(told(by(1)), (String::new(), LineageEnd::Entry));
    assert_eq!(told(StartedBy::Nobody), (String::new(), LineageEnd::Entry), "older than its enrolment");
    assert_eq!(told(StartedBy::Untold), ("…".to_owned(), LineageEnd::Cut), "there was no room to note it");
}

#[test]
fn a_chain_that_is_not_told_to_its_end_says_so() {
    let (alive, noted) = (Alive::new(1), Arc::new(Noted::default()));
    let told = || shown(&lineage(&attestor(&noted), &alive.0[0]));
    noted.executes(100, &alive.0[0], by(9));
    let cut = |shown: &str| (shown.to_owned(), LineageEnd::Cut);
    assert_eq!(told(), cut("…"), "forgotten");
    noted.executed(9, by(8));
    assert_eq!(told(), cut("9 <- …"), "forgotten behind the first");
    noted.executed(9, StartedBy::Untold);
    assert_eq!(told(), cut("9 <- …"), "not seen");
    let most = ANCESTORS_MAX as u64;
    let names = |last: u64| (1..=most).map(|back| (last + 1 - back).to_string()).collect::<Vec<_>>().join(" <- ");
    let starts = |last: u64| {
        (1..=last).for_each(|id| noted.executed(id, if id == 1 { StartedBy::Nobody } else { by(id - 1) }));
        noted.executes(100, &alive.0[0], by(last));
        told()
    };
    assert_eq!(starts(most + 1), cut(&format!("{} <- …", names(most + 1))), "too many");
    assert_eq!(starts(most), (names(most), LineageEnd::Entry));
    noted.executions.lock().unwrap().remove(&100);
    assert_eq!(told(), cut("…"), "its own row is forgotten");
}

#[test]
fn what_was_found_of_an_execution_stays() {
    let (mut alive, noted) = (Alive::new(3), Arc::new(Noted::default()));
    let attestor = attestor(&noted);
    noted.executes(1, &alive.0[0], StartedBy::Nobody);
    noted.executes(2, &alive.0[1], by(1));
    // The entry itself connects: its digest is known from then on.
    assert_eq!(lineage(&attestor, &alive.0[0]), Lineage { ancestors: Vec::new(), end: LineageEnd::Entry });
    alive.0[0].kill().unwrap();
    alive.0[0].wait().unwrap();
    noted.processes.lock().unwrap().remove(&alive.0[0].id());
    let before = lineage(&attestor, &alive.0[1]);
    assert!(before.ancestors[0].sha256.is_some() && before.is_complete(), "{before:?}");
    noted.executions.lock().unwrap().remove(&1);
    noted.executes(3, &alive.0[2], by(2));
    let told = lineage(&attestor, &alive.0[2]);
    assert_eq!((told.end, told.ancestors.len()), (LineageEnd::Entry, 2));
    assert_eq!(told.ancestors[1], before.ancestors[0]);
}

#[test]
fn executables_over_the_budget_are_told_without_a_digest_this_time() {
    let (alive, noted) = (Alive::new(2), Arc::new(Noted::default()));
    noted.executes(2, &alive.0[0], by(1));
    noted.executes(1, &alive.0[1], StartedBy::Nobody);
    let attestor = attestor(&noted);
    let descent = attestor.descent.as_ref().unwrap();
    let with = |mut budget: u64| {
        let told = descent.of(&origin(alive.0[0].id(), now()), None, &attestor, &mut budget);
        (told.ancestors[0].sha256.is_some(), told.end, budget)
    };
    assert_eq!(with(3), (false, LineageEnd::Entry, 3));
    let size = std::fs::metadata(format!("/proc/{}/exe", alive.0[1].id())).unwrap().len();
    assert_eq!(with(size + 3), (true, LineageEnd::Entry, 3));
    // It is known by now.
    assert_eq!(with(0), (true, LineageEnd::Entry, 0));
}
