//! The image of the pods that call and are called, and the CA that vouches for the server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::languages;
use crate::exec;
use crate::image::{self, Built, ForTests, Profile};

/// The image's name, and its repository.
const NAME: &str = "callgate-xtask-pods";
const TESTKIT: &str = "callgate-testkit";

/// The image, and the authority that its curl and Go trust, PEM.
pub struct Clients {
    pub built: Built,
    pub ca: String,
    pub ca_key: String,
}

/// Makes both, of this repository's programs for tests and of the clients that this machine has.
pub fn make(repository: &Path) -> Result<Clients> {
    let programs = image::build_programs(repository, Profile::Dev)?;
    let (testkit, out) = (programs.folder.join(TESTKIT), programs.target.join("images"));
    let directory = out.join("ca");
    // A server makes the authority that it lacks; this one ends at once.
    let mut server = Command::new(&testkit);
    server
        .args(["upstream", "--until-stdin-closes", "--tls", "localhost", "--ca"])
        .arg(&directory)
        .stdin(Stdio::null());
    exec::run(server.stdout(Stdio::null()))?;
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let (ca, ca_key) = (read("ca.pem")?, read("ca.key")?);
    let languages = languages::make(repository, &out.join("languages"))?;
    let (programs, folders) = (languages::PROGRAMS.map(PathBuf::from), languages.folders());
    let programs = programs.iter().map(PathBuf::as_path).chain([testkit.as_path()]).collect();
    let folders = folders.iter().map(|(from, to)| (from.as_path(), *to)).collect();
    let built = ForTests { name: NAME, programs, folders, links: languages::LINKS, ca: &ca }.build(&out)?;
    Ok(Clients { built, ca, ca_key })
}
