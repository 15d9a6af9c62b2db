//! Input that nobody writes: no panic, no overflow of the stack, no endless work.

use proptest::prelude::*;

use super::{Asker, parse, set};
use crate::load::layout_heads;

/// Runs on the stack that a worker of the runtime has.
fn on_a_worker_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

fn with_condition(condition: &str) -> String {
    format!(
        r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x") when {{ {condition} }};"#
    )
}

#[test]
fn deep_policies_are_refused_or_work() {
    on_a_worker_stack(|| {
        let mut accepted = 0;
        for size in [100, 190, 260, 390, 790, 900, 2_000, 40_000] {
            let chains = [
                vec!["true"; size].join(" || "),
                vec!["true"; size].join(" && "),
                vec!["1"; size].join(" + ") + " > 0",
                vec!["resource.method == \"GET\""; size].join(" || "),
                vec!["resource.segments"; size].join(" + ") + " > 0",
                format!("{}true{}", "(".repeat(size), ")".repeat(size)),
                format!("{}true{}", "[".repeat(size), "]".repeat(size)),
                format!("{}true", "!".repeat(size)),
                format!("{}1 > 0", "-".repeat(size)),
                format!("resource{}", ".a".repeat(size)),
                format!("{} true {}", "if true then ".repeat(size), "else false ".repeat(size)),
                format!("[{}].contains(resource.method)", vec!["\"GET\""; size].join(",")),
            ];
            for chain in chains {
                // What is accepted was type-checked and can be evaluated: nothing was given up for want of stack.
                if let Ok((set, _)) = parse(&with_condition(&chain)) {
                    let answer = Asker::new("run/x").call(&set, "GET api.x/");
                    assert!(matches!(super::word(&answer), "allow" | "no_permit"), "{size} {chain:.40}");
                    assert!(!chain.contains(".a.a"), "{size} {chain:.40}");
                    accepted += 1;
                }
            }
        }
        assert!(accepted >= 15, "only {accepted} were accepted");
    });
}

#[test]
fn usual_sizes_are_accepted() {
    set(&with_condition(&vec!["resource.path like \"/v1/users/*\""; 200].join(" || ")));
    let digest = format!("\"{}\"", "a".repeat(64));
    set(&with_condition(&format!(
        "context has executable && [{}].contains(context.executable.sha256)",
        vec![digest; 500].join(",")
    )));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn any_tokens_are_answered(tokens in proptest::collection::vec(token(), 0..40)) {
        let _ = parse(&tokens.join(" "));
    }

    #[test]
    fn any_condition_is_answered(tokens in proptest::collection::vec(token(), 0..12)) {
        let _ = parse(&with_condition(&tokens.join(" ")));
    }

    /// Our scanner and Cedar's parser agree on where policies begin.
    #[test]
    fn the_layout_is_cedars(parts in proptest::collection::vec((comment(), annotation(), "(permit|forbid)"), 0..6)) {
        let text: String = parts
            .iter()
            .map(|(comment, annotation, effect)| format!("{comment}\n{annotation}{effect}(principal, action, resource);"))
            .collect();
        let parsed: cedar_policy::PolicySet = text.parse().unwrap();
        let effects: Vec<String> = parsed.policies().map(|policy| policy.effect().to_string()).collect();
        prop_assert_eq!(layout_heads(&text), effects);
    }
}

fn token() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "permit",
        "forbid",
        "when",
        "unless",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ";",
        ",",
        "@",
        "@id",
        "@mask",
        "\"pii\"",
        "(\"x\")",
        "principal",
        "action",
        "resource",
        "context",
        ".",
        "has",
        "like",
        "is",
        "in",
        "==",
        "!=",
        "&&",
        "||",
        "!",
        "-",
        "1",
        "9223372036854775807",
        "true",
        "if",
        "then",
        "else",
        "\"/v1/*\"",
        "\"",
        "\\",
        "//",
        "\n",
        "Callgate::Service::\"x\"",
        "Callgate::Action::\"call\"",
        "?principal",
        "method",
        "approved",
        "é",
        "executable",
        "contains",
        "ip(\"1.2.3.4\")",
        "resource.method",
        "context.executable",
    ])
}

fn comment() -> impl Strategy<Value = String> {
    "(//[^\n\r]{0,20})?"
}

fn annotation() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["", "@a ", "@b(\"permit;@ // x\")", "@c(\"\\\"\") @d\n", "@permit(\"x\")"])
        .prop_map(str::to_owned)
}
