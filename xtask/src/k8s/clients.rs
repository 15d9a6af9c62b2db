//! The image of the pods that call and are called, and the CA that vouches for the server.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::image::{self, Built, Profile};
use crate::{exec, paths};

/// The image's name, and its repository.
pub const NAME: &str = "callgate-xtask-pods";
/// A client that everybody has.
const CURL: &str = "/usr/bin/curl";
/// One that is made of Go, whose clients read roots in their own way.
pub const GO_CLIENT: &str = "callgate-xtask-go";
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
    let go = out.join(GO_CLIENT);
    let mut compile = Command::new("go");
    compile.current_dir(repository.join("tests/cluster/client")).args(["build", "-o"]).arg(&go).arg(".");
    compile.env("GO111MODULE", "off").env("GOFLAGS", "").env("CGO_ENABLED", "0");
    exec::run(compile.env("GOCACHE", paths::cache()?.join("go")))?;
    let built = image::of_programs(NAME, &[&testkit, Path::new(CURL)], &[&go], &ca, &out)?;
    Ok(Clients { built, ca, ca_key })
}
