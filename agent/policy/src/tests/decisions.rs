//! What is decided, and why.

use callgate_model::{
    Argument, ArgumentKind, Arguments, Decimal, LineageEnd, MaskKinds, Mode, Pod, Reason, RecordDepth, TlsMode, Verdict,
};
use cedar_policy::{Entities, Request, Schema};

use super::{Asker, set, word};
use crate::arguments::Named;
use crate::entities::{Names, Subject};
use crate::{PolicySet, SCHEMA};

const USERS: &str = r#"
    @id("read-users") @mask("pii") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
    when { resource.method == "GET" && resource.path like "/v1/users/*" && resource.segments == 3 };
    @id("no-delete") forbid (principal, action == Callgate::Action::"call", resource)
    when { resource.method == "DELETE" };
    @id("all-of-run") permit (principal == Callgate::Workload::"run/admin", action == Callgate::Action::"call", resource in Callgate::Service::"api.x");
"#;

#[test]
fn permits_by_method_path_and_segments_and_nothing_else() {
    let set = set(USERS);
    let run = Asker::new("run/x");
    for (call, expected) in [
        ("GET api.x/v1/users/7", "allow"),
        ("GET api.x/v1/users/7/cards", "no_permit"),
        ("GET api.x/v1/users", "no_permit"),
        ("POST api.x/v1/users/7", "no_permit"),
        ("get api.x/v1/users/7", "no_permit"),
        ("DELETE api.x/v1/users/7", "forbidden"),
        ("GET api.x:8443/v1/users/7", "allow"),
    ] {
        assert_eq!(word(&run.call(&set, call)), expected, "{call}");
    }
    assert_eq!(word(&run.connect(&set, "other.x:443")), "no_permit");
}

#[test]
fn forbid_wins_and_names_itself() {
    let set = set(USERS);
    let denied = Asker::new("run/admin").call(&set, "DELETE api.x/v1/users/7").unwrap_err();
    assert_eq!((denied.verdict, denied.reason), (Verdict::Deny, Reason::Forbidden));
    assert_eq!(denied.policies, ["no-delete"]);
    assert_eq!(denied.policy_set, set.hash());
}

