//! What a change costs: the compilation of 1,000 and 10,000 policies of 100 namespaces, from nothing, and after one
//! object has changed.

use std::fmt::Write as _;
use std::hint::black_box;

use callgate_model::MaskKinds;
use callgate_policy::{Compiler, Offer, Origin, PolicySet, PolicyText};
use criterion::{Criterion, criterion_group, criterion_main};

/// Namespaces of the cluster.
const NAMESPACES: usize = 100;
/// Policies in an object.
const IN_OBJECT: usize = 10;

fn object(namespace: usize, number: usize, change: usize) -> Offer {
    let mut cedar = format!("// {change}\n");
    for n in 0..IN_OBJECT {
        let service = format!("s{}.x", number * IN_OBJECT + n);
        let _ = match n % 3 {
            0 => writeln!(
                cedar,
                r#"@id("r{n}") @mask("pii") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"{service}")
                   when {{ resource.method == "GET" && resource.path like "/v1/users/*" && resource.segments == 3 }};"#
            ),
            1 => writeln!(
                cedar,
                r#"@id("w{n}") permit (principal in Callgate::ServiceAccount::"n{namespace}/web", action == Callgate::Action::"call", resource in Callgate::Service::"{service}")
                   when {{ resource.method == "POST" && context has executable && context.executable.sha256 == "{}" }};"#,
                "a".repeat(64)
            ),
            _ => writeln!(
                cedar,
                r#"@id("l{n}") forbid (principal, action == Callgate::Action::"call", resource == Callgate::Function::"http:POST {service}/v1/refunds")
                   unless {{ context.arguments.number.hasTag("/amount") && context.arguments.number.getTag("/amount") <= 1000 }};"#
            ),
        };
    }
    let origin = Origin::Namespace { namespace: format!("n{namespace}"), name: format!("o{number}") };
    Offer::of(PolicyText::object(origin, &cedar))
}

fn compile(c: &mut Criterion) {
    let kinds = |word: &str| (word == "pii").then_some(MaskKinds(1));
    for policies in [1_000, 10_000] {
        let objects = policies / IN_OBJECT;
        let mut offers: Vec<Offer> = (0..objects).map(|n| object(n % NAMESPACES, n / NAMESPACES, 0)).collect();
        let mut group = c.benchmark_group(format!("{policies} policies"));
        group.sample_size(10);
        group.bench_function("from nothing", |b| {
            b.iter(|| PolicySet::compile(black_box(&offers), kinds).is_ok_and(|made| made.set.len() == policies))
        });
        let Ok(mut compiler) = Compiler::new(kinds) else { panic!("the built-in schema does not load") };
        assert!(compiler.compile(&offers).is_ok_and(|made| made.refused.is_empty()));
        let mut change = 0;
        group.bench_function("one object changed", |b| {
            b.iter(|| {
                change += 1;
                if let Some(first) = offers.first_mut() {
                    *first = object(0, 0, change);
                }
                compiler.compile(black_box(&offers)).is_ok_and(|made| made.set.len() == policies)
            })
        });
    }
}

criterion_group!(benches, compile);
criterion_main!(benches);
