//! Text of policies, where it comes from, and what takes its place when it is refused.
//!
//! Made into a set by [`compile`](crate::compile).

use std::fmt;
use std::sync::Arc;

use crate::load::Rule;

/// Where a text comes from, which says whom it may speak of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    /// The directory of a host: of everybody.
    Directory,
    /// A ClusterCallPolicy: of everybody.
    Cluster {
        /// Its name.
        name: String,
    },
    /// A CallPolicy: of the workloads of its namespace.
    Namespace {
        /// The namespace.
        namespace: String,
        /// Its name there.
        name: String,
    },
}

impl Origin {
    /// The namespace that it is confined to.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace { namespace, .. } => Some(namespace),
            Self::Directory | Self::Cluster { .. } => None,
        }
    }

    /// The id of the policy that is the `number`th of `file` and calls itself `own`.
    ///
    /// Those of an object begin with what names the object: so none can be taken for one of another's.
    pub(crate) fn id(&self, file: &str, number: usize, own: Option<&str>) -> String {
        let own = own.filter(|own| !own.is_empty());
        let own = own.map_or_else(|| number.to_string(), str::to_owned);
        match self {
            // A name of the cluster has neither slash nor colon, an id may have both.
            Self::Namespace { namespace, name } => format!("{namespace}/{name}/{own}"),
            Self::Cluster { name } => format!("cluster:{name}/{own}"),
            Self::Directory if own == number.to_string() => format!("{file}:{own}"),
            Self::Directory => own,
        }
    }

    /// Who stays where two contradict each other: the lower one.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Directory => 0,
            Self::Cluster { .. } => 1,
            Self::Namespace { .. } => 2,
        }
    }
}

impl fmt::Display for Origin {
    /// What stands for the name of a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("the policy directory"),
            Self::Cluster { name } => write!(f, "ClusterCallPolicy/{name}"),
            Self::Namespace { namespace, name } => write!(f, "CallPolicy/{namespace}/{name}"),
        }
    }
}

/// Cedar text of one origin. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PolicyText {
    pub(crate) origin: Origin,
    /// Names and texts, by name.
    pub(crate) files: Vec<(Arc<str>, Arc<str>)>,
    /// Why there is no text, though there should be.
    pub(crate) unfit: Option<(Rule, String)>,
}

impl PolicyText {
    /// The files of a directory: pairs of a name, which findings show, and a text.
    #[must_use]
    pub fn directory(mut files: Vec<(String, String)>) -> Self {
        files.sort();
        let files = files.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        Self { origin: Origin::Directory, files, unfit: None }
    }

    /// The text of an object of a cluster.
    #[must_use]
    pub fn object(origin: Origin, text: &str) -> Self {
        let file = origin.to_string();
        Self { origin, files: vec![(file.into(), text.into())], unfit: None }
    }

    /// An object that cannot be taken, and why: it is told as other errors are.
    #[must_use]
    pub fn unfit(origin: Origin, why: String) -> Self {
        Self { origin, files: Vec::new(), unfit: Some((Rule::Unfit, why)) }
    }

    /// The text of an object; none of a directory, or of an object that has none.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        match self.files.as_slice() {
            [(_, text)] if self.origin != Origin::Directory => Some(text),
            _ => None,
        }
    }

    /// Length of the text. Unit: bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|(_, text)| text.len()).sum()
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// A text, and what takes its place when it is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What its origin says now.
    pub text: PolicyText,
    /// What of it was in force before.
    pub last: Option<PolicyText>,
    /// Whether anything of it was ever in force, here or elsewhere: where nothing of it can be now, what it may have
    /// forbidden is refused. What nobody ever relied on counts as absent instead.
    pub relied_on: bool,
}

impl Offer {
    /// A text without a past.
    #[must_use]
    pub fn of(text: PolicyText) -> Self {
        Self { text, last: None, relied_on: false }
    }

    /// An object of a namespace, or of the cluster, whose objects are over a bound: nothing stands in for it, else the
    /// bound would be none.
    #[must_use]
    pub fn over(origin: Origin, why: String) -> Self {
        let unfit = Some((Rule::OverBound, why));
        Self { text: PolicyText { origin, files: Vec::new(), unfit }, last: None, relied_on: true }
    }
}
