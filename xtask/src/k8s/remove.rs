//! Callgate is removed as its notes say, and nothing is left on a node.

use anyhow::{Context as _, Result, ensure};

use super::pods::{DENIED, Pods};
use super::{Site, Step, pod};

pub const STEP: Step = Step { name: "remove the chart", run };

fn run(site: &Site<'_>) -> Result<String> {
    // What strict mode has left in the kernel goes with the next agent that is not told so.
    site.release.apply(&[])?;
    let pods = Pods::start(site)?;
    pods.label("client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    site.release.remove()?;
    pods.expect("client", DENIED, "answered").context("after everything was removed")?;
    for left in pod::on_every_node(site, "left", &["/usr/bin/callgate", "uninstall", "--dry-run"])? {
        // The folder is a mount point of this very pod.
        let things = left.lines().filter(|line| line.contains("would remove") && !line.contains("`/run/callgate`"));
        ensure!(things.count() == 0, "it is left on a node: {left}");
    }
    Ok("nothing is left on a node".into())
}
