//! What the store promises: idempotent, gap-free, searchable, checkable, shared by processes.

use callgate_model::{CallId, Outcome, Reason, RecordKind, StreamId, Verdict};
use callgate_proto::v1::SealedRecord;
use callgate_seal::FaultKind;
use rusqlite::Connection;

use super::testing::{DAY, NOON, SESSION, Sealer, begin, call, chunk, denied, end};
use super::*;
use crate::StoredRecord;

fn calls(sealer: &mut Sealer, from_us: u64, count: u64) -> Vec<SealedRecord> {
    let call_at = |n| call(from_us + n * 1_000, CallId::new(), &format!("/v1/users/{n}"), &format!("name user{n}"));
    sealer.all((0..count).flat_map(call_at))
}

pub(super) fn find(store: &Store, filter: Filter) -> Vec<(String, u64)> {
    let page = store.search(&Search { filter, limit: 1_000, ..Default::default() }).unwrap();
    page.records.into_iter().map(|record| (record.stream, record.seq)).collect()
}

pub(super) fn text(words: &str) -> Filter {
    Filter { text: Some(words.into()), ..Default::default() }
}

fn day_file(store: &Store, day: &str) -> Connection {
    Connection::open(store.dir().join(format!("{day}.db"))).unwrap()
}

#[test]
fn what_came_before_is_skipped_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let stream = StreamId("n/agent".into());
    let mut sealer = Sealer::new("n/agent");
    assert_eq!(store.resume(&stream).unwrap(), None);
    let batch = calls(&mut sealer, NOON, 10);
    assert_eq!(store.ingest(&batch[..20]).unwrap(), Ingested { stored: 20, duplicates: 0, last_seq: 20 });
    assert_eq!(store.ingest(&batch[10..]).unwrap(), Ingested { stored: 10, duplicates: 10, last_seq: 30 });
    assert_eq!(store.resume(&stream).unwrap().unwrap().seq, 30);

    let mut other = batch[4].clone();
    other.hash[0] ^= 1;
    assert!(matches!(store.ingest(&[other]), Err(StoreError::Conflict { seq: 5, .. })));
    let later = calls(&mut sealer, NOON, 2);
    assert!(store.ingest(&later[1..]).is_err_and(|error| error.is_gap() && error.is_chain()));
    let mut forged = later.clone();
    forged[1].body.push(0);
    assert!(store.ingest(&forged).is_err_and(|error| error.is_chain()));
    // The good head of a bad batch is not stored either: it comes again with the whole.
    assert_eq!(store.resume(&stream).unwrap().unwrap().seq, 30);
    assert_eq!(store.ingest(&later).unwrap().stored, 6);
    assert!(store.verify(None, None).unwrap().is_whole());
}

#[test]
fn records_lie_in_their_own_day_and_calls_cross_midnight() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let midnight = NOON + DAY / 2;
    let over = CallId::new();
    let mut sealer = Sealer::new("n/agent");
    let records = [begin(midnight - 1, over, "/over"), end(midnight, over, Outcome::Complete)];
    store.ingest(&sealer.all(records)).unwrap();
    // A clock that was set back, and one that is far off.
    let late = [begin(midnight - 5, CallId::new(), "/back"), begin(0, CallId::new(), "/zero")];
    store.ingest(&sealer.all(late)).unwrap();
    let days: Vec<_> = store.days().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(days, ["2020-01-01", "2026-11-22", "2026-11-23"]);

    // The end knows what its begin said.
    let ends = Filter { kinds: vec![Kind::End], workload: Some("build".into()), ..Default::default() };
    assert_eq!(find(&store, ends), [("n/agent".into(), 2)]);
    assert_eq!(find(&store, Filter { call: Some(over), ..Default::default() }).len(), 2);
    let sessions = store.sessions(&SessionSearch { limit: 10, ..Default::default() }).unwrap().sessions;
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].calls, sessions[0].last_us, sessions[0].first_us), (3, midnight, 0));
    assert_eq!(store.session(SESSION).unwrap().as_ref(), Some(&sessions[0]));
    let report = store.verify(None, None).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.streams[0].records, 4);
}

#[test]
fn many_days_in_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut sealer = Sealer::new("n/agent");
    let batch = sealer.all((0..20).map(|n| begin(NOON + n * DAY, CallId::new(), "/")));
    assert_eq!(store.ingest(&batch).unwrap().stored, 20);
    assert_eq!(store.days().unwrap().len(), 20);
    assert!(store.verify(None, None).unwrap().is_whole());
}

