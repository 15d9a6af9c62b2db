//! Many connections: none is ever taken for another, and nothing is left of them.

use anyhow::{Result, ensure};
use callgate_model::Mode;

use crate::Case;
use crate::world::{World, nothing_pending};

pub const CASES: &[Case] = &[("destinations_are_never_swapped", destinations_are_never_swapped)];

/// Connections, from 8 threads to two destinations in turn. The long count takes minutes.
fn connections() -> u64 {
    if callgate_harness::counts::is_full() { 1_000_000 } else { 20_000 }
}

fn destinations_are_never_swapped() -> Result<()> {
    let (world, mut client) = World::enrolled(Mode::Enforce)?;
    let rounds = connections() / 20_000;
    for _ in 0..rounds {
        let line = client.ok("churn 20000 8 198.51.100.1:80 [2001:db8::2]:443")?;
        ensure!(line.starts_with("0 wrong"), "{line}");
    }
    let stats = world.redirect.stats();
    ensure!(stats.redirected == rounds * 20_000, "{stats:?}");
    ensure!(stats.contested == 0 && stats.refused.iter().all(|(_, count)| *count == 0), "{stats:?}");
    nothing_pending(&world.redirect)
}
