//! What an alarm says of policies that were not taken: what is closed first, for it stops calls that went out before.

use callgate_policy::{Closed, LoadErrors, Refused, Rule};

/// Most errors told of one set.
const ERRORS_TOLD: usize = 5;

/// What is wrong with the objects of a cluster, and what of each is in force.
pub fn broken(refused: &[Refused], closed: &[Closed]) -> String {
    let closed = closed.iter().map(|closed| match &closed.over {
        Some(why) => format!("{closed} ({why}): {}", closed.meaning()),
        None => format!("{closed}: {}", closed.meaning()),
    });
    // That of a namespace that is over its bound nothing is taken is told once.
    let single = refused.iter().filter(|refused| refused.errors.errors().all(|error| error.rule != Rule::OverBound));
    let single = single.map(|refused| {
        let first = refused.errors.errors().next().map(ToString::to_string).unwrap_or_default();
        let stays = if refused.stands_in { "what was in force of it stays" } else { "nothing of it is in force" };
        format!("{first}: {stays}")
    });
    some(closed.chain(single).collect())
}

/// What is wrong with a directory.
pub fn summary(errors: &LoadErrors) -> String {
    some(errors.errors().map(ToString::to_string).collect())
}

fn some(all: Vec<String>) -> String {
    let told = all.iter().take(ERRORS_TOLD).cloned().collect::<Vec<_>>().join("; ");
    match all.len().checked_sub(ERRORS_TOLD) {
        None | Some(0) => told,
        Some(more) => format!("{told}; and {more} more"),
    }
}
