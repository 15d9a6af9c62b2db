//! `k8s`: Callgate in a real Kubernetes: finds or makes a cluster, brings the images there, and goes through the steps.
//!
//! Where no cluster can be had it fails: nothing passes unseen. A new step is a file of `k8s/` and a line in [`STEPS`].

mod clients;
mod cluster;
mod doctor;
mod install;
mod labels;
mod languages;
mod lax;
mod names;
mod pod;
mod pods;
mod policies;
mod release;
mod remove;
mod strict;
mod taint;
mod tokens;
mod trust;
mod upgrade;
mod version;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::chart::Renderer;
use crate::image::{self, Profile};
use crate::steps::Steps;
use crate::{paths, setup};
use clients::Clients;
use cluster::Cluster;
use release::Release;

/// What is done in the cluster, in this order.
const STEPS: &[Step] = &[
    version::STEP,
    doctor::STEP,
    install::STEP,
    labels::STEP,
    policies::STEP,
    names::STEP,
    trust::STEP,
    tokens::STEP,
    lax::STEP,
    upgrade::STEP,
    taint::STEP,
    strict::STEP,
    remove::STEP,
];

/// One of them.
struct Step {
    name: &'static str,
    /// Gives the note beside its time.
    run: fn(&Site<'_>) -> Result<String>,
}

/// Everything of ours in a cluster is in it; it goes at the end.
const NAMESPACE: &str = "callgate-xtask";

/// Longest wait for the end of what was deleted. Source: where kubelet sees a pod's end before it has killed it, it looks
/// again after a minute.
const GONE_WITHIN: &str = "--timeout=180s";

/// Options of `cargo xtask k8s`.
#[derive(Args)]
pub struct Options {
    /// Only steps whose name has this in it, beside the installation
    filter: Option<String>,
    /// How the programs in the images are compiled.
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// Repository that the images are named in, where the cluster takes them from a registry.
    #[arg(long, default_value = "localhost")]
    prefix: String,
    /// With KUBECONFIG: the command that takes an archive of an image to the cluster's nodes, for instance
    /// `kind load image-archive`; `true` where they have it already.
    #[arg(long, value_name = "COMMAND")]
    load: Option<String>,
    /// A value of the chart, KEY=VALUE; for instance `agent.cgroupRoot=kubepods` where kubelet's driver is cgroupfs
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Leave what was started, to look at it.
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// Only remove what an earlier call left: the lab, or the namespace in the cluster of KUBECONFIG.
    #[arg(long)]
    down: bool,
}

/// What steps work on.
struct Site<'a> {
    cluster: &'a Cluster,
    /// Names of its nodes. Clients run on the first.
    nodes: Vec<String>,
    images: Vec<image::Built>,
    release: Release<'a>,
    clients: Clients,
}

impl Site<'_> {
    /// The image of the agent as pods name it.
    fn agent_image(&self) -> Result<&str> {
        let built = self.images.iter().find(|built| built.name == image::AGENT.name);
        Ok(&built.context("the agent's image was not built")?.reference)
    }
}

/// `cargo xtask k8s`.
pub fn main(options: &Options) -> Result<()> {
    let mut steps = Steps::new("k8s");
    let cluster = Cluster::find(&paths::repository()?, options.load.as_deref())?;
    if options.down {
        return steps.run("down", || cluster.leave(true));
    }
    setup::run(&mut steps)?;
    all(options, &cluster, &mut steps)
}

/// The same as part of another task: on the lab, whatever KUBECONFIG says.
pub fn run(steps: &mut Steps) -> Result<()> {
    let cluster = Cluster::lab(&paths::repository()?)?;
    let (prefix, set) = ("localhost".to_owned(), Vec::new());
    let options = Options { filter: None, profile: Profile::Dev, prefix, load: None, set, keep: false, down: false };
    all(&options, &cluster, steps)
}

fn all(options: &Options, cluster: &Cluster, steps: &mut Steps) -> Result<()> {
    let begun = steps.run("cluster", || cluster.begin())?;
    steps.note(begun.said);
    let result = go(options, cluster, steps);
    if options.keep {
        println!("kept: `cargo xtask k8s --down` removes it");
        return result;
    }
    let left = steps.run("clean up", || cluster.leave(begun.by_us));
    // What failed first is told.
    result.and(left)
}

fn go(options: &Options, cluster: &Cluster, steps: &mut Steps) -> Result<()> {
    let repository = paths::repository()?;
    let images = image::run(&image::Options::of(options.profile, &options.prefix), steps)?;
    setup::chart(steps)?;
    let renderer = steps.run("the chart's renderer", || Renderer::build(&repository))?;
    let clients = steps.run("image of the pods", || clients::make(&repository))?;
    let archives = images.iter().chain([&clients.built]);
    steps.run("images to the nodes", || archives.map(|built| &built.archive).try_for_each(|it| cluster.load(it)))?;
    let release = Release::new(cluster, renderer, &images, &clients.ca, options)?;
    release.delete()?;
    let site = Site { cluster, nodes: cluster.workers()?, images, release, clients };
    let wanted = |step: &&Step| {
        step.name == install::STEP.name || options.filter.as_ref().is_none_or(|filter| step.name.contains(filter))
    };
    let result = STEPS.iter().filter(wanted).try_for_each(|step| {
        let said = steps.run(step.name, || (step.run)(&site))?;
        steps.note(said);
        Ok(())
    });
    if result.is_err() {
        site.release.tell();
    }
    if !options.keep && (result.is_err() || options.filter.is_some()) {
        // What failed first is told.
        let _ = site.release.remove();
    }
    result
}
