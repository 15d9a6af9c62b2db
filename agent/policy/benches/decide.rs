//! What a decision costs with 10,000 policies: the whole of it, request building included, and Cedar's part.
//!
//! Policies of a large node: one service in three has a masked read, a write for one workload and a limit on an
//! argument; ten forbids look at every call.

use std::fmt::Write as _;
use std::hint::black_box;

use callgate_model::{
    Argument, Arguments, ArgumentsState, CallId, Caller, CgroupId, ConnectionId, Decimal, Executable, FailMode,
    Function, Lineage, MaskKinds, Mode, Placement, Process, Protocol, Service, Workload,
};
use callgate_policy::{CallRequest, ConnectPermit, ConnectRequest, PolicySet};
use criterion::{Criterion, criterion_group, criterion_main};

/// Policies in the set.
const POLICIES: usize = 10_000;

fn policies() -> PolicySet {
    let mut text = String::new();
    for n in 0..10 {
        let _ = writeln!(
            text,
            r#"@id("f{n}") forbid (principal, action == Callgate::Action::"call", resource) when {{ resource.path like "/admin{n}/*" }};"#
        );
    }
    for n in 0..(POLICIES - 10) / 3 + 1 {
        let _ = writeln!(
            text,
            r#"@id("r{n}") @mask("pii") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"s{n}.x")
               when {{ resource.method == "GET" && resource.path like "/v1/users/*" && resource.segments == 3 }};
               @id("w{n}") permit (principal == Callgate::Workload::"run/x", action == Callgate::Action::"call", resource in Callgate::Service::"s{n}.x")
               when {{ resource.method == "POST" && context has executable && context.executable.sha256 == "{sha256}" }};
               @id("l{n}") forbid (principal, action == Callgate::Action::"call", resource == Callgate::Function::"http:POST s{n}.x/v1/refunds")
               unless {{ (context has caller && context.caller.groups.contains("admins")) || (context.arguments.number.hasTag("/amount") && context.arguments.number.getTag("/amount") <= 1000) }};"#,
            sha256 = "a".repeat(64),
        );
    }
    let kinds = |word: &str| (word == "pii").then_some(MaskKinds(1));
    // Files of at most 4 MiB.
    let half = text.len() / 2;
    let at = text.get(half..).and_then(|rest| rest.find(";\n")).map_or(text.len(), |at| half + at + 2);
    let (first, second) = text.split_at(at);
    let files = [("a.cedar".to_owned(), first.to_owned()), ("b.cedar".to_owned(), second.to_owned())];
    match PolicySet::parse(&files, kinds) {
        Ok((set, _)) => set,
        Err(errors) => panic!("{errors}"),
    }
}

fn connect(set: &PolicySet) -> ConnectPermit {
    let workload = Workload {
        id: "run/x".into(),
        cgroup: CgroupId(7),
        cgroup_path: "callgate/run-1".into(),
        mode: Mode::Enforce,
        fail: FailMode::Closed,
        session: None,
        weakened: Vec::new(),
    };
    let executable = Executable { path: "/bin/x".into(), device: 1, inode: 1, sha256: "a".repeat(64) };
    let request = ConnectRequest {
        connection: ConnectionId::new(),
        workload: &workload,
        groups: &["ci".to_owned(), "build".to_owned()],
        process: &Process {
            pid: 1,
            start_time: 1,
            uid: 1000,
            gid: 1000,
            executable: Some(executable),
            lineage: Lineage::default(),
            placement: Placement::default(),
        },
        service: &Service::new("s500.x", 443).expect("a service"),
        destination: ([203, 0, 113, 1], 443).into(),
        address_declared: false,
        tls: true,
        sni: "s500.x",
    };
    match set.decide_connect(&request) {
        Ok(permit) => permit,
        Err(decision) => panic!("{decision:?}"),
    }
}

fn function(method: &str, path: &str) -> Function {
    let service = Service::new("s500.x", 443).expect("a service");
    Function { protocol: Protocol::Http, service, tls: true, method: method.into(), path: path.into() }
}

fn decide(c: &mut Criterion) {
    let set = policies();
    println!("{} policies", set.len());
    let connect = connect(&set);
    let caller = Caller { sub: "ann".into(), iss: "https://id.x".into(), groups: vec!["a".into(), "b".into()] };
    let mut arguments = Arguments::new();
    let amount = Argument::Number { whole: Some(10), decimal: Some(Decimal(100_000)) };
    arguments.insert("/amount".into(), amount).expect("one argument");
    let arguments = ArgumentsState::Complete(arguments);
    let (read, refund) = (function("GET", "/v1/users/7"), function("POST", "/v1/refunds"));

    let mut group = c.benchmark_group("decide_call");
    for (name, function, caller, arguments) in [
        ("refund on behalf, with arguments", &refund, Some(&caller), &arguments),
        ("read again", &read, None, &ArgumentsState::NotRead),
        ("read on behalf again", &read, Some(&caller), &ArgumentsState::NotRead),
    ] {
        let request = CallRequest { connect: &connect, call: CallId::new(), function, caller, arguments };
        assert!(set.decide_call(&request).is_ok(), "{name} is allowed");
        group.bench_function(name, |b| b.iter(|| set.decide_call(black_box(&request)).is_ok()));
    }
    // More of them than a connection remembers.
    let reads: Vec<Function> = (0..64).map(|number| function("GET", &format!("/v1/users/{number}"))).collect();
    for (name, caller) in [("read", None), ("read on behalf", Some(&caller))] {
        let mut turn = reads.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                let Some(function) = turn.next() else { return false };
                let arguments = &ArgumentsState::NotRead;
                set.decide_call(&CallRequest { connect: &connect, call: CallId::new(), function, caller, arguments })
                    .is_ok()
            });
        });
    }
    group.finish();
    c.bench_function("wants_arguments", |b| b.iter(|| set.wants_arguments(&connect, black_box(&refund))));
}

criterion_group!(benches, decide);
criterion_main!(benches);
