//! Names that workloads are given when a rule finds them: a text, with places that the cgroup fills.

use std::path::Path;

use callgate_model::{Placement, WorkloadName, WorkloadNameError};
use serde::Deserialize;
use thiserror::Error;

/// What may stand in braces.
const PLACES: &[&str] = &["name", "unit", "pod", "container"];

/// How many digits of a container's id are shown. Source: as `docker ps` does.
const SHORT_ID: usize = 12;

/// A name, or one with `{name}`, `{unit}`, `{pod}` and `{container}` in it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct NameTemplate(String);

/// A text that is no [`NameTemplate`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NameError {
    /// What it would give is no name.
    #[error(transparent)]
    Name(#[from] WorkloadNameError),
    /// It names a place that there is not.
    #[error("`{{{0}}}` is no part of a name: expected `{{name}}`, `{{unit}}`, `{{pod}}` or `{{container}}`")]
    Place(String),
}

impl NameTemplate {
    /// The name of the workload in the cgroup at `path`, whose source calls it `called`.
    ///
    /// What a name cannot hold becomes `_`, and it ends after 64 signs.
    #[must_use]
    pub fn fill(&self, called: &str, path: &Path) -> WorkloadName {
        let told = Placement::of_cgroup(path);
        let short = told.container_id.get(..SHORT_ID).unwrap_or(&told.container_id);
        let mut name = self.0.clone();
        for (place, value) in PLACES.iter().zip([called, &told.unit, &told.pod_uid, short]) {
            name = name.replace(&format!("{{{place}}}"), value);
        }
        WorkloadName::near(&name)
    }
}

impl TryFrom<String> for NameTemplate {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        let mut rest = text.clone();
        for place in PLACES {
            rest = rest.replace(&format!("{{{place}}}"), "x");
        }
        if let Some((_, from)) = rest.split_once('{')
            && let Some((place, _)) = from.split_once('}')
        {
            return Err(NameError::Place(place.chars().take(32).collect()));
        }
        match rest.parse::<WorkloadName>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(text.parse::<WorkloadName>().err().map_or(NameError::Place(rest), NameError::Name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Result<NameTemplate, String> {
        NameTemplate::try_from(text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn places_are_filled_from_the_path() {
        let path = format!("kubepods/pod8a1f3f2e-1f0a-4c3e-9d56-0b3f5f7a9c11/{}", "0123456789abcdef".repeat(4));
        for (text, name) in [
            ("shop", "shop"),
            ("ci-{name}", "ci-web"),
            ("{container}", "0123456789ab"),
            ("{pod}", "8a1f3f2e-1f0a-4c3e-9d56-0b3f5f7a9c11"),
            ("{unit}", "_"),
        ] {
            assert_eq!(template(text).unwrap().fill("web", Path::new(&path)).to_string(), name, "{text}");
        }
        assert_eq!(template("{name}").unwrap().fill("a/b c", Path::new("")).to_string(), "a_b_c");
    }

    #[test]
    fn unknown_places_and_unfit_signs_are_refused() {
        assert!(template("{label}").unwrap_err().contains("`{label}` is no part of a name"));
        for text in ["", "x/y", "a b", "{name}/x", "{name"] {
            assert!(template(text).unwrap_err().contains("is no name of a workload"), "{text}");
        }
    }
}
