//! Throughput of the masker with every kind on, in 64 KiB pieces as the relay pushes them.

use std::hint::black_box;

use callgate_mask::{Content, Masker, kinds_named};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The relay's buffer. Unit: bytes.
const PIECE: usize = 64 * 1024;

/// Bytes per run: more than the caches nearest to the core hold.
const LENGTH: usize = 4 << 20;

/// Prose without a digit or an anchor.
const CLEAN: &str = "Enforcement is in the kernel, fails closed, and survives the death of the agent; \
nothing that is recorded can be altered unnoticed, and whoever calls is known.\n";

/// An answer of an ordinary API: ids, times, amounts, no finding.
const JSON: &str = r#"{"id":48151623,"created_at":"2026-11-22T17:56:04.218Z","status":"shipped","total":129.90,"currency":"EUR","tags":["gift","priority"],"customer":{"id":"cus_9f8e7d6c5b","name":"Ada Example","city":"Zurich","zip":"8001"},"lines":[{"sku":"A-1029","qty":2,"price":39.95},{"sku":"B-7731","qty":1,"price":50.00}],"trace":"4bf92f3577b34da6a3ce929d0e0e4736","etag":"W/\"33a64df551425fcc55e4d42a148795d9\""},"#;

/// A finding in every line.
const DENSE: &str = r#"{"user":"ann.example@mail.example.com","card":"4111 1111 1111 1111","n":378282246310005,"key":"AKIAIOSFODNN7EXAMPLE","when":"2026-11-22T17:56:04Z"},
{"user":"bob@example.org","auth":"Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c","note":"nothing here"},
"#;

/// An answer whose every character beyond ASCII and every slash is escaped, as some writers do.
const ESCAPED: &str = r#"{"id":48151623,"name":"J\u00f6rg M\u00fcller","url":"https:\/\/shop.example\/orders\/48151623","note":"Gr\u00fc\u00dfe aus Z\u00fcrich, bis bald"},"#;

/// Base64 of text without findings, as in attachments.
const BASE64: &str =
    "RW5mb3JjZW1lbnQgaXMgaW4gdGhlIGtlcm5lbCwgZmFpbHMgY2xvc2VkLCBhbmQgc3Vydml2ZXMgdGhlIGRlYXRoIG9mIHRoZSBhZ2Vu";

fn repeated(unit: &str) -> Vec<u8> {
    unit.bytes().cycle().take(LENGTH).collect()
}

fn run(kinds: &str, text: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut masker = Masker::new(kinds_named(kinds).unwrap_or_default(), Content::Json);
    for piece in text.chunks(PIECE) {
        out.clear();
        masker.push(black_box(piece), out).unwrap_or_default();
        black_box(&out);
    }
    masker.finish(out).unwrap_or_default();
    masker.findings()
}

fn throughput(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    group.throughput(Throughput::Bytes(LENGTH as u64)).sample_size(20);
    let mut out = Vec::with_capacity(2 * PIECE);
    for (name, text) in [
        ("clean", repeated(CLEAN)),
        ("json", repeated(JSON)),
        ("dense", repeated(DENSE)),
        ("escaped", repeated(ESCAPED)),
        ("base64", repeated(BASE64)),
    ] {
        for kinds in ["all", "email", "secrets"] {
            group.bench_with_input(BenchmarkId::new(name, kinds), &text, |b, text| {
                b.iter(|| run(kinds, text, &mut out));
            });
        }
    }
    group.finish();
}

/// Text made to keep the masker busy: anchors without end, none of them a finding.
fn hostile(c: &mut Criterion) {
    let mut group = c.benchmark_group("hostile");
    group.throughput(Throughput::Bytes(LENGTH as u64)).sample_size(10);
    let mut out = Vec::with_capacity(2 * PIECE);
    let tokens = format!("{}.", "eyJhbGciOi".repeat(400));
    let names = format!("secret_access_key={}", " ".repeat(31));
    for (name, unit) in [
        ("eyJ", "eyJ"),
        ("token headers", tokens.as_str()),
        ("groups", "4111 "),
        ("at signs", "a.b@"),
        ("per cent", "%40"),
        ("dashes", "-----BEGIN "),
        ("names", names.as_str()),
    ] {
        let text = repeated(unit);
        group.bench_with_input(BenchmarkId::from_parameter(name), &text, |b, text| {
            b.iter(|| run("all", text, &mut out))
        });
    }
    group.finish();
}

/// What a short header costs, with the masker made anew.
fn short(c: &mut Criterion) {
    let kinds = kinds_named("all").unwrap_or_default();
    c.bench_function("mask_text/short", |b| {
        b.iter(|| {
            callgate_mask::mask_text(kinds, black_box("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")).len()
        });
    });
}

criterion_group!(benches, throughput, hostile, short);
criterion_main!(benches);
