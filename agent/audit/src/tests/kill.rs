//! `kill -9` under load: what `begin` returned for is in the chain, and every call has its end.

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use callgate_model::*;

use super::support::*;
use crate::{EndFacts, SpoolConfig};

const DIR: &str = "CALLGATE_AUDIT_KILL_DIR";

fn spool(dir: PathBuf) -> SpoolConfig {
    SpoolConfig { segment_bytes: 64 << 10, ..config(&dir) }
}

#[test]
#[ignore = "the child of `kills_lose_nothing`, which starts it"]
fn child() {
    let dir = env::var_os(DIR).expect("started by `kills_lose_nothing` alone");
    let (recorder, _) = open(spool(dir.into()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let mut call = call(&recorder);
                    // One write, so that a line is whole or not there.
                    let line = format!("begun {}\n", call.id());
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    call.body(Direction::Response, &[1; 500]);
                    call.end(EndFacts::new(Outcome::Complete, Reason::Permitted));
                }
            });
        }
        // Ships and frees, so that the kill also meets those.
        scope.spawn(|| {
            let mut reader = recorder.reader(recorder.status().acked_seq + 1);
            loop {
                let batch = reader.next_batch(64).unwrap();
                if let Some(last) = batch.last() {
                    // Keeps the last 2,000 for the parent to look at.
                    let _ = recorder.acknowledge(last.seq.saturating_sub(2000));
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
    });
}

#[test]
fn kills_lose_nothing() {
    let dir = scratch();
    let mut open_before = BTreeSet::new();
    for round in 0..count(4, 100) {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "tests::kill::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = Vec::new();
        // As many calls as make each round end elsewhere.
        let enough = 300 + 977 * (round as usize % 7);
        while lines.len() < enough {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            lines.push(line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        lines.extend(rest.split_inclusive('\n').map(String::from));
        let begun: Vec<CallId> =
            lines.iter().filter_map(|line| line.trim().strip_prefix("begun ")?.parse().ok()).collect();
        // All but what the test harness itself prints.
        assert!(begun.len() + 5 >= enough);

        let (recorder, recovery) = open(spool(dir.path().into()));
        // The page cache outlives the process: nothing is torn that a process gave whole, save the write it died in.
        assert!(recovery.interrupted.len() <= 5, "{recovery:?}");
        let held = read_all(&recorder);
        let mut verifier =
            callgate_seal::Verifier::resume(held[0].seq - 1, callgate_seal::Hash::try_from(&held[0].prev[..]).unwrap());
        let mut records = Vec::new();
        for record in &held {
            verifier.check(record.seq, &record.prev, &record.hash, &record.body).unwrap();
            records.push(callgate_proto::decode_record(&record.body).unwrap());
        }
        let in_chain: BTreeSet<_> = begins(&records).into_iter().collect();
        // The last 2,000 records hold at least 600 calls; what is older was acknowledged and may be freed.
        let last = begun.len().saturating_sub(300);
        let missing: Vec<_> = begun[last..].iter().filter(|call| !in_chain.contains(call)).collect();
        assert!(missing.is_empty(), "round {round}: {missing:?}");
        let ended: BTreeSet<_> = ends(&records).iter().map(|end| end.call).collect();
        assert_eq!(in_chain.difference(&ended).count(), 0, "round {round}");
        open_before.extend(recovery.interrupted);
    }
    assert!(!open_before.is_empty(), "no kill met an open call: the load is too light");
}
