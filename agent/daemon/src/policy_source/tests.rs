//! Reloading, and refusing to.

mod cluster;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

const GOOD: &str =
    r#"@id("a") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"a.x");"#;
const BETTER: &str =
    r#"@id("b") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"b.x");"#;
/// A uid that runs workloads, and one that does not.
const WORKLOAD: u32 = 12_345;
const OPERATOR: u32 = 12_346;

/// A directory as an operator keeps it: of root, and writable by root alone.
fn directory(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    write(directory.path(), "p.cedar", text);
    directory
}

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
}

async fn next(policies: &Policies) -> PolicyChange {
    tokio::time::timeout(Duration::from_secs(5), policies.changed()).await.expect("a change within 5 s").unwrap()
}

/// Nothing is told for longer than a look takes.
async fn quiet(policies: &Policies) {
    let told = tokio::time::timeout(Duration::from_millis(1_500), policies.changed()).await;
    assert!(told.is_err(), "{told:?}");
}

fn hash(policies: &Policies) -> String {
    policies.current().load().hash().to_owned()
}

#[tokio::test]
async fn reloads_within_a_second_and_tells_the_new_set() {
    let directory = directory(GOOD);
    let policies = Policies::load(directory.path(), &Arc::default()).unwrap();
    policies.set_workload_uids([WORKLOAD]);
    let before = hash(&policies);
    let changed = Instant::now();
    write(directory.path(), "q.cedar", BETTER);
    let change = next(&policies).await;
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    assert_eq!((change.refused.as_str(), change.policies), ("", 2));
    assert_eq!(change.policy_set, hash(&policies));
    assert_ne!(change.policy_set, before);

    fs::remove_file(directory.path().join("q.cedar")).unwrap();
    assert_eq!(next(&policies).await.policy_set, before);
}

#[tokio::test]
async fn a_broken_set_is_refused_once_and_the_last_good_one_stays() {
    let directory = directory(GOOD);
    let policies = Policies::load(directory.path(), &Arc::default()).unwrap();
    let before = hash(&policies);
    write(directory.path(), "p.cedar", &GOOD.replace("@id(\"a\")", "@mask(\"pi\")"));
    let change = next(&policies).await;
    assert!(change.refused.contains("p.cedar:1:1") && change.refused.contains("`pii`"), "{}", change.refused);
    assert_eq!((change.policy_set.as_str(), change.policies), (before.as_str(), 1));
    quiet(&policies).await;
    assert_eq!(hash(&policies), before);

    write(directory.path(), "p.cedar", BETTER);
    assert_eq!(next(&policies).await.refused, "");
    assert_ne!(hash(&policies), before);
}

#[tokio::test]
async fn a_lost_directory_keeps_the_set() {
    let directory = directory(GOOD);
    let policies = Policies::load(directory.path(), &Arc::default()).unwrap();
    let aside = directory.path().with_extension("aside");
    fs::rename(directory.path(), &aside).unwrap();
    assert!(next(&policies).await.refused.contains("cannot read"));
    assert_eq!(policies.current().load().len(), 1);

    // The directory is another one now, which the old watch does not see: the look by the clock does.
    fs::create_dir(directory.path()).unwrap();
    write(directory.path(), "p.cedar", BETTER);
    loop {
        let change = next(&policies).await;
        if change.refused.is_empty() && change.policies == 1 {
            break;
        }
    }
    fs::remove_dir_all(aside).unwrap();
}

#[tokio::test]
async fn what_a_workload_can_write_is_not_reloaded() {
    assert!(rustix::process::geteuid().is_root(), "this test gives files away, so it needs root");
    type Spoil = fn(&Path);
    let spoilt: [(&str, Spoil); 6] = [
        ("owner", |directory| chown(directory.join("p.cedar"), Some(WORKLOAD), None).unwrap()),
        ("uid 12345", |directory| chown(directory, Some(WORKLOAD), None).unwrap()),
        ("others", |directory| mode(&directory.join("p.cedar"), 0o666)),
        ("group", |directory| {
            chown(directory.join("p.cedar"), None, Some(WORKLOAD)).unwrap();
            mode(&directory.join("p.cedar"), 0o664);
        }),
        ("sticky", |directory| mode(directory, 0o1777)),
        ("link", |directory| {
            let outside = directory.with_extension("outside");
            fs::rename(directory.join("p.cedar"), &outside).unwrap();
            std::os::unix::fs::symlink(&outside, directory.join("p.cedar")).unwrap();
        }),
    ];
    for (case, spoil) in spoilt {
        let directory = directory(GOOD);
        let policies = Policies::load(directory.path(), &Arc::default()).unwrap();
        policies.set_workload_uids([WORKLOAD]);
        let before = hash(&policies);
        spoil(directory.path());
        let path = directory.path().join("p.cedar");
        fs::write(&path, BETTER).unwrap();
        let change = next(&policies).await;
        assert!(change.refused.contains("could have been changed by a workload"), "{case}: {}", change.refused);
        assert_eq!(hash(&policies), before, "{case}");
        let _ = fs::remove_file(directory.path().with_extension("outside"));
    }
}

