//! How CMD comes to trust our CA: files it can read, and every variable that a client library looks at.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use callgate_identity::Authority;
use callgate_trust::variables::{BUNDLE, JAVA, PASSWORD, java_options};
use tracing::warn;

/// The files of one run: `RUNTIME_DIR/INSTANCE/{ca.pem, bundle.pem, truststore.p12}`. Dropping it removes them.
#[derive(Debug)]
pub struct Trust {
    directory: PathBuf,
}

impl Trust {
    /// Writes them, readable by everybody. The CA's key is not among them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(runtime_dir: &Path, instance: &str, authority: &Authority) -> Result<Self> {
        let directory = runtime_dir.join(instance);
        for dir in [runtime_dir, &directory] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
            // Set apart from creation, which the umask of root's shell would narrow.
            allow(dir, 0o755)?;
        }
        let trust = Self { directory };
        trust.file("ca.pem", authority.ca_pem().as_bytes())?;
        trust.file("bundle.pem", authority.bundle_pem().as_bytes())?;
        trust.file("truststore.p12", &authority.truststore_p12(PASSWORD)?)?;
        Ok(trust)
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The variables that make clients trust them. `JAVA_TOOL_OPTIONS` keeps what it holds now.
    #[must_use]
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let bundle = self.directory.join("bundle.pem");
        let mut all: Vec<(OsString, OsString)> =
            BUNDLE.iter().map(|name| (name.into(), bundle.clone().into())).collect();
        all.push((JAVA.into(), self.java_options(std::env::var_os(JAVA))));
        all
    }

    fn java_options(&self, existing: Option<OsString>) -> OsString {
        let mut options = existing.unwrap_or_default();
        if !options.is_empty() {
            options.push(" ");
        }
        options.push(java_options(&self.directory.join("truststore.p12").to_string_lossy()));
        options
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
        allow(&path, 0o644)
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            warn!(%error, path = %self.directory.display(), "the trust files of this run stay");
        }
    }
}

fn allow(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot make `{}` readable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_can_read_the_files_and_they_go_with_the_run() {
        let runtime = tempfile::tempdir().unwrap();
        let authority = Authority::new("test").unwrap();
        let trust = Trust::write(&runtime.path().join("a/b"), "run-1", &authority).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(trust.directory()), 0o755);
        for file in ["ca.pem", "bundle.pem", "truststore.p12"] {
            let path = trust.directory().join(file);
            assert_eq!(mode(&path), 0o644, "{file}");
            assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("PRIVATE KEY"), "{file}");
        }
        let bundle = fs::read_to_string(trust.directory().join("bundle.pem")).unwrap();
        assert!(bundle.starts_with(&authority.ca_pem()));
        let environment = trust.environment();
        assert_eq!(environment.len(), BUNDLE.len() + 1);
        let directory = trust.directory().to_owned();
        drop(trust);
        assert!(!directory.exists());
    }

    #[test]
    fn keeps_existing_java_options() {
        let trust = std::mem::ManuallyDrop::new(Trust { directory: "/run/callgate/run-1".into() });
        let options = trust.java_options(Some("-Xmx1g".into())).into_string().unwrap();
        assert!(
            options.starts_with("-Xmx1g -Djavax.net.ssl.trustStore=/run/callgate/run-1/truststore.p12 "),
            "{options}"
        );
        let spaced = std::mem::ManuallyDrop::new(Trust { directory: "/a b".into() });
        let options = spaced.java_options(None).into_string().unwrap();
        assert!(options.starts_with("\"-Djavax.net.ssl.trustStore=/a b/truststore.p12\" "), "{options}");
    }
}
