//! From what was seen and heard to a verdict.

use anyhow::Result;

use super::attempt::{Outcome, Side, attempt};
use super::outcome::{Row, Verdict, errno_name};
use super::scene::Scene;
use crate::order::Answer;
use crate::outside::is_outside;
use crate::vector::{Agent, Family, Vector, Way};

/// How often an attempt is repeated that met a stale heartbeat.
const RETRIES: usize = 5;
/// The signal that ends a process for good.
const SIGKILL: i32 = 9;

/// Tries `vector` outside and inside, and judges.
///
/// # Errors
/// When the scene falls apart.
pub fn row(scene: &mut Scene, vector: &Vector, way: Way, family: Family, phase: &str) -> Result<Row> {
    let outside = attempt(scene, vector, outside_as(way), family, Side::Outside)?;
    // What this user may nowhere do must be possible at all, or there is nothing to be stopped.
    let unprivileged = !outside.through;
    let control = if unprivileged { attempt(scene, vector, Way::Full, family, Side::Outside)? } else { outside };
    let row = |verdict, detail: String, outcome: &Outcome| Row {
        vector: vector.name.into(),
        way,
        family,
        phase: phase.into(),
        verdict,
        detail,
        unprivileged,
        latency_us: outcome.seen.latency_us,
        nonce: outcome.nonce.clone(),
    };
    if !control.through {
        return Ok(row(Verdict::NotHere, told(&control.seen.answer), &control));
    }
    let mut inside = attempt(scene, vector, way, family, Side::Inside)?;
    for _ in 0..RETRIES {
        // A machine that had no time for the agent's heartbeat: that refusal says nothing of the vector.
        let stale = inside.seen.answer == Answer::Errno(libc::EHOSTUNREACH) && !inside.through;
        if !(stale && phase.is_empty() && vector.agent == Agent::Alive) {
            break;
        }
        inside = attempt(scene, vector, way, family, Side::Inside)?;
    }
    let detail = match vector.agent {
        // How far the agent was with its end is another thing each time.
        Agent::Attacked => "refused or cut off".into(),
        _ => told(&inside.seen.answer),
    };
    let through = if is_outside(vector.name, way) { Verdict::Outside } else { Verdict::Reached };
    let judged = match (inside.through, &inside.seen.answer) {
        (true, answer) if vector.delegated => {
            let cut = matches!(answer, Answer::Errno(_) | Answer::Killed(_));
            let detail = match answer {
                Answer::Sent => "not cut".into(),
                _ if cut => format!("cut by {detail}"),
                _ => detail,
            };
            row(Verdict::Delegated, detail, &inside)
        }
        (true, Answer::Sent) => row(through, String::new(), &inside),
        (true, _) => row(through, detail, &inside),
        (false, Answer::Gate) => row(Verdict::Proxied, String::new(), &inside),
        (false, _) => row(Verdict::Stopped, detail, &inside),
    };
    Ok(judged)
}

/// Under `run` the control is the same user without it.
fn outside_as(way: Way) -> Way {
    match way {
        Way::Run => Way::User,
        Way::RunRoot => Way::Root,
        other => other,
    }
}

/// In words that do not change from run to run.
fn told(answer: &Answer) -> String {
    match answer {
        Answer::Sent => "nothing arrived".into(),
        Answer::Gate => "the gate answered".into(),
        Answer::Breached(what) | Answer::Absent(what) => what.clone(),
        Answer::Errno(errno) => errno_name(*errno),
        Answer::Failed(what) => what.clone(),
        Answer::Killed(SIGKILL) => "killed".into(),
        Answer::Killed(signal) => format!("killed by signal {signal}"),
    }
}
