//! Annotations: the table of them, and the check that each is known, well placed and well written.
//!
//! Cedar carries annotations without reading them, so a misspelt `@maks` would silently mask nothing.

use callgate_model::{MaskHow, MaskWordError, Masking, RecordDepth, TlsMode};
use cedar_policy::Effect;

use super::nearest::{advice, nearest_kind};
use super::{Finding, KindLookup, Loaded, Rule, Severity};

/// An annotation that policies may carry.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// The word after `@`.
    pub key: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
    /// Whether this version carries it out.
    pub support: Support,
}

/// Whether this version carries an annotation out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// On any policy.
    Any,
    /// On permits for `call`.
    CallPermits,
    /// On permits for `connect` alone.
    ConnectPermits,
    /// Known, but refused: a later version brings it.
    Later,
}

/// Every annotation there is.
pub const ANNOTATIONS: &[Annotation] = &[
    Annotation { key: "id", meaning: "name of the policy in records and refusals", support: Support::Any },
    Annotation {
        key: "mask",
        meaning: "kinds of findings to replace in the response, separated by commas",
        support: Support::CallPermits,
    },
    Annotation {
        key: "record",
        meaning: "how much of the bodies to keep: meta, head or full",
        support: Support::CallPermits,
    },
    Annotation { key: "tls", meaning: "what to do with TLS: passthrough or inspect", support: Support::ConnectPermits },
    Annotation { key: "hold", meaning: "group whose approval the call waits for", support: Support::Later },
    Annotation { key: "inject", meaning: "credential to give the call", support: Support::Later },
    Annotation { key: "limit", meaning: "most calls, bytes or rows in a time", support: Support::Later },
];

/// Longest `@id`. Unit: bytes.
const ID_MAX: usize = 128;

/// Checks the annotations of `policy` and reads its obligations.
pub(super) fn check(policy: &mut Loaded, kinds: KindLookup<'_>, findings: &mut Vec<Finding>) {
    let annotations: Vec<(String, String)> =
        policy.policy.annotations().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    for (key, value) in annotations {
        if let Err((rule, message, help)) = check_one(policy, &key, &value, kinds) {
            let place = policy.source.statement.annotation(&key);
            let span = place.map_or_else(|| policy.source.head(), |place| place.span.clone());
            let finding = policy.source.finding(Severity::Error, rule, span, message);
            findings.push(finding.of(&policy.id).help(help));
        }
    }
}

type Wrong = (Rule, String, String);

fn check_one(policy: &mut Loaded, key: &str, value: &str, kinds: KindLookup<'_>) -> Result<(), Wrong> {
    let Some(row) = ANNOTATIONS.iter().find(|row| row.key == key) else {
        let known: Vec<&str> =
            ANNOTATIONS.iter().filter(|row| row.support != Support::Later).map(|row| row.key).collect();
        return Err((Rule::Annotation, format!("unknown annotation `@{key}`"), advice(key, &known)));
    };
    let permit = policy.effect == Effect::Permit;
    let place = |fits: bool, place: &str| {
        let help = format!("`@{key}` belongs on a permit for action {place}: {}", row.meaning);
        if fits { Ok(()) } else { Err((Rule::AnnotationPlace, format!("`@{key}` has no effect on this policy"), help)) }
    };
    match row.support {
        Support::Any => {}
        Support::CallPermits => place(permit && policy.actions.call, "`call`")?,
        Support::ConnectPermits => {
            place(permit && policy.actions.connect && !policy.actions.call, "`connect` and no other")?;
        }
        Support::Later => {
            let message = format!("`@{key}` is not supported by this version");
            return Err((Rule::Annotation, message, "nothing would carry it out, so the policy is refused".to_owned()));
        }
    }
    if value.trim().is_empty() {
        return Err((Rule::AnnotationValue, format!("`@{key}` needs a value"), row.meaning.to_owned()));
    }
    match key {
        "id" => check_id(value),
        "mask" => read_mask(value, kinds).map(|mask| policy.terms.mask = mask),
        "record" => {
            let depths = [("meta", RecordDepth::Meta), ("head", RecordDepth::Head), ("full", RecordDepth::Full)];
            read_word("record", value, &depths).map(|depth| policy.terms.record = Some(depth))
        }
        "tls" => {
            let modes = [("passthrough", TlsMode::Passthrough), ("inspect", TlsMode::Inspect)];
            read_word("tls", value, &modes).map(|mode| policy.terms.tls = Some(mode))
        }
        _ => Err((Rule::Internal, format!("`@{key}` is in the table, but nothing reads it"), String::new())),
    }
}

fn check_id(value: &str) -> Result<(), Wrong> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if value.len() <= ID_MAX && value.chars().all(plain) {
        return Ok(());
    }
    let help = format!("up to {ID_MAX} of the characters a-z A-Z 0-9 - _ . / : @");
    Err((Rule::AnnotationValue, format!("`{}` cannot be an id", value.escape_debug()), help))
}

fn read_mask(value: &str, kinds: KindLookup<'_>) -> Result<Masking, Wrong> {
    Masking::parse(value, kinds).map_err(|error| {
        let wrong = |message: String, help: String| (Rule::AnnotationValue, message, help);
        match &error {
            MaskWordError::Empty => {
                wrong("`@mask` has an empty word between its commas".to_owned(), "remove the comma".to_owned())
            }
            MaskWordError::Kind(word) => {
                let help = match nearest_kind(word, kinds) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => groups(kinds),
                };
                wrong(format!("`@mask` knows no kind `{}`", word.escape_debug()), help)
            }
            MaskWordError::How(word) => {
                let words: Vec<&str> = MaskHow::WORDS.iter().map(|(word, _)| *word).collect();
                wrong(format!("`@mask`: {error}"), advice(word, &words))
            }
            MaskWordError::Unfit(..) => {
                wrong(format!("`@mask`: {error}"), "redact it: without `=` and what follows".to_owned())
            }
            MaskWordError::Place(_) | MaskWordError::Places => {
                let help = "places are written json:/a/*/b, header:NAME or form:FIELD".to_owned();
                wrong(format!("`@mask`: {error}"), help)
            }
        }
    })
}

/// Names the groups of kinds that there are.
fn groups(kinds: KindLookup<'_>) -> String {
    let known = ["pii", "secrets", "all"].into_iter().filter(|group| kinds(group).is_some());
    let known: Vec<String> = known.map(|group| format!("`{group}`")).collect();
    format!("groups of kinds: {}", known.join(", "))
}

fn read_word<T: Copy>(key: &str, value: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    let word = value.trim();
    words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
        let message = format!("`@{key}` does not take `{}`", word.escape_debug());
        (Rule::AnnotationValue, message, advice(word, &known))
    })
}
