//! The image of the pods that call and are called, and the CA that vouches for the server.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::exec;
use crate::image::{self, Built, Profile};

/// The image's name, and its repository.
pub const NAME: &str = "callgate-xtask-pods";
/// A client that everybody has.
const CURL: &str = "/usr/bin/curl";
const TESTKIT: &str = "callgate-testkit";

/// The image, and the authority that its clients trust, PEM.
pub struct Clients {
    pub built: Built,
    pub ca: String,
    pub ca_key: String,
}

/// Makes both, of this repository's programs for tests.
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
    let built = image::of_programs(NAME, &[&testkit, Path::new(CURL)], &ca, &out)?;
    Ok(Clients { built, ca, ca_key })
}
