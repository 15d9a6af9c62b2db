//! How fast the store is: a measurement, run by hand.

use callgate_model::{CallId, Reason, Verdict};

use super::testing::{NOON, Sealer, call};
use super::tests::{find, text};
use super::{Filter, Kind, Store};

/// Prints the rate. Run with: cargo test --release -p callgate-collector ingest_rate -- --ignored --nocapture
#[test]
#[ignore = "a measurement, not a check"]
fn ingest_rate() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut sealer = Sealer::new("n/agent");
    let total = 102_400_usize;
    // Half a KiB of words from a vocabulary of 20,000, and an id that occurs nowhere else.
    let mut random = 1_u64;
    let mut word = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("w{:x} ", (random >> 33) % 20_000)
    };
    let records: Vec<_> = (0..total as u64 / 3)
        .flat_map(|n| {
            let body =
                format!("{{\"id\":\"order-{n}\",\"text\":\"alice {}\"}}", (0..80).map(|_| word()).collect::<String>());
            call(NOON + n * 50, CallId::new(), &format!("/v1/users/{}", n % 5_000), &body)
        })
        .collect();
    let sealed = sealer.all(records);
    let start = std::time::Instant::now();
    for batch in sealed.chunks(1_024) {
        store.ingest(batch).unwrap();
    }
    let rate = sealed.len() as f64 / start.elapsed().as_secs_f64();
    println!("ingest: {rate:.0} records/s over {} records", sealed.len());
    let measure = |what: &str, act: &mut dyn FnMut() -> usize| {
        let start = std::time::Instant::now();
        let count = act();
        println!("{what}: {:?} for {count}", start.elapsed());
    };
    measure("verify", &mut || store.verify(None, None).unwrap().streams[0].records as usize);
    measure("text, common", &mut || find(&store, text("alice")).len());
    measure("text, rare", &mut || find(&store, text("nothing")).len());
    let begins = |filter: Filter| Filter { kinds: vec![Kind::Begin], ..filter };
    measure("function", &mut || {
        find(&store, begins(Filter { function: Some("users/4999".into()), ..Default::default() })).len()
    });
    measure("workload", &mut || {
        find(&store, begins(Filter { workload: Some("build".into()), ..Default::default() })).len()
    });
    measure("denied", &mut || {
        find(&store, begins(Filter { verdict: Some(Verdict::Deny), ..Default::default() })).len()
    });
    measure("reason", &mut || {
        find(&store, begins(Filter { reason: Some(Reason::NoPermit), ..Default::default() })).len()
    });
}
