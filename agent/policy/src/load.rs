//! Turns the files of one text into checked policies, or says what is wrong with them, where, and what was meant.
//!
//! [`compile`](crate::compile) makes a set of what comes of all texts.
//!
//! Cedar parses and type-checks; the parts below check what Cedar leaves open: annotations
//! ([`obligations`]), ids of entities ([`ids`]), literals and context ([`expressions`]), which arguments are named
//! ([`arguments`]), and rules that could not be enforced ([`gaps`]).

mod arguments;
mod expressions;
mod finding;
mod gaps;
mod ids;
mod layout;
mod nearest;
mod obligations;
mod translate;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use callgate_model::{MaskKinds, TlsMode};
use cedar_policy::{Effect, Policy, PolicyId, Schema, ValidationMode, Validator};

use crate::entities::Names;
use crate::explain::Place;
use crate::set::{Actions, Terms};
use crate::text::{Origin, PolicyText};

pub(crate) use finding::sort;
pub use finding::{Finding, LoadErrors, Rule, Severity, Warning};
use gaps::Reach;
pub(crate) use gaps::Taken;
pub(crate) use ids::service_of_function;
use layout::{Layout, Statement};
pub use obligations::{ANNOTATIONS, Annotation, Support};

/// Tells the kinds of findings that a word of `@mask` stands for (`pii`, `email`); none if it stands for nothing.
pub(crate) type KindLookup<'a> = &'a dyn Fn(&str) -> Option<MaskKinds>;
/// The same, kept.
pub(crate) type Kinds<'a> = Box<dyn Fn(&str) -> Option<MaskKinds> + Send + 'a>;

/// Most policies in one object of a namespace. Source: ours; rules are compared with each other, so their number counts
/// twice, and a tenant's must not hold up a node.
const OBJECT_POLICIES_MAX: usize = 256;
/// Most bytes in one file. Unit: bytes. Far above the largest set that anybody writes by hand.
const FILE_MAX: usize = 4 << 20;

/// What came of one text by itself: everything that was found, if any of it is an error.
pub(crate) type Load = Result<Sound, LoadErrors>;

/// A text that is sound by itself.
pub(crate) struct Sound {
    pub text: PolicyText,
    pub policies: Vec<Loaded>,
    pub warnings: Vec<Finding>,
}

/// One policy with what the checks need to know of it.
pub(crate) struct Loaded {
    pub policy: Policy,
    pub id: String,
    effect: Effect,
    actions: Actions,
    pub terms: Terms,
    origin: Origin,
    reach: Reach,
    source: Source,
}

impl Loaded {
    /// Whether without it more could be allowed, or less be done about what is.
    pub fn restricts(&self) -> bool {
        let Terms { mask, record, tls, arguments, .. } = &self.terms;
        let inspects = *tls == Some(TlsMode::Inspect);
        self.effect == Effect::Forbid || !mask.is_empty() || record.is_some() || inspects || !arguments.is_empty()
    }
}

/// Where a policy stands.
struct Source {
    file: Arc<str>,
    text: Arc<str>,
    statement: Statement,
}

impl Source {
    /// A finding about `span` of the file.
    fn finding(&self, severity: Severity, rule: Rule, span: Range<usize>, message: String) -> Finding {
        Finding::at(severity, rule, &self.file, &self.text, span, message)
    }

    /// Where the policy itself begins, after its annotations and comments.
    fn head(&self) -> Range<usize> {
        self.statement.head.clone()
    }

    /// Where `literal` stands within the policy in double quotes, else where the policy begins.
    fn literal(&self, literal: &str) -> Range<usize> {
        let quoted = format!("\"{literal}\"");
        let body = self.text.get(self.statement.span.clone()).unwrap_or("");
        match body.find(&quoted) {
            Some(at) => self.statement.span.start + at..self.statement.span.start + at + quoted.len(),
            None => self.head(),
        }
    }
}

/// What all texts are checked against.
pub(crate) struct Checks<'a> {
    pub names: Names,
    validator: Validator,
    kinds: Kinds<'a>,
}