#[tokio::test]
async fn a_set_is_taken_once_its_files_are_out_of_reach_again() {
    let directory = directory(GOOD);
    let policies = Policies::load(directory.path(), &Arc::default()).unwrap();
    policies.set_workload_uids([WORKLOAD]);
    mode(directory.path(), 0o777);
    write(directory.path(), "p.cedar", BETTER);
    assert!(next(&policies).await.refused.contains("other than its owner"));
    mode(directory.path(), 0o755);
    assert_eq!(next(&policies).await.refused, "");
}

#[test]
fn owners_are_trusted_only_when_they_run_no_workload() {
    let directory = directory(GOOD);
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    mode(&inner, 0o755);
    let inner = inner.canonicalize().unwrap();
    let uids = |uids: &[u32]| uids.iter().copied().collect::<BTreeSet<u32>>();
    let judge = |list: &[u32]| ownership::of_directory(&inner, &uids(list));
    assert_eq!(judge(&[]), Ok(()));
    assert_eq!(judge(&[WORKLOAD]), Ok(()));
    assert!(judge(&[0]).is_err());
    chown(&inner, Some(OPERATOR), None).unwrap();
    assert!(judge(&[]).is_err());
    assert_eq!(judge(&[WORKLOAD]), Ok(()));
    assert!(judge(&[0, WORKLOAD]).unwrap_err().contains("root"));
    assert!(judge(&[OPERATOR]).is_err());
    // A parent of the workload's is enough to exchange the whole directory.
    chown(directory.path(), Some(WORKLOAD), None).unwrap();
    assert!(judge(&[WORKLOAD]).unwrap_err().contains(directory.path().to_str().unwrap()));
}

#[test]
fn reads_policy_files_alone_and_within_bounds() {
    let directory = directory(GOOD);
    write(directory.path(), "README.md", "no");
    write(directory.path(), ".hidden.cedar", "no");
    write(directory.path(), "s.cedarschema", "no");
    fs::create_dir(directory.path().join("below")).unwrap();
    assert_eq!(read(directory.path()).unwrap().texts(), [("p.cedar".to_owned(), GOOD.to_owned())]);

    let message = |name: &str| {
        let error = format!("{:#}", read(directory.path()).unwrap_err());
        let path = directory.path().join(name);
        if path.is_dir() {
            fs::remove_dir(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        error
    };
    fs::create_dir(directory.path().join("d.cedar")).unwrap();
    assert!(message("d.cedar").contains("not a regular file"));
    let fifo = directory.path().join("f.cedar");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(message("f.cedar").contains("not a regular file"));
    fs::write(directory.path().join("u.cedar"), [0xff]).unwrap();
    assert!(message("u.cedar").contains("not UTF-8"));
    fs::write(directory.path().join("l.cedar"), vec![b' '; FILE_MAX as usize + 1]).unwrap();
    assert!(message("l.cedar").contains("over"));
}

#[test]
fn a_broken_or_absent_directory_does_not_start() {
    let directory = directory("permit (");
    let error = format!("{:#}", Policies::load(directory.path(), &Arc::default()).err().unwrap());
    assert!(error.contains("p.cedar:1:"), "{error}");
    let error = format!("{:#}", Policies::load(&directory.path().join("absent"), &Arc::default()).err().unwrap());
    assert!(error.contains("callgate policy init"), "{error}");
}

#[tokio::test]
async fn no_policies_deny_and_never_change() {
    let policies = Policies::none();
    assert!(policies.current().load().is_empty());
    assert_eq!(policies.changed().await, None);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
