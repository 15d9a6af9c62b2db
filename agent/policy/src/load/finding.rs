//! What is wrong with a policy: where, what, and what to do about it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::layout;

/// Most findings that are kept of one load: nobody reads more.
pub(super) const FINDINGS_MAX: usize = 200;

/// Whether a finding keeps the set from being loaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The set is refused.
    Error,
    /// The set is taken.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Which check a finding comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// It is not Cedar.
    Syntax,
    /// A file, a policy or its nesting is over the bound.
    TooLarge,
    /// An object of the cluster that has no text to read.
    Unfit,
    /// The objects of a namespace, or of all, are over a bound.
    OverBound,
    /// Templates are not supported.
    Template,
    /// A name that the schema does not have.
    UnknownName,
    /// Names are known, but do not fit together.
    Type,
    /// An annotation that is in no table, or only in one of a later version.
    Annotation,
    /// A value that an annotation does not take.
    AnnotationValue,
    /// An annotation on a policy that it cannot apply to.
    AnnotationPlace,
    /// Two policies have one id.
    DuplicateId,
    /// An entity's id that no entity can have.
    EntityId,
    /// A text that the attribute it is compared with never has.
    Literal,
    /// A use of `context` that the checks cannot see through, or of a part that is reserved.
    Context,
    /// The policy can never match.
    NeverMatches,
    /// A policy of one namespace speaks of another.
    Foreign,
    /// The policy demands what could not be enforced.
    Unenforceable,
    /// The policy forbids by what an argument or ancestor is, where it should say what is allowed.
    Exceeds,
    /// The policy permits more than anybody means.
    Broad,
    /// The policy rests on what a workload can choose.
    Spoofable,
    /// There is no policy.
    Empty,
    /// Text that reads otherwise than it looks.
    Misleading,
    /// A bug of ours.
    Internal,
}

/// One finding of a load.
///
/// Its JSON form is what `callgate policy check --json` prints, one a line.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Finding {
    /// Error or warning.
    pub severity: Severity,
    /// The check that it comes from.
    pub rule: Rule,
    /// Name of the file; empty if it concerns the set.
    pub file: String,
    /// Line, from 1; 0 if it concerns the whole file or set.
    pub line: usize,
    /// Column in characters, from 1; 0 as for `line`.
    pub column: usize,
    /// Characters from there on that it concerns, within the line; at least 1.
    pub width: usize,
    /// Id of the policy; empty if it could not be told.
    pub policy: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, often the nearest valid name; empty if there is no advice.
    pub help: String,
}

/// A finding of a set that was loaded.
pub type Warning = Finding;

impl Finding {
    pub(super) fn at(
        severity: Severity,
        rule: Rule,
        file: &str,
        text: &str,
        span: Range<usize>,
        message: String,
    ) -> Self {
        let (line, column) = layout::position(text, span.start);
        let marked = text.get(span).and_then(|marked| marked.lines().next()).unwrap_or("");
        Self {
            severity,
            rule,
            file: file.to_owned(),
            line,
            column,
            width: marked.chars().count().max(1),
            policy: String::new(),
            message,
            help: String::new(),
        }
    }

    /// An error about a file as a whole.
    pub(crate) fn whole(rule: Rule, file: &str, message: String) -> Self {
        Self {
            severity: Severity::Error,
            rule,
            file: file.to_owned(),
            line: 0,
            column: 0,
            width: 1,
            policy: String::new(),
            message,
            help: String::new(),
        }
    }

    /// The set has no policy.
    pub(crate) fn empty() -> Self {
        let mut finding = Self::whole(Rule::Empty, "", "there is no policy, so everything is denied".to_owned());
        finding.severity = Severity::Warning;
        finding.help("`callgate policy init DIR` writes a first one")
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::whole(Rule::Internal, "", format!("{message}: this is a bug of Callgate"))
    }

    pub(super) fn of(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.policy);
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {}", self.severity, self.message)?;
        if !self.help.is_empty() {
            write!(f, " ({})", self.help)?;
        }
        Ok(())
    }
}

/// Why a set was refused: at least one error, and the warnings beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadErrors {
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
}

impl LoadErrors {
    /// The errors among the findings.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.errors();
        if let Some(first) = errors.next() {
            first.fmt(f)?;
        }
        match errors.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl std::error::Error for LoadErrors {}

/// Puts findings into reading order, each once, and cuts an endless list short without losing its errors.
pub(crate) fn sort(findings: &mut Vec<Finding>) {
    findings.sort_by(|a, b| {
        (&a.file, a.line, a.column, a.severity, &a.message).cmp(&(&b.file, b.line, b.column, b.severity, &b.message))
    });
    findings.dedup();
    if findings.len() > FINDINGS_MAX {
        findings.sort_by_key(|finding| finding.severity);
        findings.truncate(FINDINGS_MAX);
    }
}
