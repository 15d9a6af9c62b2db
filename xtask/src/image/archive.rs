//! The archive of an image: an OCI layout that is a `docker save` archive as well, so that every importer takes it.
//!
//! Layers are not compressed: registries and importers do so themselves, and a compressor's version changes no byte.

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::origin::Origin;
use super::tree::Tree;
use super::{Image, tar};

const PATH: &str = "PATH=/usr/bin";

/// The archive of `image`, whose one layer is `tree`, under the name `reference`.
pub fn of(image: &Image, tree: &Tree, reference: &str, origin: &Origin) -> Result<Vec<u8>> {
    let mut archive = Tree::default();
    let layer = blob(&mut archive, tar::of(tree, origin.time)?, "application/vnd.oci.image.layer.v1.tar");
    let config = serde_json::to_vec(&config(image, &layer["digest"], origin))?;
    let config = blob(&mut archive, config, "application/vnd.oci.image.config.v1+json");
    let docker = json!([{ "Config": path(&config), "RepoTags": [reference], "Layers": [path(&layer)] }]);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let mut manifest = blob(&mut archive, serde_json::to_vec(&manifest)?, "application/vnd.oci.image.manifest.v1+json");
    manifest["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    let tag = reference.rsplit(':').next();
    // containerd takes the first name, others the second.
    manifest["annotations"] =
        json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    archive.file("index.json", 0o644, serde_json::to_vec(&index)?);
    archive.file("manifest.json", 0o644, serde_json::to_vec(&docker)?);
    tar::of(&archive, origin.time)
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Stores `bytes` under their digest; what refers to them.
fn blob(archive: &mut Tree, bytes: Vec<u8>, media_type: &str) -> Value {
    let digest = sha256(&bytes);
    let descriptor = json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() });
    archive.file(&format!("blobs/sha256/{digest}"), 0o644, bytes);
    descriptor
}

/// Where the blob of `descriptor` is.
fn path(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    format!("blobs/{}", digest.replace(':', "/"))
}

fn config(image: &Image, layer: &Value, origin: &Origin) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": origin.date,
        "config": {
            "User": format!("{0}:{0}", image.user),
            "Env": [PATH],
            "Entrypoint": [format!("/usr/bin/{}", image.name)],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.revision": origin.revision,
                "org.opencontainers.image.title": image.name,
                "org.opencontainers.image.version": origin.version,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": origin.date, "created_by": "cargo xtask image" }],
    })
}

/// As images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
