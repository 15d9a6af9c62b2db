//! Sets the scene, has every vector tried, and judges.
//!
//! Order of one row: outside the enrolled cgroup as the same user, then (where that reached nothing) outside with all
//! capabilities, then inside. What reaches nothing outside either is `not in this kernel`, never `stopped`.

pub mod addresses;
pub mod attempt;
pub mod document;
pub mod ear;
pub mod full;
pub mod helpers;
pub mod judge;
pub mod outcome;
pub mod run;
pub mod scene;
pub mod starters;
pub mod table;

use anyhow::Result;

use crate::vector::{Agent, Family, Vector, Way};
use crate::vectors;
pub use outcome::{Row, Verdict};
use scene::Scene;

/// What is to be examined.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only vectors with one of these, apart by commas, in their name.
    pub filter: Option<String>,
    /// Under load, and while the agent is killed, stopped and restarted, too.
    pub full: bool,
}

impl Wanted {
    fn wants(&self, vector: &Vector) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.split(',').any(|word| vector.name.contains(word)))
    }
}

/// Examines everything; `tell` hears each row as it comes.
///
/// # Errors
/// When the scene cannot be set, or falls apart.
pub fn examine(wanted: &Wanted, tell: &mut dyn FnMut(&Row)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let vectors: Vec<&Vector> = vectors::all().filter(|vector| wanted.wants(vector)).collect();
    let has = |run: bool| vectors.iter().any(|vector| vector.ways.iter().any(|way| way.is_run() == run));
    if has(false) {
        let mut scene = Scene::with_agent()?;
        scene.is_alive()?;
        pass(&mut scene, "", &vectors, &|way| !way.is_run(), &mut rows, tell)?;
        scene.is_alive()?;
        if wanted.full {
            full::passes(&mut scene, &vectors, &mut rows, tell)?;
        }
        scene.recorded(&rows)?;
    }
    if has(true) {
        for way in [Way::Run, Way::RunRoot] {
            let mut scene = Scene::under_run(way)?;
            pass(&mut scene, "", &vectors, &|tried| tried == way, &mut rows, tell)?;
        }
    }
    rows.sort_by_key(|row| (row.phase.clone(), vectors::position(&row.vector), row.way, row.family));
    Ok(rows)
}

/// Every wanted vector once, by the ways that `by` says.
fn pass(
    scene: &mut Scene,
    phase: &str,
    vectors: &[&Vector],
    by: &dyn Fn(Way) -> bool,
    rows: &mut Vec<Row>,
    tell: &mut dyn FnMut(&Row),
) -> Result<()> {
    let has_v6 = scene.has_v6();
    for vector in vectors {
        for way in vector.ways.iter().copied().filter(|way| by(*way)) {
            for family in vector.families.iter().copied().filter(|family| *family != Family::V6 || has_v6) {
                let row = judge::row(scene, vector, way, family, phase)?;
                tell(&row);
                rows.push(row);
            }
        }
    }
    Ok(())
}

/// Those that can be tried while something else happens to the agent.
fn steady<'a>(vectors: &[&'a Vector]) -> Vec<&'a Vector> {
    vectors.iter().copied().filter(|vector| vector.agent == Agent::Alive && !vector.before && !vector.fresh).collect()
}
