//! What `deploy/examples` shows is true.

use std::path::Path;

use callgate_model::{Obligations, RecordDepth};

use super::{Asker, kinds, word};
use crate::{Finding, PolicySet, Rule};

pub fn example(name: &str) -> (PolicySet, Vec<Finding>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples").join(name);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!files.is_empty());
    PolicySet::parse(&files, kinds).unwrap_or_else(|errors| panic!("{name}: {errors}"))
}

#[test]
fn the_rules_in_the_docs_load_without_a_word() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md")).unwrap();
    let blocks: Vec<&str> = page.split("```cedar\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        let files = [("policy.md".to_owned(), block.to_owned())];
        let (set, warnings) = PolicySet::parse(&files, kinds).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!((set.len(), warnings), (1, vec![]), "{block}");
    }
}

#[test]
fn demo_does_what_its_readme_says() {
    let (set, warnings) = example("demo");
    assert_eq!(warnings, []);
    let run = Asker::new("run/demo").at("10.200.1.2:443");
    for (call, expected) in [
        ("GET api.callgate.test/v1/users/7", "allow"),
        ("GET api.callgate.test/v1/health", "allow"),
        ("DELETE api.callgate.test/v1/users/7", "forbidden"),
        ("GET api.callgate.test/v1/users/7/cards", "no_permit"),
        ("POST api.callgate.test/v1/users/7", "no_permit"),
    ] {
        assert_eq!(word(&run.call(&set, call)), expected, "{call}");
    }
    let read = run.call(&set, "GET api.callgate.test/v1/users/7").unwrap().into_decision();
    assert_eq!(read.policies, ["demo-read-user"]);
    assert!(!read.obligations.mask.is_empty());
    let health = run.call(&set, "GET api.callgate.test/v1/health").unwrap().into_decision();
    assert_eq!(health.obligations, Obligations { record: RecordDepth::Meta, ..Obligations::default() });
    assert_eq!(word(&run.connect(&set, "other.test:443")), "no_permit");
}

#[test]
fn basic_does_what_its_readme_says() {
    let (set, warnings) = example("basic");
    assert!(warnings.iter().all(|w| w.rule == Rule::Unenforceable && w.policy == "no-delete"), "{warnings:#?}");
    assert_eq!(warnings.len(), 1);
    let run = Asker::new("run/x");
    for (call, expected) in [
        ("GET api.example.com/v1/users", "allow"),
        ("HEAD api.example.com/v1/users/7", "allow"),
        ("PUT api.example.com/v1/users/7", "no_permit"),
        ("DELETE api.example.com/v1/users/7", "forbidden"),
        ("POST api.example.com/v1/reports", "no_permit"),
        ("GET github.com/git/git-scm.com/info/refs", "allow"),
        ("POST github.com/git/git-scm.com/git-upload-pack", "allow"),
        ("POST github.com/git/git-scm.com/git-receive-pack", "no_permit"),
        ("DELETE registry.npmjs.org/x", "forbidden"),
        ("GET registry.npmjs.org/x", "allow"),
    ] {
        assert_eq!(word(&run.call(&set, call)), expected, "{call}");
    }
    assert_eq!(word(&Asker::new("run/nightly").call(&set, "POST api.example.com/v1/reports")), "allow");
    let pinned = run.connect(&set, "updates.example.com:443").unwrap();
    assert!(pinned.passthrough() && pinned.explicit());
    assert_eq!(word(&run.connect(&set, "updates.example.com:8443")), "no_permit");
    assert_eq!(word(&run.connect(&set, "example.org:443")), "no_permit");
    assert_eq!(word(&Asker::new("run/x").at("169.254.169.254:443").connect(&set, "api.example.com:443")), "forbidden");
}
