//! Makes one set of texts of several origins: the directory of a host, and objects of a cluster.
//!
//! A broken directory keeps all of itself out, a broken object itself alone; what was in force of it before may stand
//! in for it. Where two contradict each other the operator's stays: directory, then cluster, then namespace.
//! Each text is loaded by [`load`](crate::load).

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use callgate_model::{MaskKinds, TlsMode};

use crate::load::{
    Checks, Finding, Layout, LoadErrors, Loaded, Rule, Severity, Warning, between, layouts, load, sort, taken,
};
use crate::set::{PolicySet, hash_files};

/// Most policies of one namespace, in all its objects. Source: as the bound of one object.
const NAMESPACE_POLICIES_MAX: usize = 1_024;
/// Most rounds in which last good texts take the place of refused ones: each may contradict another.
const ROUNDS_MAX: usize = 4;

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

/// Cedar text of one origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyText {
    pub(crate) origin: Origin,
    /// Names and texts, by name.
    pub(crate) files: Vec<(String, String)>,
    /// Why there is no text, though there should be.
    pub(crate) unfit: Option<String>,
}

impl PolicyText {
    /// The files of a directory: pairs of a name, which findings show, and a text.
    #[must_use]
    pub fn directory(mut files: Vec<(String, String)>) -> Self {
        files.sort();
        Self { origin: Origin::Directory, files, unfit: None }
    }

    /// The text of an object of a cluster.
    #[must_use]
    pub fn object(origin: Origin, text: String) -> Self {
        let file = origin.to_string();
        Self { origin, files: vec![(file, text)], unfit: None }
    }

    /// An object that cannot be taken, and why: it is told as other errors are.
    #[must_use]
    pub fn unfit(origin: Origin, why: String) -> Self {
        Self { origin, files: Vec::new(), unfit: Some(why) }
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
}

/// What came of all texts.
#[derive(Debug)]
pub struct Compiled {
    /// The set of everything that was taken.
    pub set: PolicySet,
    /// About what was taken.
    pub warnings: Vec<Warning>,
    /// What was not.
    pub refused: Vec<Refused>,
}

/// A text that was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Its place among the offers.
    pub offer: usize,
    /// Where it comes from.
    pub origin: Origin,
    /// Why.
    pub errors: LoadErrors,
    /// Whether what was in force of it before is in the set; else nothing of it is.
    pub stands_in: bool,
}

impl PolicySet {
    /// Parses and checks the files of one directory.
    ///
    /// A policy is called by its `@id`, or `NAME:N` for the N-th policy (from 1) of file NAME.
    /// No file, or no policy, gives a set that denies everything, and a warning.
    ///
    /// # Errors
    /// [`LoadErrors`] with everything that was found, if any of it is an error.
    pub fn parse(
        files: &[(String, String)],
        kinds: impl Fn(&str) -> Option<MaskKinds>,
    ) -> Result<(Self, Vec<Warning>), LoadErrors> {
        let text = PolicyText::directory(files.to_vec());
        let Compiled { set, warnings, mut refused } = Self::compile(&[Offer { text, last: None }], kinds)?;
        match refused.pop() {
            Some(refused) => Err(refused.errors),
            None => Ok((set, warnings)),
        }
    }

