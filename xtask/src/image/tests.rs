//! Whole images, made of this very test program: it is there, loads libraries, and can be run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::origin::Origin;
use super::{Image, archive, assemble, sbom};
use crate::{exec, paths};

const IMAGE: Image =
    Image { name: "callgate-agent", programs: &[("probe", "callgate-daemon")], user: 65532, folders: &["var/lib/own"] };

/// A folder that goes with its owner.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("callgate-image-{:?}", std::thread::current().id()));
        let path = path.with_extension(std::process::id().to_string());
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn origin(time: u64) -> Origin {
    Origin { version: "1.2.3".into(), revision: "abc".into(), time, date: "2026-01-02T03:04:05Z".into() }
}

/// The archive of an image whose program is a copy of this test, in a folder called `name`.
fn build(folder: &Path, name: &str, time: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    fs::copy(std::env::current_exe()?, folder.join("probe"))?;
    let crates = sbom::Crates::of(&paths::repository()?)?;
    let parts = assemble(&IMAGE, &folder, &origin(time), &crates)?;
    Ok((archive::of(&IMAGE, &parts.tree, "localhost/callgate-agent:1.2.3", &origin(time))?, parts.sbom))
}

#[test]
fn the_same_program_makes_the_same_bytes() {
    let folder = Folder::new();
    let (first, bill) = build(folder.path(), "one", 1_700_000_000).unwrap();
    let (second, same_bill) = build(folder.path(), "another", 1_700_000_000).unwrap();
    assert!(first == second, "two builds of one input differ");
    assert!(bill == same_bill, "their bills differ");
    let (later, _) = build(folder.path(), "later", 1_700_000_001).unwrap();
    assert!(first != later, "the time given is not the one in the archive");
}

#[test]
fn importers_find_what_they_look_for_and_the_program_runs_in_it() {
    let folder = Folder::new();
    let (bytes, _) = build(folder.path(), "one", 1_700_000_000).unwrap();
    let file = folder.path().join("image.tar");
    let unpacked = folder.path().join("unpacked");
    let root = folder.path().join("root");
    fs::write(&file, bytes).unwrap();
    unpack(&file, &unpacked);
    let read = |path: &str| fs::read(unpacked.join(path)).unwrap();
    let json = |path: &str| serde_json::from_slice::<Value>(&read(path)).unwrap();

    // Every blob has the digest that it is named by.
    for entry in fs::read_dir(unpacked.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(archive::sha256(&fs::read(&path).unwrap()), path.file_name().unwrap().to_str().unwrap());
    }
    // OCI's way: index, manifest, config and layer.
    assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let place = |descriptor: &Value| format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
    let described = &json("index.json")["manifests"][0];
    assert_eq!(described["annotations"]["io.containerd.image.name"], "localhost/callgate-agent:1.2.3");
    let manifest = json(&place(described));
    let config = json(&place(&manifest["config"]));
    let layer = place(&manifest["layers"][0]);
    assert_eq!(manifest["layers"][0]["size"], read(&layer).len());
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    assert_eq!(config["config"]["User"], "65532:65532");
    // Docker's way leads to the same.
    let docker = &json("manifest.json")[0];
    assert_eq!(docker["RepoTags"][0], "localhost/callgate-agent:1.2.3");
    assert_eq!(docker["Config"], place(&manifest["config"]));
    assert_eq!(docker["Layers"][0], layer);

    // The layer is all that the program needs.
    unpack(&unpacked.join(&layer), &root);
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dev", "etc", "lib", "lib64", "proc", "sys", "tmp", "usr", "var"]);
    let roots = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(roots.matches("-----BEGIN CERTIFICATE-----").count() > 50);
    let mut run = Command::new("chroot");
    run.arg(&root).args(["/usr/bin/probe", "--list"]).env_remove("LD_LIBRARY_PATH");
    let said = exec::output(&mut run).expect("run it in a root of its own, as root");
    assert!(said.contains("image::tests::the_same_program_makes_the_same_bytes: test"), "it says {said}");
}

#[test]
fn the_bill_names_crates_and_packages_and_no_tools_of_tests() {
    let folder = Folder::new();
    let (_, bill) = build(folder.path(), "one", 1_700_000_000).unwrap();
    let bill: Value = serde_json::from_slice(&bill).unwrap();
    let components = bill["components"].as_array().unwrap();
    let of = |name: &str| components.iter().find(|component| component["name"] == name);

    let tokio = of("tokio").expect("the agent is made of tokio");
    let digest = tokio["hashes"][0]["content"].as_str().unwrap();
    assert!(
        paths::repository().is_ok_and(|root| fs::read_to_string(root.join("Cargo.lock")).unwrap().contains(digest))
    );
    assert!(tokio["licenses"][0]["expression"].as_str().unwrap().contains("MIT"));
    assert!(of("aya-ebpf").is_some(), "the kernel programs are part of the agent");
    assert!(of("libc6").unwrap()["purl"].as_str().unwrap().starts_with("pkg:deb/debian/libc6@"));
    assert!(of("ca-certificates").is_some());
    assert!(of("criterion").is_none() && of("callgate-harness").is_none() && of("xtask").is_none());
    assert!(of("windows-sys").is_none(), "it is of another system");

    // Every edge leads to a component.
    let known: Vec<_> = components.iter().map(|component| component["bom-ref"].as_str().unwrap()).collect();
    for dependency in bill["dependencies"].as_array().unwrap() {
        for to in dependency["dependsOn"].as_array().unwrap() {
            assert!(known.contains(&to.as_str().unwrap()), "{to} is no component");
        }
    }
}

fn unpack(archive: &Path, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    exec::run(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder)).unwrap();
}