#[test]
fn obligations_add_up_over_the_permits_that_hold() {
    let set = set(r#"
        @id("a") @mask("email") @record("meta") permit (principal, action == Callgate::Action::"call", resource);
        @id("b") @mask("jwt, card") @record("full") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");
        @id("c") @mask("all") permit (principal, action == Callgate::Action::"call", resource) when { resource.method == "PUT" };
    "#);
    let run = Asker::new("run/x");
    let both = run.call(&set, "GET api.x/").unwrap().into_decision();
    assert_eq!((both.obligations.mask.kinds(), both.obligations.record), (MaskKinds(7), RecordDepth::Full));
    assert_eq!(both.policies, ["a", "b"]);
    let one = run.call(&set, "GET other.x/").unwrap().into_decision();
    assert_eq!((one.obligations.mask.kinds(), one.obligations.record), (MaskKinds(1), RecordDepth::Meta));
    let plain = super::set(USERS);
    assert_eq!(
        Asker::new("run/admin").call(&plain, "GET api.x/").unwrap().decision().obligations.record,
        RecordDepth::Head
    );
}

#[test]
fn an_evaluation_error_denies_even_where_a_permit_holds() {
    for effect in ["permit", "forbid"] {
        let set = set(&format!(
            r#"@id("ok") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");
               @id("overflow") {effect} (principal, action == Callgate::Action::"call", resource)
               when {{ resource.segments * 9223372036854775807 > 5 }};"#
        ));
        let run = Asker::new("run/x");
        let denied = run.call(&set, "GET api.x/a/b").unwrap_err();
        assert_eq!(denied.reason, Reason::EvaluationError, "{effect}");
        assert_eq!(denied.policies, ["overflow"]);
    }
}

#[test]
fn an_empty_set_denies_everything() {
    let (empty, warnings) = PolicySet::parse(&[], super::kinds).unwrap();
    assert!(empty.is_empty());
    assert_eq!(warnings.len(), 1);
    assert_eq!(word(&Asker::new("run/x").connect(&empty, "api.x:443")), "no_permit");
}

#[test]
fn groups_match_only_their_members() {
    let set = set(r#"permit (principal in Callgate::Group::"ci", action == Callgate::Action::"call", resource);"#);
    let mut run = Asker::new("run/x");
    assert_eq!(word(&run.connect(&set, "api.x:443")), "no_permit");
    run.groups = vec!["other".into()];
    assert_eq!(word(&run.connect(&set, "api.x:443")), "no_permit");
    run.groups = vec!["other".into(), "ci".into(), "ci".into()];
    assert_eq!(word(&run.call(&set, "GET api.x/")), "allow");
}

#[test]
fn two_executables_of_one_workload_get_different_answers() {
    let digest = "a".repeat(64);
    let set = set(&format!(
        r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
           when {{ context has executable && context.executable.sha256 == "{digest}" }};"#
    ));
    assert_eq!(word(&Asker::new("run/x").executable("/bin/a", &digest).call(&set, "GET api.x/")), "allow");
    assert_eq!(word(&Asker::new("run/x").executable("/bin/a", &"b".repeat(64)).call(&set, "GET api.x/")), "no_permit");
    assert_eq!(word(&Asker::new("run/x").call(&set, "GET api.x/")), "no_permit");
}

#[test]
fn connect_is_implied_by_scope_alone_and_is_not_explicit() {
    let set = set(USERS);
    let permit = Asker::new("run/x").connect(&set, "api.x:443").unwrap();
    assert!(!permit.explicit() && !permit.may_pass_undecoded() && !permit.passthrough());
    assert_eq!(permit.decision().policies, ["read-users"]);
}

#[test]
fn a_forbid_on_connect_beats_what_calls_imply() {
    let set = set(&format!(
        r#"{USERS} @id("no-plain") forbid (principal, action == Callgate::Action::"connect", resource) when {{ !context.tls }};"#
    ));
    let mut run = Asker::new("run/x");
    assert_eq!(word(&run.connect(&set, "api.x:443")), "allow");
    run.tls = false;
    assert_eq!(run.connect(&set, "api.x:80").unwrap_err().policies, ["no-plain"]);
}

#[test]
fn a_function_scope_implies_its_service_and_only_that() {
    let set = set(
        r#"permit (principal, action == Callgate::Action::"call", resource == Callgate::Function::"http:GET api.x/v1");"#,
    );
    let mut run = Asker::new("run/x");
    assert_eq!(word(&run.call(&set, "GET api.x/v1")), "allow");
    assert_eq!(word(&run.call(&set, "GET api.x/v2")), "no_permit");
    assert_eq!(word(&run.connect(&set, "api.x:8443")), "no_permit");
    run.tls = false;
    assert_eq!(word(&run.call(&set, "GET api.x/v1")), "allow");
    run.tls = true;
    assert_eq!(word(&run.connect(&set, "sub.api.x:443")), "no_permit");
}

#[test]
fn scopes_that_cannot_match_a_call_imply_nothing() {
    let set = set(r#"permit (principal == Callgate::Group::"ci", action == Callgate::Action::"call", resource);
           permit (principal is Callgate::Group, action == Callgate::Action::"call", resource);
           permit (principal, action == Callgate::Action::"call", resource is Callgate::Service);"#);
    let mut run = Asker::new("run/x");
    run.groups = vec!["ci".into()];
    assert_eq!(word(&run.connect(&set, "api.x:443")), "no_permit");
}

#[test]
fn passthrough_needs_and_shows_an_explicit_permit() {
    let set = set(
        r#"@id("pin") @tls("passthrough") permit (principal, action == Callgate::Action::"connect", resource in Callgate::Service::"pinned.x");
           @id("call") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");
           @id("look") @tls("inspect") permit (principal, action == Callgate::Action::"connect", resource == Callgate::Service::"pinned.x:8443");"#,
    );
    let run = Asker::new("run/x");
    let pinned = run.connect(&set, "pinned.x:443").unwrap();
    assert!(pinned.explicit() && pinned.passthrough() && pinned.may_pass_undecoded());
    assert_eq!(pinned.decision().policies, ["pin"]);
    assert_eq!(run.connect(&set, "pinned.x:8443").unwrap().decision().obligations.tls, TlsMode::Inspect);
    assert!(!run.connect(&set, "api.x:443").unwrap().explicit());
    // A permit to connect is none to call.
    assert_eq!(word(&run.call(&set, "GET pinned.x/")), "no_permit");
}

#[test]
fn private_addresses_must_be_named() {
    let any = set(r#"permit (principal, action == Callgate::Action::"call", resource);"#);
    let named =
        set(r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");"#);
    for address in
        ["10.0.0.7:443", "127.0.0.1:443", "169.254.169.254:443", "[::1]:443", "[fe80::1]:443", "[::ffff:10.0.0.1]:443"]
    {
        let run = Asker::new("run/x").at(address);
        assert_eq!(word(&run.connect(&any, "api.x:443")), "address_not_named", "{address}");
        assert_eq!(word(&run.connect(&named, "api.x:443")), "allow", "{address}");
    }
    let mut run = Asker::new("run/x").at("10.0.0.7:443");
    run.declared = true;
    assert_eq!(word(&run.connect(&any, "api.x:443")), "allow");
    assert_eq!(word(&Asker::new("run/x").at("10.0.0.7:443").connect(&named, "10.0.0.7:443")), "no_permit");
}

#[test]
fn a_broad_connect_permit_does_not_borrow_the_name_of_a_call_permit() {
    let set = set(r#"@id("any") permit (principal, action == Callgate::Action::"connect", resource);
           @id("call") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");"#);
    let private = Asker::new("run/x").at("10.0.0.7:443").connect(&set, "api.x:443").unwrap();
    assert!(!private.explicit());
    assert_eq!(private.decision().policies, ["call"]);
    assert!(Asker::new("run/x").connect(&set, "api.x:443").unwrap().explicit());
}

#[test]
fn context_says_address_uid_and_sni() {
    let set = set(
        r#"permit (principal, action == Callgate::Action::"connect", resource == Callgate::Service::"api.x:443")
           when { context.address.isInRange(ip("10.1.0.0/16")) && context.uid == 1000 && context.sni == "api.x" && resource.port == 443 };"#,
    );
    let mut run = Asker::new("run/x").at("10.1.2.3:443");
    assert_eq!(word(&run.connect(&set, "api.x:443")), "no_permit");
    run.sni = "api.x".into();
    assert_eq!(word(&run.connect(&set, "api.x:443")), "allow");
    run.process.uid = 0;
    assert_eq!(word(&run.connect(&set, "api.x:443")), "no_permit");
    let run = Asker { sni: "api.x".into(), ..Asker::new("run/x").at("10.2.2.3:443") };
    assert_eq!(word(&run.connect(&set, "api.x:443")), "no_permit");
}

#[test]
fn observe_mode_permits_and_keeps_the_would_be_denial() {
    let set = set(USERS);
    let mut run = Asker::new("run/x");
    run.workload.mode = Mode::Observe;
    let permit = run.connect(&set, "other.x:443").unwrap();
    assert!(permit.observed() && permit.may_pass_undecoded() && !permit.explicit());
    assert_eq!(permit.decision().reason, Reason::NoPermit);
    let call = run.call(&set, "DELETE api.x/v1/users/7").unwrap();
    assert!(call.observed());
    assert_eq!((call.decision().verdict, call.decision().reason), (Verdict::Deny, Reason::Forbidden));
    let allowed = run.call(&set, "GET api.x/v1/users/7").unwrap();
    assert!(!allowed.observed());
}

#[test]
fn a_connect_permit_is_good_for_its_own_service_alone() {
    let set = set(r#"permit (principal, action == Callgate::Action::"call", resource);"#);
    let mut run = Asker::new("run/x");
    for mode in [Mode::Enforce, Mode::Observe] {
        run.workload.mode = mode;
        let connect = run.connect(&set, "api.x:443").unwrap();
        let ask = |function: &callgate_model::Function| set.decide_call(&run.ask(&connect, function));
        assert_eq!(word(&ask(&run.function("GET api.x/"))), "allow");
        assert_eq!(word(&ask(&run.function("GET other.x/"))), "name_mismatch");
        assert_eq!(word(&ask(&run.function("GET api.x:8443/"))), "name_mismatch");
        let mut plain = run.function("GET api.x/");
        plain.tls = false;
        assert_eq!(word(&ask(&plain)), "name_mismatch");
    }
}

#[test]
fn what_is_asked_fits_the_schema() {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
    let names = Names::new().unwrap();
    for asker in [
        Asker { groups: vec!["g".into()], ..Asker::new("run/x").executable("/bin/a", "00") },
        Asker::new("run/x").on_behalf("ann", &["admins", "ü"]),
        Asker::new("run/x").started_by(&[Some("00"), None], LineageEnd::Entry),
        Asker { tls: false, sni: "ü".into(), ..Asker::new("cgroup/a/b").at("[::1]:80") },
        Asker::new("weird \"id").at("[2606:4700::102:304]:443"),
        Asker::new("x/y").at("[::1.2.3.4]:443"),
    ] {
        let service = "api.x:443".parse().unwrap();
        let subject = Subject::new(&names, &asker.request(&service)).unwrap();
        let function = asker.function("GET api.x:443/a/\"b");
        let (resource, _) = subject.resource(&names, &function);
        let all = ArgumentKind::ALL.map(|kind| Named { kind, pointer: None });
        let maps = names.maps.build(all.iter(), &every_kind()).unwrap();
        let call = subject.call(&names, (&function, &resource), asker.caller.as_ref(), maps).unwrap();
        for (request, entities) in [subject.connect(&names, &service).unwrap(), call] {
            fits(&schema, request, entities);
        }
    }
}

/// A value of each kind.
fn every_kind() -> Arguments {
    let mut arguments = Arguments::new();
    for (pointer, argument) in [
        ("/text", Argument::Text("ü".into())),
        ("/number", Argument::Number { whole: Some(5), decimal: Some(Decimal(50_000)) }),
        ("/least", Argument::Number { whole: Some(i64::MIN), decimal: Some(Decimal(i64::MIN)) }),
        ("/flag", Argument::Flag(true)),
        ("/list", Argument::List(["a".to_owned()].into())),
        ("/none", Argument::List([].into())),
        ("/other", Argument::Other),
    ] {
        arguments.insert(pointer.into(), argument).unwrap();
    }
    arguments
}

fn fits(schema: &Schema, request: Request, entities: Entities) {
    let (principal, action, resource) = (request.principal(), request.action(), request.resource());
    let context = request.context().unwrap().clone();
    Request::new(principal.unwrap().clone(), action.unwrap().clone(), resource.unwrap().clone(), context, Some(schema))
        .unwrap();
    Entities::from_entities(entities, Some(schema)).unwrap();
}

#[test]
fn what_is_remembered_of_a_connection_is_what_would_be_decided_anew() {
    let rules = set(
        r#"@id("get") @mask("email") permit (principal, action == Callgate::Action::"call", resource) when { resource.method == "GET" };
           @id("limit") forbid (principal, action == Callgate::Action::"call", resource == Callgate::Function::"http:GET api.x/limited")
           unless { context.arguments.number.hasTag("/n") && context.arguments.number.getTag("/n") < 2 };
           @id("ann") forbid (principal, action == Callgate::Action::"call", resource)
           when { context has caller && context.caller.sub == "eve" };"#,
    );
    let other = set(
        r#"@id("post") permit (principal, action == Callgate::Action::"call", resource) when { resource.method == "POST" };"#,
    );
    let anyone = Asker::new("run/x");
    let connect = anyone.connect(&rules, "api.x:443").unwrap();
    let ask = |set: &PolicySet, asker: &Asker, call: &str| {
        let function = asker.function(call);
        word(&set.decide_call(&asker.ask(&connect, &function)))
    };
    let number = |n: i64| {
        let mut arguments = Arguments::new();
        arguments.insert("/n".into(), Argument::Number { whole: Some(n), decimal: None }).unwrap();
        Asker::new("run/x").sending(Ok(arguments))
    };
    // Three rounds, and more functions than are kept: first asked, then remembered, then forgotten and asked again.
    for round in 0..3 {
        for path in 0..12 {
            let function = anyone.function(&format!("GET api.x/{path}"));
            assert!(!rules.wants_arguments(&connect, &function));
            for _ in 0..2 {
                let permit = rules.decide_call(&anyone.ask(&connect, &function)).unwrap();
                assert_eq!((permit.decision().policies.join(","), permit.function()), ("get".to_owned(), &function));
                assert_eq!(permit.decision().obligations.mask.kinds(), MaskKinds(1));
            }
            assert_eq!(ask(&rules, &anyone, &format!("POST api.x/{path}")), "no_permit", "{round}");
            assert_eq!(ask(&other, &anyone, &format!("POST api.x/{path}")), "allow", "{round}");
            assert_eq!(ask(&other, &anyone, &format!("GET api.x/{path}")), "no_permit", "{round}");
            // More callers than are kept, too.
            for caller in ["eve", "ann", "eve", "bob", "cem", "dan", "fay", "eve", "eve", "ann"] {
                let asker = Asker::new("run/x").on_behalf(caller, &[]);
                let expected = if caller == "eve" { "forbidden" } else { "allow" };
                assert_eq!(ask(&rules, &asker, &format!("GET api.x/{path}")), expected, "{round} {caller}");
            }
        }
        // Arguments are looked at each time.
        assert_eq!(ask(&rules, &number(1), "GET api.x/limited"), "allow", "{round}");
        assert_eq!(ask(&rules, &number(2), "GET api.x/limited"), "forbidden", "{round}");
        assert!(rules.wants_arguments(&connect, &anyone.function("GET api.x/limited")));
    }
}

#[test]
fn what_the_clusters_api_says_of_a_pod_is_the_principals() {
    let set = set(r#"
        @id("shop") permit (principal in Callgate::Namespace::"shop", action == Callgate::Action::"call", resource in Callgate::Service::"namespace.x");
        @id("web") permit (principal in Callgate::ServiceAccount::"shop/web", action == Callgate::Action::"call", resource in Callgate::Service::"account.x");
        @id("pci") permit (principal in Callgate::Group::"pci", action == Callgate::Action::"call", resource in Callgate::Service::"group.x");
        @id("app") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"label.x")
        when { principal.hasTag("app") && principal.getTag("app") == "front" };
        @id("image") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"image.x")
        when { principal.image like "shop/web:*" && principal.container == "main" && principal.pod == "web-0" &&
               principal.namespace == "shop" && principal.service_account == "web" };
    "#);
    let mut asker = Asker::new("k8s/shop/web");
    let services = ["namespace.x", "account.x", "group.x", "label.x", "image.x"];
    let words = |asker: &Asker| {
        services.map(|service| match word(&asker.connect(&set, &format!("{service}:443"))) {
            "allow" => word(&asker.call(&set, &format!("GET {service}/"))),
            refused => refused,
        })
    };
    // The API is away: namespace and service account are of the workload's id, the others are not known.
    assert_eq!(words(&asker), ["allow", "allow", "no_permit", "no_permit", "no_permit"]);
    assert_eq!(words(&Asker::new("cgroup/shop/web")), ["no_permit"; 5]);
    asker.process.placement.pod = Some(Pod {
        namespace: "shop".into(),
        name: "web-0".into(),
        service_account: "web".into(),
        container: "main".into(),
        image: "shop/web:7".into(),
        group: "pci".into(),
        labels: [("app".to_owned(), "front".to_owned())].into(),
    });
    assert_eq!(words(&asker), ["allow"; 5]);
    let mut other = Asker::new("k8s/shop2/web");
    other.process.placement.pod = Some(Pod { namespace: "shop2".into(), ..Pod::default() });
    assert_eq!(words(&other), ["no_permit"; 5]);
}