impl<'a> Checks<'a> {
    pub fn new(kinds: Kinds<'a>) -> Result<Self, LoadErrors> {
        let Ok((names, schema)) = Names::new().and_then(|names| Ok((names, parse_schema()?))) else {
            return Err(LoadErrors { findings: vec![Finding::internal("the built-in schema does not load")] });
        };
        Ok(Self { names, validator: Validator::new(schema), kinds })
    }
}

/// Parses and checks one text by itself.
///
/// # Errors
/// Everything that was found, if any of it is an error; else the warnings come with the policies.
pub(crate) fn load(text: &PolicyText, checks: &Checks<'_>) -> Load {
    let Checks { names, validator, kinds } = checks;
    if let Some((rule, why)) = &text.unfit {
        let finding = Finding::whole(*rule, &text.origin.to_string(), why.clone());
        return Err(LoadErrors { findings: vec![finding] });
    }
    let layouts: Vec<Layout> = text.files.iter().map(|(_, text)| Layout::of(text)).collect();
    let policies: usize = layouts.iter().map(|layout| layout.statements.len()).sum();
    if text.origin.namespace().is_some() && policies > OBJECT_POLICIES_MAX {
        let message = format!("{policies} policies in one object; {OBJECT_POLICIES_MAX} are allowed");
        let finding = Finding::whole(Rule::TooLarge, &text.origin.to_string(), message);
        return Err(LoadErrors { findings: vec![finding] });
    }
    let (mut findings, mut loaded, mut last) = (Vec::new(), Vec::new(), None);
    for ((file, content), layout) in text.files.iter().zip(&layouts) {
        if last.replace(file) == Some(file) {
            findings.push(Finding::whole(Rule::Syntax, file, "a file of this name is there twice".to_owned()));
        } else if content.len() > FILE_MAX {
            findings.push(Finding::whole(Rule::TooLarge, file, format!("the file is over {FILE_MAX} bytes")));
        } else if layout.too_large(file, content, &mut findings) {
            // Cedar never sees it.
        } else {
            load_file(file, content, (layout, &text.origin), names, &mut loaded, &mut findings);
        }
    }
    check_ids(&mut loaded, &mut findings);
    validate(&loaded, validator, &mut findings);
    for policy in &mut loaded {
        obligations::check(policy, kinds, &mut findings);
        ids::check(policy, names, &mut findings);
        expressions::check(policy, &mut findings);
        arguments::check(policy, &mut findings);
    }
    gaps::check(&loaded, &mut findings);
    finding::sort(&mut findings);
    let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
    if refused {
        return Err(LoadErrors { findings });
    }
    Ok(Sound { text: text.clone(), policies: loaded, warnings: findings })
}

fn parse_schema() -> Result<Schema, crate::entities::Unbuildable> {
    let (schema, _) = Schema::from_cedarschema_str(crate::SCHEMA).map_err(|_| crate::entities::Unbuildable)?;
    Ok(schema)
}

/// Parses one file with Cedar and gives each policy its id.
fn load_file(
    file: &Arc<str>,
    text: &Arc<str>,
    (layout, origin): (&Layout, &Origin),
    names: &Names,
    loaded: &mut Vec<Loaded>,
    findings: &mut Vec<Finding>,
) {
    let parsed = match text.parse::<cedar_policy::PolicySet>() {
        Ok(parsed) => parsed,
        Err(errors) => {
            findings.extend(errors.iter().map(|error| translate::syntax(error, file, text, layout)));
            return;
        }
    };
    // Cedar numbers policies and templates together, by their order in the file.
    let number = |id: &PolicyId| AsRef::<str>::as_ref(id).strip_prefix("policy")?.parse::<usize>().ok();
    let statement = |id: &PolicyId| layout.statements.get(number(id)?);
    for template in parsed.templates() {
        let span = statement(template.id()).map_or(0..0, |statement| statement.head.clone());
        let message = "policy templates (`?principal`, `?resource`) are not supported".to_owned();
        findings.push(Finding::at(Severity::Error, Rule::Template, file, text, span, message));
    }
    for policy in parsed.policies() {
        let (Some(number), Some(statement)) = (number(policy.id()), statement(policy.id())) else {
            findings.push(Finding::internal("a policy was not found in its own file"));
            return;
        };
        let id = origin.id(file, number + 1, policy.annotation("id"));
        let span = &statement.span;
        let (line, last) = (layout::position(text, span.start).0, layout::position(text, span.end).0);
        let place = Place { file: file.to_string(), line, last };
        loaded.push(Loaded {
            policy: policy.new_id(PolicyId::new(&id)),
            id,
            effect: policy.effect(),
            actions: Actions::of(policy, names),
            terms: Terms { place, namespace: origin.namespace().map(str::to_owned), ..Terms::default() },
            origin: origin.clone(),
            reach: Reach::of(policy, names),
            source: Source { file: Arc::clone(file), text: Arc::clone(text), statement: statement.clone() },
        });
    }
}