#[test]
fn search_finds_by_every_filter() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut sealer = Sealer::new("n/agent");
    let first = CallId::new();
    let mut records = call(NOON, first, "/v1/users/7", "mail [email] of alice").to_vec();
    records.push(denied(NOON + 10, CallId::new(), "/v1/admin"));
    records.extend([begin(NOON + 20, CallId::new(), "/v1/100%_x")]);
    let cut = CallId::new();
    records.extend([
        begin(NOON + 30, cut, "/v1/blob"),
        chunk(NOON + 31, cut, b"\0\0"),
        end(NOON + 32, cut, Outcome::Cut),
    ]);
    store.ingest(&sealer.all(records)).unwrap();
    let seqs = |filter| find(&store, filter).into_iter().map(|(_, seq)| seq).collect::<Vec<_>>();

    assert_eq!(seqs(Filter::default()), [8, 7, 6, 5, 4, 3, 2, 1]);
    let begins = |filter: Filter| seqs(Filter { kinds: vec![Kind::Begin], ..filter });
    assert_eq!(begins(Filter::default()), [6, 5, 4, 1]);
    assert_eq!(begins(Filter { verdict: Some(Verdict::Deny), ..Default::default() }), [4]);
    assert_eq!(begins(Filter { reason: Some(Reason::NoPermit), ..Default::default() }), [4]);
    assert_eq!(seqs(Filter { reason: Some(Reason::Unmaskable), ..Default::default() }), [8]);
    assert_eq!(begins(Filter { function: Some("get API.x/v1/ad".into()), ..Default::default() }), [4]);
    assert_eq!(begins(Filter { function: Some("100%_".into()), ..Default::default() }), [5]);
    assert_eq!(begins(Filter { function: Some("0_".into()), ..Default::default() }), [0; 0]);
    assert_eq!(begins(Filter { workload: Some("run/build".into()), ..Default::default() }).len(), 4);
    assert_eq!(begins(Filter { workload: Some("buil".into()), ..Default::default() }), [0; 0]);
    assert_eq!(seqs(Filter { session: Some(SESSION), ..Default::default() }).len(), 8);
    assert_eq!(seqs(Filter { call: Some(first), ..Default::default() }), [3, 2, 1]);
    assert_eq!(seqs(Filter { stream: Some(StreamId("n/none".into())), ..Default::default() }), [0; 0]);
    let window = Filter { from_us: Some(NOON + 10), until_us: Some(NOON + 31), ..Default::default() };
    assert_eq!(seqs(window), [6, 5, 4]);
    assert_eq!(seqs(text("alice")), [2]);
    assert_eq!(seqs(text("ALICE mail")), [2]);
    assert_eq!(seqs(text("\"alice mail\"")), [0; 0]);
    assert_eq!(seqs(text("ali*")), [2]);
    assert_eq!(seqs(Filter { kinds: vec![Kind::Begin], ..text("curl") }), [6, 5, 4, 1]);
    assert_eq!(seqs(text("no_permit")), [4]);
    assert_eq!(seqs(text("-")), [0; 0]);
}

#[test]
fn pages_join_without_overlap_in_both_orders() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (mut a, mut b) = (Sealer::new("n/agent"), Sealer::new("m/agent"));
    store.ingest(&calls(&mut a, NOON, 20)).unwrap();
    store.ingest(&calls(&mut b, NOON, 20)).unwrap();
    store.ingest(&calls(&mut a, NOON + DAY, 20)).unwrap();
    for (oldest_first, words, expected) in [(false, None, 180), (true, None, 180), (false, Some("user7"), 3)] {
        let filter = Filter { text: words.map(Into::into), ..Default::default() };
        let mut search =
            Search { filter, limit: if expected == 3 { 1 } else { 7 }, oldest_first, ..Default::default() };
        let mut times = Vec::new();
        let mut places = std::collections::BTreeSet::new();
        loop {
            let page = store.search(&search).unwrap();
            assert!(page.records.len() <= search.limit);
            for record in &page.records {
                assert!(places.insert((record.stream.clone(), record.seq)));
                times.push(StoredRecord::open(record).unwrap().record.time_us);
            }
            if page.cursor.is_empty() {
                break;
            }
            search.cursor = page.cursor;
        }
        assert_eq!(times.len(), expected);
        assert!(if oldest_first { times.is_sorted() } else { times.iter().rev().is_sorted() });
    }
    assert!(matches!(store.search(&Search { cursor: "x".into(), ..Default::default() }), Err(StoreError::Cursor(_))));
}

