//! Callgate is removed as its notes say, and nothing is left on a node.

use anyhow::{Context as _, Result, ensure};

use super::pods::{DENIED, Pods};
use super::{Site, Step, pod};

pub const STEP: Step = Step { name: "remove the chart", run };

fn run(site: &Site<'_>) -> Result<String> {
    let pods = Pods::start(site)?;
    pods.label("pod", "client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;
    site.release.remove()?;
    pods.expect("client", DENIED, "answered").context("after everything was removed")?;
    let left = pod::run(site, "left", &["/usr/bin/callgate", "uninstall", "--dry-run"])?;
    // The folder is a mount point of this very pod.
    let things = left.lines().filter(|line| line.contains("would remove") && !line.contains("`/run/callgate`"));
    ensure!(things.count() == 0, "it is left on the node: {left}");
    Ok("nothing is left on the node".into())
}
