//! Makes one set of texts of several origins: the directory of a host, and objects of a cluster.
//!
//! A broken directory keeps all of itself out, a broken object itself alone; what was in force of it before may stand
//! in for it, and where nothing can, its namespace is [`closed`](crate::closed). Where two contradict each other the
//! operator's stays: directory, then cluster, then namespace.
//! Each text is loaded by [`load`](crate::load), once.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use callgate_model::{MaskKinds, TlsMode};

use crate::closed::Closed;
use crate::load::{
    Checks, Finding, Load, LoadErrors, Loaded, Rule, Severity, Sound, Taken, Warning, load, sort, taken,
};
use crate::set::{PolicySet, hash_files};
use crate::text::{Offer, Origin, PolicyText};

/// Most policies of one namespace, in all its objects. Source: as the bound of one object.
const NAMESPACE_POLICIES_MAX: usize = 1_024;
/// Most rounds in which last good texts take the place of refused ones: each may contradict another.
const ROUNDS_MAX: usize = 4;

/// What came of all texts.
#[derive(Debug)]
pub struct Compiled {
    /// The set of everything that was taken.
    pub set: PolicySet,
    /// About what was taken.
    pub warnings: Vec<Warning>,
    /// What was not, by its place.
    pub refused: Vec<Refused>,
    /// Whose calls are refused for want of it: the cluster's first, then namespaces by name.
    pub closed: Vec<Closed>,
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
    /// Whether its namespace is closed, since nothing of it is in the set.
    pub closes: bool,
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
        kinds: impl Fn(&str) -> Option<MaskKinds> + Send,
    ) -> Result<(Self, Vec<Warning>), LoadErrors> {
        let text = PolicyText::directory(files.to_vec());
        let Compiled { set, warnings, mut refused, .. } = Self::compile(&[Offer::of(text)], kinds)?;
        match refused.pop() {
            Some(refused) => Err(refused.errors),
            None => Ok((set, warnings)),
        }
    }

    /// Makes one set, as [`Compiler::compile`] does.
    ///
    /// # Errors
    /// As there.
    pub fn compile(offers: &[Offer], kinds: impl Fn(&str) -> Option<MaskKinds> + Send) -> Result<Compiled, LoadErrors> {
        Compiler::new(kinds)?.compile(offers)
    }
}

/// Makes set after set, and checks no text again that was in the last one.
pub struct Compiler<'a> {
    checks: Checks<'a>,
    /// What came of the texts of the last set.
    loads: HashMap<PolicyText, Arc<Load>>,
}

impl fmt::Debug for Compiler<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiler").field("loads", &self.loads.len()).finish_non_exhaustive()
    }
}

/// An offer, and what stands for it in this round.
struct Turn<'a> {
    offer: &'a Offer,
    /// None: nothing.
    load: Option<Arc<Load>>,
    refusal: Option<Refusal>,
}

struct Refusal {
    errors: LoadErrors,
    /// Whether calls might be allowed for want of it that it keeps from being so.
    restricts: bool,
}

impl<'a> Compiler<'a> {
    /// With the kinds of findings that words of `@mask` stand for, which must stay the same.
    ///
    /// # Errors
    /// A bug of ours: the built-in schema does not load.
    pub fn new(kinds: impl Fn(&str) -> Option<MaskKinds> + Send + 'a) -> Result<Self, LoadErrors> {
        Ok(Self { checks: Checks::new(Box::new(kinds))?, loads: HashMap::new() })
    }

    /// Makes one set of all texts that are sound by themselves and contradict none that comes before them.
    ///
    /// # Errors
    /// A bug of ours: what is wrong with a text keeps that text out, and is in [`Compiled::refused`].
    pub fn compile(&mut self, offers: &[Offer]) -> Result<Compiled, LoadErrors> {
        let before = std::mem::take(&mut self.loads);
        let mut loaded = |text: &PolicyText| {
            let known = self.loads.get(text).or_else(|| before.get(text));
            let made = known.map_or_else(|| Arc::new(load(text, &self.checks)), Arc::clone);
            self.loads.insert(text.clone(), Arc::clone(&made));
            Some(made)
        };
        let turn = |offer| Turn { offer, load: None, refusal: None };
        let mut turns: Vec<Turn<'_>> = offers.iter().map(turn).collect();
        for turn in &mut turns {
            turn.load = loaded(&turn.offer.text);
        }
        let mut round = 1;
        loop {
            let mut picked = pick(&turns);
            if picked.refused.is_empty() {
                return finish(picked, &turns, &self.checks);
            }
            for (place, now) in std::mem::take(&mut picked.refused) {
                let Some(turn) = turns.get_mut(place) else { continue };
                // What was in force has its turn once, after the first refusal.
                let last = turn.offer.last.as_ref().filter(|_| turn.refusal.is_none() && round < ROUNDS_MAX);
                turn.load = last.and_then(&mut loaded);
                match &mut turn.refusal {
                    Some(before) => before.restricts &= now.restricts,
                    None => turn.refusal = Some(now),
                }
            }
            round += 1;
        }
    }
}