#[test]
fn sessions_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut sealer = Sealer::new("n/run-1");
    let mut records = call(NOON, CallId::new(), "/a", "x").to_vec();
    let refused = CallId::new();
    records.extend([denied(NOON + 5, refused, "/b"), end(NOON + 6, refused, Outcome::Refused)]);
    store.ingest(&sealer.all(records)).unwrap();
    let mut other = begin(NOON + DAY, CallId::new(), "/c");
    if let RecordKind::Begin(begin) = &mut other.kind {
        begin.session = callgate_model::SessionId::new();
        begin.workload = "run/other".into();
    }
    store.ingest(&sealer.all([other])).unwrap();
    let page = store.sessions(&SessionSearch { limit: 1, ..Default::default() }).unwrap();
    assert_eq!(page.sessions[0].workload, "run/other");
    let next = SessionSearch { limit: 1, cursor: page.cursor, ..Default::default() };
    let page = store.sessions(&next).unwrap();
    let session = &page.sessions[0];
    assert_eq!((session.session, session.calls, session.denied, session.failed, session.masked), (SESSION, 2, 1, 0, 4));
    assert_eq!((session.executable.as_str(), page.cursor.as_str()), ("/usr/bin/curl", ""));
    let build = SessionSearch { workload: Some("build".into()), limit: 9, ..Default::default() };
    assert_eq!(store.sessions(&build).unwrap().sessions.len(), 1);
    let early = SessionSearch { until_us: Some(NOON + 1), limit: 9, ..Default::default() };
    assert_eq!(store.sessions(&early).unwrap().sessions.len(), 1);
    let records = store.search(&Store::session_records(SESSION)).unwrap().records;
    assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[test]
fn verify_names_the_first_fault() {
    type Tamper = (&'static str, FaultKind, u64);
    let tampered: &[Tamper] = &[
        ("UPDATE records SET body = CAST(body || x'00' AS BLOB) WHERE seq = 7", FaultKind::Changed, 7),
        ("UPDATE records SET hash = zeroblob(32) WHERE seq = 7", FaultKind::Changed, 7),
        ("UPDATE records SET prev = zeroblob(32) WHERE seq = 7", FaultKind::WrongPrev, 7),
        ("DELETE FROM records WHERE seq = 7", FaultKind::Gap, 8),
        ("DELETE FROM records WHERE seq > 27", FaultKind::Truncated, 30),
        ("DELETE FROM records WHERE seq = 1", FaultKind::Gap, 2),
        ("DELETE FROM records", FaultKind::Truncated, 30),
        (
            "UPDATE records SET seq = -1 WHERE seq = 7; UPDATE records SET seq = 7 WHERE seq = 8;
          UPDATE records SET seq = 8 WHERE seq = -1",
            FaultKind::WrongPrev,
            7,
        ),
        ("UPDATE records SET verdict = 'deny' WHERE seq = 7", FaultKind::Changed, 7),
        ("UPDATE records SET id = id + 5000000000 WHERE seq = 7", FaultKind::Changed, 7),
        ("UPDATE records SET call = x'00' WHERE seq = 7", FaultKind::Changed, 7),
    ];
    for (sql, kind, seq) in tampered {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut sealer = Sealer::new("n/agent");
        store.ingest(&calls(&mut sealer, NOON, 10)).unwrap();
        store.ingest(&calls(&mut Sealer::new("n/other"), NOON + DAY, 1)).unwrap();
        day_file(&store, "2026-11-22").execute_batch(sql).unwrap();
        let report = store.verify(None, None).unwrap();
        assert!(!report.is_whole(), "{sql}");
        let fault = report.streams[0].fault.as_ref().unwrap();
        assert_eq!((fault.kind, fault.seq), (*kind, *seq), "{sql}: {}", fault.detail);
        assert_eq!(report.streams[1].fault, None, "{sql}");
    }
}

#[test]
fn a_head_from_elsewhere_finds_what_the_index_hides() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut sealer = Sealer::new("n/agent");
    let stream = StreamId("n/agent".into());
    let batch = calls(&mut sealer, NOON, 10);
    store.ingest(&batch[..29]).unwrap();
    let head = |record: &SealedRecord| Head { seq: record.seq, hash: record.hash[..].try_into().unwrap() };
    assert!(store.verify(Some(&stream), Some(head(&batch[20]))).unwrap().is_whole());
    let cut = store.verify(Some(&stream), Some(head(&batch[29]))).unwrap();
    assert_eq!(cut.streams[0].fault.as_ref().unwrap().kind, FaultKind::Truncated);
    let mut wrong = head(&batch[20]);
    wrong.hash.0[0] ^= 1;
    let changed = store.verify(Some(&stream), Some(wrong)).unwrap();
    assert_eq!(changed.streams[0].fault.as_ref().unwrap().seq, 21);
}

