//! The kinds of findings that policies may name: the built-in ones, and those of a configuration's `[[detector]]`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use callgate_daemon::Config;
use callgate_mask::Detectors;
use clap::Args;

#[derive(Debug, Default, Args)]
pub(super) struct KindsArgs {
    /// The agent's or run's configuration, for the names of its [[detector]] entries
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

impl KindsArgs {
    /// The kinds of `--config`, or the built-in ones alone.
    ///
    /// # Errors
    /// The configuration cannot be read, or one of its detectors is refused.
    pub(super) fn detectors(&self) -> Result<Arc<Detectors>> {
        match &self.config {
            Some(path) => Config::read(path)?.detectors(),
            None => Ok(Arc::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_a_configuration_are_known_beside_the_built_in_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, "[[detector]]\nname = \"badge\"\npattern = \"B-[0-9]{6}\"\n").unwrap();
        let detectors = KindsArgs { config: Some(path.clone()) }.detectors().unwrap();
        assert!(detectors.kinds_named("badge").is_some() && detectors.kinds_named("email").is_some());
        assert!(KindsArgs::default().detectors().unwrap().kinds_named("badge").is_none());
        std::fs::write(&path, "[[detector]]\nname = \"email\"\npattern = \"x\"\n").unwrap();
        assert!(KindsArgs { config: Some(path) }.detectors().is_err());
    }
}