/// All that can stand together, and what cannot.
#[derive(Default)]
struct Picked<'a> {
    policies: Vec<&'a Loaded>,
    warnings: Vec<Warning>,
    files: Vec<(&'a str, &'a str)>,
    refused: Vec<(usize, Refusal)>,
}

fn pick<'a>(turns: &'a [Turn<'_>]) -> Picked<'a> {
    let mut picked = Picked::default();
    let mut sound = Vec::new();
    for (place, turn) in turns.iter().enumerate() {
        match turn.load.as_deref() {
            Some(Ok(load)) => sound.push((place, load)),
            // What does not read may hold anything.
            Some(Err(errors)) => picked.refused.push((place, Refusal { errors: errors.clone(), restricts: true })),
            None => {}
        }
    }
    sound.sort_by(|(_, a), (_, b)| order(a, b));

    let mut before = Taken::default();
    let mut ids = HashSet::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, load) in sound {
        let mut findings = load.warnings.clone();
        let mut refuse = |mut findings: Vec<Finding>| {
            sort(&mut findings);
            let restricts = load.policies.iter().any(Loaded::restricts);
            picked.refused.push((place, Refusal { errors: LoadErrors { findings }, restricts }));
        };
        if let Some(namespace) = load.text.origin.namespace() {
            let count = counts.entry(namespace).or_insert(0);
            if *count + load.policies.len() > NAMESPACE_POLICIES_MAX {
                let message = format!("more than {NAMESPACE_POLICIES_MAX} policies in the namespace `{namespace}`");
                findings.push(Finding::whole(Rule::OverBound, &load.text.origin.to_string(), message));
                refuse(findings);
                continue;
            }
            *count += load.policies.len();
        }
        taken(&ids, &load.policies, &mut findings);
        before.hold_against(&load.policies, &mut findings);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            refuse(findings);
            continue;
        }
        sort(&mut findings);
        ids.extend(load.policies.iter().map(|policy| policy.id.as_str()));
        before.take(&load.policies);
        picked.policies.extend(&load.policies);
        picked.warnings.extend(findings);
        picked.files.extend(load.text.files.iter().map(|(name, text)| (&**name, &**text)));
    }
    picked
}

/// The set of what was picked, and of what is closed for want of what was not.
fn finish(picked: Picked<'_>, turns: &[Turn<'_>], checks: &Checks<'_>) -> Result<Compiled, LoadErrors> {
    let Picked { policies, mut warnings, mut files, .. } = picked;
    if policies.is_empty() && warnings.is_empty() {
        warnings.push(Finding::empty());
    }
    sort(&mut warnings);
    let (refused, closed) = refused(turns);
    let unfiled = || LoadErrors { findings: vec![Finding::internal("the policies could not be filed")] };
    let closing = closed.iter().map(|closed| closed.policy().ok_or_else(unfiled));
    let closing = closing.collect::<Result<Vec<_>, _>>()?;
    files.extend(closing.iter().map(|(_, terms, text)| (terms.place.file.as_str(), *text)));
    files.sort_unstable();
    let policies = policies.into_iter().map(|loaded| (&loaded.policy, &loaded.terms));
    let policies = policies.chain(closing.iter().map(|(policy, terms, _)| (policy, terms)));
    let set = PolicySet::build(hash_files(&files), checks.names.clone(), policies).ok_or_else(unfiled)?;
    Ok(Compiled { set, warnings, refused, closed })
}

/// What was refused, and what is closed for want of it.
fn refused(turns: &[Turn<'_>]) -> (Vec<Refused>, Vec<Closed>) {
    let mut closed: BTreeMap<Option<&str>, Option<String>> = BTreeMap::new();
    let mut refused = Vec::new();
    for (place, turn) in turns.iter().enumerate() {
        let Some(Refusal { errors, restricts }) = &turn.refusal else { continue };
        let stands_in = turn.load.is_some();
        let over = errors.errors().find(|error| error.rule == Rule::OverBound).map(|error| error.message.clone());
        let closes = !stands_in && (over.is_some() || (turn.offer.relied_on && *restricts));
        let origin = &turn.offer.text.origin;
        if closes {
            let why = closed.entry(origin.namespace()).or_default();
            *why = why.take().or(over);
        }
        refused.push(Refused { offer: place, origin: origin.clone(), errors: errors.clone(), stands_in, closes });
    }
    let closed = closed.into_iter().map(|(namespace, over)| Closed { namespace: namespace.map(str::to_owned), over });
    (refused, closed.collect())
}

/// Whoever stays in a contradiction comes first.
fn order(a: &Sound, b: &Sound) -> Ordering {
    let passes = |of: &Sound| of.policies.iter().any(|policy| policy.terms.tls == Some(TlsMode::Passthrough));
    let key = |of: &Sound| (of.text.origin.rank(), passes(of));
    key(a).cmp(&key(b)).then_with(|| a.text.origin.cmp(&b.text.origin))
}
