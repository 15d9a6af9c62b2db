//! What lies in `deploy/kubernetes/rendered` is what Kubernetes and our own programs take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use callgate_chart::{documents, round_trip};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes/rendered")
}

/// File and object, of all of them.
fn rendered() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        all.extend(documents(&text).unwrap().into_iter().map(|object| (name.clone(), object)));
    }
    all
}

fn named<'a>(all: &'a [(String, Value)], file: &str, kind: &str, name: &str) -> &'a Value {
    let found =
        all.iter().find(|(of, object)| of == file && object["kind"] == kind && object["metadata"]["name"] == name);
    &found.unwrap_or_else(|| panic!("{file} has no {kind} {name}")).1
}

/// `remove.json`, as `kubectl patch --type=json` takes it.
#[test]
fn the_patch_that_removes_makes_what_the_chart_makes_of_it() {
    let patch = std::fs::read_to_string(folder().join("remove.json")).unwrap();
    let patch: json_patch::Patch = serde_json::from_str(&patch).unwrap();
    for file in ["default.yaml", "1.20.yaml", "1.36.yaml"] {
        let all = rendered();
        let mut agents = named(&all, file, "DaemonSet", "callgate-agent").clone();
        json_patch::patch(&mut agents, &patch).unwrap();
        round_trip(&agents).unwrap_or_else(|why| panic!("{file}: {why}"));
        let spec = &agents["spec"]["template"]["spec"];
        let uninstall = &spec["initContainers"][0];
        assert_eq!(uninstall["command"], json!(["/usr/bin/callgate"]), "{file}");
        assert_eq!(uninstall["args"], json!(["uninstall", "--config", "/etc/callgate/agent.toml"]), "{file}");
        for same in ["image", "securityContext", "volumeMounts"] {
            assert_eq!(uninstall[same], spec["containers"][0][same], "{file}: {same}");
        }
        // Init containers have no probes, and a port of one would be the other's.
        assert!(
            ["ports", "startupProbe", "readinessProbe", "livenessProbe"].iter().all(|key| uninstall[key].is_null())
        );
        assert_eq!(spec["containers"][0]["args"][2], "--idle", "{file}");
    }
}

#[test]
fn nothing_is_lost_on_the_way_through_the_newest_types() {
    let all = rendered();
    assert!(all.len() > 40, "{} objects", all.len());
    for (file, object) in &all {
        round_trip(object).unwrap_or_else(|why| panic!("{file}: {why}"));
    }
}

#[test]
fn a_field_that_is_unknown_misspelt_or_of_the_wrong_kind_is_found() {
    let all = rendered();
    let agent = named(&all, "default.yaml", "DaemonSet", "callgate-agent");
    let container = "/spec/template/spec/containers/0";
    for (within, key, value) in [
        ("/spec", "surge", json!(1)),
        ("/spec/template/spec", "hostPid", json!(true)),
        (container, "securityContexts", json!({})),
        (container, "image", json!(7)),
        ("/spec/updateStrategy/rollingUpdate", "maxUnavailable", json!(true)),
        ("", "kind", json!("DeamonSet")),
        ("", "apiVersion", json!("apps/v1beta2")),
    ] {
        let mut wrong = agent.clone();
        wrong.pointer_mut(within).unwrap()[key] = value;
        let why = round_trip(&wrong).expect_err(key);
        assert!(!why.is_empty());
    }
    assert!(documents("a: 1\na: 2\n").is_err(), "a repeated key");
}

#[test]
fn what_the_agent_and_the_collector_are_given_is_configuration_that_they_take() {
    let all = rendered();
    for file in ["default.yaml", "1.20.yaml", "1.36.yaml"] {
        let text =
            |name: &str, key: &str| named(&all, file, "ConfigMap", name)["data"][key].as_str().unwrap().to_owned();
        callgate_daemon::Config::parse(&text("callgate-agent", "agent.toml")).unwrap();
        toml::from_str::<callgate_collector::Config>(&text("callgate-collector", "collector.toml")).unwrap();
    }
}

#[test]
fn what_is_mounted_is_a_volume_and_what_is_referred_to_is_there() {
    let all = rendered();
    for file in ["default.yaml", "1.20.yaml", "1.36.yaml"] {
        let of = |kind: &str| -> Vec<&Value> {
            all.iter().filter(|(of, object)| of == file && object["kind"] == kind).map(|(_, object)| object).collect()
        };
        let accounts: Vec<&Value> = of("ServiceAccount").iter().map(|account| &account["metadata"]["name"]).collect();
        for workload in ["DaemonSet", "StatefulSet", "Deployment"].into_iter().flat_map(of) {
            let (name, pod) = (&workload["metadata"]["name"], &workload["spec"]["template"]["spec"]);
            assert!(accounts.contains(&&pod["serviceAccountName"]), "{name}");
            let mut volumes: BTreeMap<&str, bool> = BTreeMap::new();
            let claims = workload["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
            let claimed = claims.map(|claim| claim["metadata"]["name"].as_str().unwrap());
            let listed = pod["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap());
            volumes.extend(listed.chain(claimed).map(|volume| (volume, false)));
            for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
                let used = volumes.get_mut(mount["name"].as_str().unwrap());
                *used.unwrap_or_else(|| panic!("{name}: no volume for {mount}")) = true;
            }
            assert!(volumes.values().all(|used| *used), "{name}: a volume that nobody mounts: {volumes:?}");
            let labels = &workload["spec"]["template"]["metadata"]["labels"];
            for (label, value) in workload["spec"]["selector"]["matchLabels"].as_object().unwrap() {
                assert_eq!(&labels[label], value, "{name} does not select its own pods");
            }
        }
        let roles: Vec<&Value> = of("ClusterRole").into_iter().chain(of("Role")).collect();
        for binding in of("ClusterRoleBinding").into_iter().chain(of("RoleBinding")) {
            let role = &binding["roleRef"];
            assert!(
                roles.iter().any(|it| it["kind"] == role["kind"] && it["metadata"]["name"] == role["name"]),
                "{role}"
            );
            assert!(
                binding["subjects"].as_array().unwrap().iter().all(|it| accounts.contains(&&it["name"])),
                "{binding}"
            );
        }
    }
}

#[test]
fn no_role_reads_secrets_at_large_or_takes_a_wildcard() {
    for (file, object) in rendered().iter().filter(|(_, object)| object["kind"].as_str().unwrap().ends_with("Role")) {
        for rule in object["rules"].as_array().unwrap() {
            assert!(!rule.to_string().contains('*'), "{file}: {rule}");
            let holds = |key: &str, word: &str| rule[key].as_array().unwrap().contains(&json!(word));
            let reads = ["get", "list", "watch"].iter().any(|verb| holds("verbs", verb));
            if holds("resources", "secrets") && reads {
                assert!(rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty()), "{file}: {rule}");
                assert!(!holds("verbs", "list") && !holds("verbs", "watch"), "{file}: {rule}");
            }
        }
    }
}
