//! `image`: container images of the agent, the collector and the command line, from source, without a registry.
//!
//! Each is one archive that `ctr images import`, `docker load` and `podman load` take, with its bill of materials beside
//! it and inside. It holds the programs, the libraries that they load, CA roots and a few lines of `/etc`, nothing else.
//! The same programs, packages and commit give the same bytes.

mod archive;
mod base;
mod host;
mod libraries;
mod origin;
mod programs;
mod sbom;
mod tar;
#[cfg(test)]
mod tests;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::steps::Steps;
use crate::{paths, setup};
use origin::Origin;
use tree::Tree;

pub use programs::{Profile, build as build_programs};

/// One image.
pub struct Image {
    /// Of the repository, the archive and the first program, which is its entry point.
    pub name: &'static str,
    /// What it holds, each with the crate that makes it.
    programs: &'static [(&'static str, &'static str)],
    user: u32,
    /// Folders that the programs write to; theirs, for where no volume is mounted.
    folders: &'static [&'static str],
}

const ROOT: u32 = 0;
/// As in distroless images, so that clusters know it.
const NONROOT: u32 = 65532;

const STATE: &[&str] = &["run/callgate", "var/lib/callgate"];

/// The agent's has the command line too, for `kubectl exec … -- callgate status`: both load the same libraries.
pub const AGENT: Image = Image {
    name: "callgate-agent",
    programs: &[("callgate-agent", "callgate-daemon"), ("callgate", "callgate")],
    user: ROOT,
    folders: STATE,
};

/// This one too, for `kubectl exec … -- callgate audit search`: it reads the store beside it.
const COLLECTOR: Image = Image {
    name: "callgate-collector",
    programs: &[("callgate-collector", "callgate-collector"), ("callgate", "callgate")],
    user: NONROOT,
    folders: STATE,
};

const CONTROLLER: Image = Image {
    name: "callgate-controller",
    programs: &[("callgate-controller", "callgate-controller")],
    user: NONROOT,
    folders: &[],
};

/// For a reader of records, who needs nothing but a way to the collector.
const CLI: Image = Image { name: "callgate", programs: &[("callgate", "callgate")], user: NONROOT, folders: &[] };

/// All images; a new one is a line.
pub const IMAGES: [&Image; 4] = [&AGENT, &COLLECTOR, &CONTROLLER, &CLI];

/// Options of `cargo xtask image`.
#[derive(Args)]
pub struct Options {
    /// How the programs are compiled: dev is for tests, quick to build and slow to run.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Repository that the images are named in: PREFIX/callgate-agent:VERSION.
    #[arg(long, default_value = "localhost")]
    prefix: String,
    /// Tag of the images [default: the version].
    #[arg(long)]
    tag: Option<String>,
    /// Where the archives go [default: `images` in the target folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What was made of one image.
pub struct Built {
    /// The image's.
    pub name: &'static str,
    /// `localhost/callgate-agent:0.1.0`.
    pub reference: String,
    /// The archive that holds it.
    pub archive: PathBuf,
}

/// `cargo xtask image`.
pub fn main(options: &Options) -> Result<()> {
    let mut steps = Steps::new("image");
    setup::run(&mut steps)?;
    for built in run(options, &mut steps)? {
        println!("{}  {}", built.reference, built.archive.display());
    }
    Ok(())
}

impl Options {
    /// As another task wants them.
    pub fn of(profile: Profile, prefix: &str) -> Options {
        Options { profile, prefix: prefix.to_owned(), tag: None, out: None }
    }
}

/// Builds all images, as part of another task.
pub fn run(options: &Options, steps: &mut Steps) -> Result<Vec<Built>> {
    let repository = paths::repository()?;
    let programs = steps.run("build programs", || programs::build(&repository, options.profile))?;
    let origin = Origin::of(&repository)?;
    let tag = options.tag.clone().unwrap_or_else(|| origin.version.clone());
    let out = options.out.clone().unwrap_or_else(|| programs.target.join("images"));
    fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    let crates = sbom::Crates::of(&repository)?;
    let mut all = Vec::new();
    for image in IMAGES {
        let reference = format!("{}/{}:{tag}", options.prefix, image.name);
        let archive = out.join(format!("{}.tar", image.name));
        let size = steps.run(image.name, || {
            let parts = assemble(image, &programs.folder, &origin, &crates)?;
            let bytes = archive::of(image, &parts.tree, &reference, &origin)?;
            fs::write(archive.with_extension("cdx.json"), &parts.sbom)?;
            fs::write(&archive, &bytes).with_context(|| format!("write {}", archive.display()))?;
            Ok(bytes.len())
        })?;
        steps.note(format!("{:.1} MB", size as f64 / 1e6));
        all.push(Built { name: image.name, reference, archive });
    }
    Ok(all)
}

/// An image for tests, of what is there already.
pub struct ForTests<'a> {
    pub name: &'static str,
    /// They come with the libraries that they load.
    pub programs: Vec<&'a Path>,
    /// Of this machine, each with its place in the image.
    pub folders: Vec<(&'a Path, &'a str)>,
    /// Symbolic links, each with where it leads.
    pub links: &'a [(&'a str, &'a str)],
    /// What it trusts beside the public CAs, PEM.
    pub ca: &'a str,
}

impl ForTests<'_> {
    /// Makes it in the folder `out`.
    pub fn build(&self, out: &Path) -> Result<Built> {
        let image = Image { name: self.name, programs: &[], user: ROOT, folders: &[] };
        let mut tree = Tree::default();
        base::fill(&mut tree)?;
        for (from, to) in &self.folders {
            host::add(from, to, &mut tree)?;
        }
        for (path, to) in self.links {
            tree.link(path, to);
        }
        let mut roots = tree.bytes(base::BUNDLE).context("no CA roots")?.to_vec();
        roots.extend(self.ca.as_bytes());
        tree.file(base::BUNDLE, 0o644, roots);
        for program in &self.programs {
            libraries::put(&libraries::loaded_by(program)?, &mut tree)?;
            let name = program.file_name().and_then(|name| name.to_str()).context("a program has a name")?;
            tree.file(&format!("usr/bin/{name}"), 0o755, fs::read(program)?);
        }
        let reference = format!("localhost/{}:1", self.name);
        let archive = out.join(format!("{}.tar", self.name));
        fs::write(&archive, archive::of(&image, &tree, &reference, &Origin::of(&paths::repository()?)?)?)?;
        Ok(Built { name: self.name, reference, archive })
    }
}

struct Parts {
    tree: Tree,
    sbom: Vec<u8>,
}

/// What is in `image`, its programs taken from `folder`.
fn assemble(image: &Image, folder: &Path, origin: &Origin, crates: &sbom::Crates) -> Result<Parts> {
    let mut tree = Tree::default();
    let mut packages = base::fill(&mut tree)?;
    for folder in image.folders {
        tree.folder(folder, 0o755, image.user);
    }
    for (program, _) in image.programs {
        let path = folder.join(program);
        packages.extend(libraries::add(&path, &mut tree)?);
        tree.file(&format!("usr/bin/{program}"), 0o755, programs::stripped(&path)?);
    }
    base::add_licences(&packages, &mut tree)?;
    let sbom = sbom::of(image, &tree, &packages, crates, origin)?;
    tree.file(&format!("usr/share/sbom/{}.cdx.json", image.name), 0o644, sbom.clone());
    Ok(Parts { tree, sbom })
}