#[test]
fn a_crash_between_day_and_index_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut sealer = Sealer::new("n/agent");
    let stream = StreamId("n/agent".into());
    let batch = calls(&mut sealer, NOON, 10);
    store.ingest(&batch[..12]).unwrap();
    let before = std::fs::read(dir.path().join("index.db")).unwrap();
    store.ingest(&batch[12..]).unwrap();
    drop(store);
    // The state that a crash leaves: the day is committed, the index is not.
    let index = Connection::open(dir.path().join("index.db")).unwrap();
    assert!(!before.is_empty());
    let hash = batch[11].hash.clone();
    index.execute("UPDATE streams SET seq = 12, hash = ?", [hash]).unwrap();
    index.execute("UPDATE spans SET last_seq = 12", []).unwrap();
    drop(index);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.resume(&stream).unwrap().unwrap().seq, 30);
    assert_eq!(store.ingest(&batch).unwrap(), Ingested { stored: 0, duplicates: 30, last_seq: 30 });
    assert!(store.verify(None, None).unwrap().is_whole());
    assert_eq!(store.session(SESSION).unwrap().unwrap().calls, 10);
}

#[test]
fn a_lost_index_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let stream = StreamId("n/agent".into());
    let mut sealer = Sealer::new("n/agent");
    let store = Store::open(dir.path()).unwrap();
    store.ingest(&calls(&mut sealer, NOON, 5)).unwrap();
    store.ingest(&calls(&mut sealer, NOON + DAY, 5)).unwrap();
    let head = store.resume(&stream).unwrap();
    drop(store);
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join(name));
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.resume(&stream).unwrap(), head);
    assert!(store.verify(None, None).unwrap().is_whole());
    assert_eq!(store.ingest(&calls(&mut sealer, NOON + DAY, 5)).unwrap().stored, 15);
}

#[test]
fn two_writers_and_a_reader_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    // Opened apart, as two processes would: nothing but the files is shared.
    std::thread::scope(|scope| {
        for name in ["n/run-1", "n/run-2", "n/run-3"] {
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                let mut sealer = Sealer::new(name);
                for n in 0..20 {
                    store.ingest(&calls(&mut sealer, NOON + n * 10_000, 5)).unwrap();
                }
            });
        }
        scope.spawn(move || {
            loop {
                let Ok(store) = Store::open_to_read(path) else { continue };
                assert!(store.verify(None, None).unwrap().is_whole());
                if find(&store, Filter { kinds: vec![Kind::Begin], ..Default::default() }).len() == 300 {
                    break;
                }
            }
        });
    });
    let report = Store::open(path).unwrap().verify(None, None).unwrap();
    assert_eq!(report.streams.iter().map(|stream| stream.records).collect::<Vec<_>>(), [300, 300, 300]);
}

#[test]
fn tail_gives_each_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut sealer = Sealer::new("n/agent");
    store.ingest(&calls(&mut sealer, NOON, 10)).unwrap();
    let filter = Filter { kinds: vec![Kind::Begin], ..Default::default() };
    let reader = Store::open_to_read(dir.path()).unwrap();
    let (backlog, mut tail) = reader.tail(filter, 3).unwrap();
    assert_eq!(backlog.iter().map(|record| record.seq).collect::<Vec<_>>(), [22, 25, 28]);
    assert_eq!(tail.look().unwrap(), (vec![], false));
    // A late record of a day gone by, another stream, and more than one look takes.
    store.ingest(&calls(&mut sealer, NOON - DAY, 1)).unwrap();
    store.ingest(&calls(&mut Sealer::new("m/agent"), NOON, 1)).unwrap();
    let (news, more) = tail.look().unwrap();
    assert_eq!((news.len(), news[0].seq, more), (2, 31, false));
    store.ingest(&calls(&mut sealer, NOON, 400)).unwrap();
    let mut count = 0;
    loop {
        let (news, more) = tail.look().unwrap();
        count += news.len();
        if !more {
            break;
        }
    }
    assert_eq!(count, 400);
    assert_eq!(tail.look().unwrap(), (vec![], false));
}

#[test]
fn files_are_for_their_owner_alone_and_an_absent_store_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert!(matches!(Store::open_to_read(&path), Err(StoreError::Absent(absent)) if absent == path));
    let store = Store::open(&path).unwrap();
    store.ingest(&calls(&mut Sealer::new("n/agent"), NOON, 1)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}