/// The first word of each policy as the scanner sees it.
#[cfg(test)]
pub(crate) fn layout_heads(text: &str) -> Vec<String> {
    let heads = Layout::of(text).statements.into_iter().map(|statement| statement.head);
    heads.map(|head| text.get(head).unwrap_or("").to_owned()).collect()
}

/// Refuses the second policy of an id; it is left out of all further checks.
fn check_ids(loaded: &mut Vec<Loaded>, findings: &mut Vec<Finding>) {
    let mut first: HashMap<String, (Arc<str>, Arc<str>, usize)> = HashMap::new();
    loaded.retain(|policy| {
        let source = &policy.source;
        let span = source.statement.annotation("id").map_or_else(|| source.head(), |id| id.span.clone());
        if let Some((file, text, at)) = first.get(&policy.id) {
            let place = format!("{file}:{}", layout::position(text, *at).0);
            let message = format!("the id `{}` is taken", policy.id);
            let finding = source.finding(Severity::Error, Rule::DuplicateId, span, message).of(&policy.id);
            findings.push(finding.help(format!("it is the id of the policy at {place}")));
            return false;
        }
        first.insert(policy.id.clone(), (Arc::clone(&source.file), Arc::clone(&source.text), span.start));
        true
    });
}

/// Refuses ids that policies of other texts have taken.
pub(crate) fn taken(ids: &HashSet<&str>, loaded: &[Loaded], findings: &mut Vec<Finding>) {
    for policy in loaded.iter().filter(|policy| ids.contains(policy.id.as_str())) {
        let message = format!("the id `{}` is taken by a policy of another origin", policy.id);
        let source = &policy.source;
        findings.push(source.finding(Severity::Error, Rule::DuplicateId, source.head(), message).of(&policy.id));
    }
}

/// Type-checks every policy against the schema, strictly.
fn validate(loaded: &[Loaded], validator: &Validator, findings: &mut Vec<Finding>) {
    let Ok(set) = cedar_policy::PolicySet::from_policies(loaded.iter().map(|loaded| loaded.policy.clone())) else {
        findings.push(Finding::internal("the policies could not be gathered"));
        return;
    };
    let by_id: HashMap<&str, &Loaded> = loaded.iter().map(|loaded| (loaded.id.as_str(), loaded)).collect();
    let result = validator.validate(&set, ValidationMode::Strict);
    let passed = result.validation_passed();
    let before = findings.len();
    for error in result.validation_errors() {
        if let Some(policy) = by_id.get(AsRef::<str>::as_ref(error.policy_id())) {
            findings.push(translate::validation(error, policy));
        }
    }
    if !passed && findings.len() == before {
        findings.push(Finding::internal("the policies do not type-check"));
    }
    // That a policy can never match follows from most errors, and is no news beside them.
    let failed: HashSet<&str> = result.validation_errors().map(|error| error.policy_id().as_ref()).collect();
    for warning in result.validation_warnings() {
        if failed.contains(AsRef::<str>::as_ref(warning.policy_id())) {
            continue;
        }
        if let Some(policy) = by_id.get(AsRef::<str>::as_ref(warning.policy_id())) {
            findings.push(translate::warning(warning, policy));
        }
    }
}
