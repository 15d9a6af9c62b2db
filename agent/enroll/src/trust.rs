//! How a workload comes to trust the node's CA: chosen for each enrolment.

use crate::labels::Labels;

/// Label of a pod or its namespace: `admission`, `mount` or `none`; without it both ways are used.
pub const TRUST: &str = "callgate.dev/trust";

/// What the label may say.
pub(crate) const WORDS: &[&str] = &["admission", "mount", "none"];

/// Which ways are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Trust {
    /// Variables and a volume by admission, as the pod is made; and mounts, for what those do not reach.
    Both,
    /// By admission alone: nothing is mounted in running containers.
    Admission,
    /// By mounts alone.
    Mount,
    /// By nobody: clients trust the CA already, or are to fail.
    #[default]
    None,
}

impl Trust {
    /// What the labels of a pod say, its own before its namespace's.
    #[must_use]
    pub fn of_labels(pod: &Labels, namespace: &Labels) -> Self {
        match pod.get(TRUST).or_else(|| namespace.get(TRUST)).map(String::as_str) {
            Some("admission") => Self::Admission,
            Some("mount") => Self::Mount,
            Some("none") => Self::None,
            // A typing error too: clients that trust nothing would only fail.
            _ => Self::Both,
        }
    }

    /// Whether the agent mounts in containers.
    #[must_use]
    pub fn mounts(self) -> bool {
        matches!(self, Self::Both | Self::Mount)
    }

    /// Whether admission is to change pods.
    #[must_use]
    pub fn admits(self) -> bool {
        matches!(self, Self::Both | Self::Admission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_own_label_counts_first_and_a_typing_error_takes_nothing_away() {
        let labels = |value: &str| Labels::from([(TRUST.to_owned(), value.to_owned())]);
        let (none, mount, admission) = (labels("none"), labels("mount"), labels("admission"));
        for (pod, namespace, trust) in [
            (&Labels::new(), &Labels::new(), Trust::Both),
            (&Labels::new(), &none, Trust::None),
            (&mount, &none, Trust::Mount),
            (&admission, &mount, Trust::Admission),
            (&labels("muont"), &none, Trust::Both),
        ] {
            assert_eq!(Trust::of_labels(pod, namespace), trust, "{pod:?} in {namespace:?}");
        }
        assert!(Trust::Both.mounts() && Trust::Both.admits());
        assert!(!Trust::None.mounts() && !Trust::None.admits());
        assert!(!Trust::Admission.mounts() && !Trust::Mount.admits());
    }
}
