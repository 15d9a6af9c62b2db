//! One attempt: an order, a process, and what was heard.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use callgate_harness::Running;
use rustix::process::Signal;

use super::scene::{SOON, Scene, helper};
use crate::hostile;
use crate::order::{Answer, Order, Seen};
use crate::vector::{Agent, Family, Proof, Vector, Way};

/// Longest time of one attempt. Source: several times the hostile program's own patience with one call.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the heartbeat of a site may be old (`stale_after_ms` of the e2e site is 1000).
const STALE: Duration = Duration::from_millis(1500);

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// As the hostile program tells it.
    pub seen: Seen,
    /// Whether something got through.
    pub through: bool,
    /// What identified it.
    pub nonce: String,
}

/// Where an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In a cgroup that nobody enrolled.
    Outside,
    /// In the enrolled one.
    Inside,
}

/// Tries `vector` once.
///
/// # Errors
/// When the scene falls apart; a vector that fails is no error.
pub fn attempt(scene: &mut Scene, vector: &Vector, way: Way, family: Family, side: Side) -> Result<Outcome> {
    let inside = side == Side::Inside;
    let by_agent = scene.session.is_none();
    let own = by_agent && (vector.before || vector.fresh);
    let enrolled = match own {
        true => scene.fresh(&format!("own-{}-{}", vector.name, scene.attempts()))?,
        false => scene.enrolled(inside)?,
    };
    if own && vector.fresh {
        scene.enrol(&enrolled)?;
    }
    let born = if inside || (vector.before && own) { enrolled.clone() } else { scene.free().to_owned() };
    let attacked = if own || inside || !by_agent { &enrolled } else { &born };
    let mut order = scene.order(vector, way, family, attacked, inside)?;
    if !inside {
        order.cgroup = born.clone();
    }
    let keep = vector.connected.then(|| order.canary());
    order.helper = Some(helper(scene, way, keep)?);
    if inside {
        prepare_agent(scene, vector.agent)?;
    }
    scene.ear.settle()?;
    scene.ear.forget();
    let seen = match (&mut scene.session, inside) {
        (Some(session), true) => session.attempt(&order)?,
        _ => started(scene, vector, &order, &born, (inside && vector.before).then_some(&enrolled))?,
    };
    scene.ear.settle()?;
    let through = through(scene, vector, &order, &seen);
    if inside && vector.agent != Agent::Alive {
        scene.revive()?;
    }
    Ok(Outcome { seen, through, nonce: order.nonce })
}

fn through(scene: &Scene, vector: &Vector, order: &Order, seen: &Seen) -> bool {
    let breached = matches!(seen.answer, Answer::Breached(_));
    let said = scene.ear.frames_with(&order.nonce) > 0;
    let addressed = scene.ear.frames_to(order.to) > 0;
    match vector.proof {
        Proof::Itself => breached || said,
        Proof::Nonce => breached || said,
        Proof::Address => breached || said || addressed,
    }
}

fn prepare_agent(scene: &mut Scene, agent: Agent) -> Result<()> {
    match agent {
        Agent::Alive | Agent::Attacked => {}
        Agent::Killed => scene.site.kill_agent()?,
        Agent::Stopped => {
            scene.site.agent()?.signal(Signal::STOP)?;
            std::thread::sleep(STALE); // tidy: the time without a heartbeat is what is tested
        }
    }
    Ok(())
}

/// A process of its own; `enrol` is what is enrolled once it is prepared.
fn started(scene: &Scene, vector: &Vector, order: &Order, born: &Path, enrol: Option<&PathBuf>) -> Result<Seen> {
    let mut running: Running = scene.start(born, &["attempt", &serde_json::to_string(order)?])?;
    if vector.before {
        // One that cannot prepare itself says so, and ends.
        let prepared = running.line(SOON, |line| line == "prepared" || line.starts_with('{'))?;
        if prepared == "prepared" {
            if let Some(cgroup) = enrol {
                scene.enrol(cgroup)?;
            }
            // One that was ended at the enrolment reads nothing any more: its status says so below.
            let _ended = running.write("\n");
        }
    }
    running.close_stdin();
    let status = running.wait(PATIENCE).with_context(|| format!("vector `{}`", vector.name))?;
    let seen = running.line(Duration::from_secs(1), |line| line.starts_with('{')).unwrap_or_default();
    match hostile::answer(status, &seen, &running.stderr()) {
        Ok(seen) => Ok(seen),
        // One that could not even begin was stopped by nothing.
        Err(Answer::Failed(why)) => bail!("vector `{}` as {}: {why}", vector.name, order.way.name()),
        Err(answer) => Ok(Seen { answer, latency_us: 0 }),
    }
}
