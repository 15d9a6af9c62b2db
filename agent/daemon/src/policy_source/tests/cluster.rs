//! Policies of a cluster beside those of the directory.

use callgate_kubernetes::{Accepted, OBJECTS_MAX, Status};
use callgate_policy::Origin;

use super::*;

const BROKEN: &str = "permit (";
/// Ids of what refuses in place of policies.
const LOST: &str = "policies of namespace a cannot be in force";
const OVER: &str = "policies of namespace a are over their bound";

fn object(namespace: &str, uid: &str, text: &str) -> PolicyObject {
    PolicyObject {
        origin: Origin::Namespace { namespace: namespace.into(), name: "web".into() },
        uid: uid.into(),
        generation: 1,
        text: Ok(text.into()),
        status: Status::default(),
    }
}

/// The policies in force.
fn ids(policies: &Policies) -> Vec<String> {
    let set = policies.current().load_full();
    let all = ["a", "b", "a/web/a", "a/web/b", "b/web/a", "b/web/b", "cluster:not-known-yet/1", LOST, OVER];
    all.into_iter().filter(|id| set.place(id).is_some()).map(str::to_owned).collect()
}

async fn joined(state: &Path) -> (tempfile::TempDir, Policies) {
    let directory = directory(GOOD);
    let policies = Policies::load(directory.path(), &Arc::default()).unwrap();
    policies.set_workload_uids([WORKLOAD]);
    policies.join(state.to_owned());
    policies.settled().await;
    (directory, policies)
}

async fn offered(policies: &Policies, objects: Vec<PolicyObject>) {
    policies.offer(objects);
    policies.settled().await;
}

#[tokio::test]
async fn pods_are_refused_while_the_cluster_never_said_anything() {
    let state = tempfile::tempdir().unwrap();
    let (_directory, policies) = joined(state.path()).await;
    assert_eq!(ids(&policies), ["a", "cluster:not-known-yet/1"]);
    assert!(policies.awaits_cluster());
    offered(&policies, Vec::new()).await;
    assert_eq!(ids(&policies), ["a"]);
    assert!(!policies.awaits_cluster());
}

#[tokio::test]
async fn directory_and_objects_are_one_set_that_changes_with_either() {
    let state = tempfile::tempdir().unwrap();
    let (directory, policies) = joined(state.path()).await;
    offered(&policies, vec![object("a", "1", GOOD)]).await;
    assert_eq!(ids(&policies), ["a", "a/web/a"]);
    write(directory.path(), "p.cedar", BETTER);
    while ids(&policies) != ["b", "a/web/a"] {
        next(&policies).await;
    }
    offered(&policies, vec![object("a", "1", BETTER)]).await;
    assert_eq!(ids(&policies), ["b", "a/web/b"]);
    offered(&policies, Vec::new()).await;
    assert_eq!(ids(&policies), ["b"]);
}

#[tokio::test]
async fn a_broken_object_keeps_its_last_good_text_and_is_told() {
    let state = tempfile::tempdir().unwrap();
    let (_directory, policies) = joined(state.path()).await;
    assert_eq!(next(&policies).await.refused, "");
    offered(&policies, vec![object("a", "1", GOOD)]).await;
    assert_eq!(next(&policies).await.refused, "");
    offered(&policies, vec![object("a", "1", BROKEN), object("b", "2", BETTER)]).await;
    assert_eq!(ids(&policies), ["a", "a/web/a", "b/web/b"]);
    let refused = next(&policies).await.refused;
    assert!(refused.contains("CallPolicy/a/web:1:") && refused.contains("stays"), "{refused}");
    // Another object under the same name has no past.
    offered(&policies, vec![object("a", "3", BROKEN), object("b", "2", BETTER)]).await;
    assert_eq!(ids(&policies), ["a", "b/web/b"]);
    assert!(next(&policies).await.refused.contains("nothing of it is in force"));
    offered(&policies, vec![object("a", "3", GOOD)]).await;
    assert_eq!(next(&policies).await.refused, "");
}

#[tokio::test]
async fn what_the_controller_accepted_stands_in_where_nothing_was_seen() {
    let state = tempfile::tempdir().unwrap();
    let (_directory, policies) = joined(state.path()).await;
    let mut broken = object("a", "1", BROKEN);
    broken.status.last_accepted = Some(Accepted { generation: 1, cedar: GOOD.into() });
    offered(&policies, vec![broken]).await;
    assert_eq!(ids(&policies), ["a", "a/web/a"]);
}

#[tokio::test]
async fn a_restart_without_the_api_knows_what_was_in_force() {
    let state = tempfile::tempdir().unwrap();
    let (_directory, policies) = joined(state.path()).await;
    offered(&policies, vec![object("a", "1", GOOD), object("b", "2", GOOD)]).await;
    offered(&policies, vec![object("a", "1", BROKEN), object("b", "2", BETTER)]).await;
    let before = hash(&policies);
    drop(policies);
    let (_directory, policies) = joined(state.path()).await;
    assert_eq!(ids(&policies), ["a", "a/web/a", "b/web/b"]);
    assert_eq!(hash(&policies), before);
    // What is gone by then is gone.
    offered(&policies, vec![object("b", "2", BROKEN)]).await;
    assert_eq!(ids(&policies), ["a", "b/web/b"]);
    let mode = fs::metadata(state.path().join("cluster-policies.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_broken_directory_keeps_no_object_out() {
    let state = tempfile::tempdir().unwrap();
    let (directory, policies) = joined(state.path()).await;
    write(directory.path(), "p.cedar", BROKEN);
    while !next(&policies).await.refused.contains("p.cedar:1:") {}
    offered(&policies, vec![object("a", "1", GOOD)]).await;
    assert_eq!(ids(&policies), ["a", "a/web/a"]);
    let change = next(&policies).await;
    assert!(change.refused.contains("p.cedar:1:") && change.policies == 2, "{}", change.refused);
}

#[tokio::test]
async fn a_kept_file_that_does_not_read_counts_as_none() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("cluster-policies.json"), "[{").unwrap();
    let (_directory, policies) = joined(state.path()).await;
    assert!(policies.awaits_cluster());
}