    /// Makes one set of all texts that are sound by themselves and contradict none that comes before them.
    ///
    /// # Errors
    /// A bug of ours: what is wrong with a text keeps that text out, and is in [`Compiled::refused`].
    pub fn compile(offers: &[Offer], kinds: impl Fn(&str) -> Option<MaskKinds>) -> Result<Compiled, LoadErrors> {
        let checks = Checks::new(&kinds)?;
        let mut texts: Vec<Option<&PolicyText>> = offers.iter().map(|offer| Some(&offer.text)).collect();
        let mut told: Vec<Option<LoadErrors>> = vec![None; offers.len()];
        let mut round = 1;
        loop {
            let (compiled, refused) = once(&texts, &checks)?;
            let mut again = false;
            for (place, errors) in refused {
                let (Some(offer), Some(text), Some(told)) =
                    (offers.get(place), texts.get_mut(place), told.get_mut(place))
                else {
                    continue;
                };
                // What was in force has its turn once, after the first refusal.
                *text = offer.last.as_ref().filter(|_| told.is_none() && round < ROUNDS_MAX);
                again |= text.is_some();
                told.get_or_insert(errors);
            }
            if !again {
                let refused = told.into_iter().enumerate().filter_map(|(place, errors)| {
                    let origin = offers.get(place)?.text.origin.clone();
                    let stands_in = texts.get(place).is_some_and(Option::is_some);
                    Some(Refused { offer: place, origin, errors: errors?, stands_in })
                });
                return Ok(Compiled { refused: refused.collect(), ..compiled });
            }
            round += 1;
        }
    }
}

type Refusals = Vec<(usize, LoadErrors)>;

/// Makes a set of all that can stand together, and says what cannot.
fn once(texts: &[Option<&PolicyText>], checks: &Checks<'_>) -> Result<(Compiled, Refusals), LoadErrors> {
    let layouts: Vec<Vec<Layout>> = texts.iter().map(|text| text.map(layouts).unwrap_or_default()).collect();
    let mut refused = Vec::new();
    let mut sound = Vec::new();
    for (place, (text, layouts)) in texts.iter().zip(&layouts).enumerate() {
        let Some(text) = text else { continue };
        match load(text, layouts, checks) {
            Ok((loaded, warnings)) => sound.push((place, *text, loaded, warnings)),
            Err(errors) => refused.push((place, errors)),
        }
    }
    sound.sort_by(|(_, a, of_a, _), (_, b, of_b, _)| order((a, of_a), (b, of_b)));

    let (mut all, mut warnings, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids = HashSet::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, text, loaded, mut findings) in sound {
        if let Some(namespace) = text.origin.namespace() {
            let count = counts.entry(namespace).or_insert(0);
            if *count + loaded.len() > NAMESPACE_POLICIES_MAX {
                let message = format!("more than {NAMESPACE_POLICIES_MAX} policies in the namespace `{namespace}`");
                findings.push(Finding::whole(Rule::TooLarge, &text.origin.to_string(), message));
                refused.push((place, LoadErrors { findings }));
                continue;
            }
            *count += loaded.len();
        }
        taken(&ids, &loaded, &mut findings);
        between(&all, &loaded, &checks.names, &mut findings);
        sort(&mut findings);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            refused.push((place, LoadErrors { findings }));
            continue;
        }
        ids.extend(loaded.iter().map(|policy| policy.id.clone()));
        all.extend(loaded);
        warnings.extend(findings);
        files.extend(text.files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    }
    if all.is_empty() && warnings.is_empty() {
        warnings.push(Finding::empty());
    }
    sort(&mut warnings);
    files.sort_unstable();
    let policies = all.into_iter().map(|loaded| (loaded.policy, loaded.terms)).collect();
    match PolicySet::build(hash_files(&files), checks.names.clone(), policies) {
        Some(set) => Ok((Compiled { set, warnings, refused: Vec::new() }, refused)),
        None => Err(LoadErrors { findings: vec![Finding::internal("the policies could not be filed")] }),
    }
}

/// Whoever stays in a contradiction comes first.
fn order((a, of_a): (&PolicyText, &[Loaded<'_>]), (b, of_b): (&PolicyText, &[Loaded<'_>])) -> Ordering {
    let passes = |loaded: &[Loaded<'_>]| loaded.iter().any(|policy| policy.terms.tls == Some(TlsMode::Passthrough));
    let key = |text: &PolicyText, loaded: &[Loaded<'_>]| (text.origin.rank(), passes(loaded));
    key(a, of_a).cmp(&key(b, of_b)).then_with(|| a.origin.cmp(&b.origin))
}