#[tokio::test]
async fn what_was_in_force_elsewhere_and_is_not_known_here_closes_its_namespace_over_restarts_too() {
    let state = tempfile::tempdir().unwrap();
    let (_directory, policies) = joined(state.path()).await;
    assert_eq!(next(&policies).await.refused, "");
    let mut broken = object("a", "1", BROKEN);
    // This agent knows a word less than the controller that accepted it.
    broken.status.last_accepted = Some(Accepted { generation: 1, cedar: "@from_later(\"x\") permit (".into() });
    offered(&policies, vec![broken, object("b", "2", GOOD)]).await;
    assert_eq!(ids(&policies), ["a", "b/web/a", LOST]);
    let refused = next(&policies).await.refused;
    assert!(refused.starts_with(&format!("{LOST}: all calls of its workloads are refused; CallPolicy/a/web:1:")));
    drop(policies);
    // The API is away, and then it says no more what was accepted.
    let (_directory, policies) = joined(state.path()).await;
    assert_eq!(ids(&policies), ["a", "b/web/a", LOST]);
    offered(&policies, vec![object("a", "1", BROKEN), object("b", "2", GOOD)]).await;
    assert_eq!(ids(&policies), ["a", "b/web/a", LOST]);
    offered(&policies, vec![object("a", "1", BETTER), object("b", "2", GOOD)]).await;
    assert_eq!(ids(&policies), ["a", "a/web/b", "b/web/a"]);
    // Another object under the same name is nobody's loss.
    offered(&policies, vec![object("a", "3", BROKEN), object("b", "2", GOOD)]).await;
    assert_eq!(ids(&policies), ["a", "b/web/a"]);
}

#[tokio::test]
async fn a_namespace_over_its_bound_is_closed_until_it_is_within_over_restarts_too() {
    let state = tempfile::tempdir().unwrap();
    let (_directory, policies) = joined(state.path()).await;
    assert_eq!(next(&policies).await.refused, "");
    let within = vec![object("a", "1", GOOD), object("b", "2", GOOD)];
    offered(&policies, within.clone()).await;
    assert_eq!(ids(&policies), ["a", "a/web/a", "b/web/a"]);
    assert_eq!(next(&policies).await.refused, "");
    let mut over = within.clone();
    over.extend((0..OBJECTS_MAX).map(|number| PolicyObject {
        origin: Origin::Namespace { namespace: "a".into(), name: number.to_string() },
        ..object("a", &number.to_string(), "// nothing")
    }));
    offered(&policies, over).await;
    assert_eq!(ids(&policies), ["a", "b/web/a", OVER]);
    let refused = next(&policies).await.refused;
    let why = "the CallPolicies of namespace `a` are more than 256";
    assert_eq!(refused, format!("{OVER} ({why}): all calls of its workloads are refused"));
    drop(policies);
    let (_directory, policies) = joined(state.path()).await;
    assert_eq!(ids(&policies), ["a", "b/web/a", OVER]);
    offered(&policies, within).await;
    assert_eq!(ids(&policies), ["a", "a/web/a", "b/web/a"]);
}

#[tokio::test]
async fn changes_that_come_fast_are_taken_together_and_the_last_is_in_force_soon() {
    let state = tempfile::tempdir().unwrap();
    let (_directory, policies) = joined(state.path()).await;
    offered(&policies, vec![object("a", "1", GOOD)]).await;
    while next(&policies).await.policies != 2 {}
    let begun = Instant::now();
    for number in 0..1_000 {
        policies.offer(vec![object("a", "1", &format!("{GOOD} // {number}"))]);
        tokio::task::yield_now().await;
    }
    offered(&policies, vec![object("a", "1", BETTER)]).await;
    let took = begun.elapsed();
    assert_eq!(ids(&policies), ["a", "a/web/b"]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    // A set in each tenth of a second, and one that was under way.
    let mut sets = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(50), policies.changed()).await {
        sets += 1;
    }
    assert!(sets >= 1 && sets <= 2 + took.as_millis() / 100, "{sets} sets in {took:?}");
}

#[tokio::test]
async fn sources_count_what_the_cluster_holds() {
    let state = tempfile::tempdir().unwrap();
    let (directory, policies) = joined(state.path()).await;
    let here = directory.path().canonicalize().unwrap().display().to_string();
    assert_eq!(policies.sources(), [here.clone(), "what was known of the cluster's policies".into()]);
    policies.offer(Vec::new());
    assert_eq!(policies.sources()[1], "0 CallPolicies in 0 namespaces, 0 ClusterCallPolicies");
    let cluster = PolicyObject { origin: Origin::Cluster { name: "base".into() }, ..object("", "3", GOOD) };
    let other = PolicyObject {
        origin: Origin::Namespace { namespace: "a".into(), name: "more".into() },
        ..object("a", "4", BROKEN)
    };
    policies.offer(vec![object("a", "1", GOOD), object("b", "2", GOOD), other, cluster]);
    assert_eq!(policies.sources(), [here, "3 CallPolicies in 2 namespaces, 1 ClusterCallPolicy".into()]);
    policies.offer(vec![object("a", "1", GOOD)]);
    assert_eq!(policies.sources()[1], "1 CallPolicy in 1 namespace, 0 ClusterCallPolicies");
    assert!(Policies::none().sources().is_empty());
}
