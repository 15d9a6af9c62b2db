//! Kinds of findings that the config brings: a name, a pattern of bounded length, a label.
//!
//! Their rows stand behind those of the table and are judged by the same rules: from one anchor on, in a window whose
//! bounds do not depend on how the stream was cut. Patterns are matched as bytes; `\w`, `\d`, `\b` mean ASCII.

use callgate_model::MaskKinds;
use regex_automata::dfa::regex::Regex;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::detectors::Outcome;
use crate::window::{NeedMore, Window};

/// First bit of custom kinds; those below belong to the table.
pub(crate) const CUSTOM_FROM: usize = 48;

/// Most custom kinds. Source: the bits that are left.
const CUSTOM_MAX: usize = 64 - CUSTOM_FROM;

/// Longest text that a pattern may match. Unit: bytes. Source: ours; as many may be held back.
const LENGTH_MAX: usize = 1024;

/// Most memory of one compiled pattern. Unit: bytes.
const SIZE_MAX: usize = 1 << 20;

/// The kinds that the config adds to the table. Without any: `Detectors::default()`.
#[derive(Clone, Default, Debug)]
pub struct Detectors {
    rows: Vec<Custom>,
}

#[derive(Clone)]
struct Custom {
    name: String,
    label: String,
    regex: Regex,
    longest: usize,
}

/// Shows no pattern: it may hold what is searched for.
impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custom").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a custom detector is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DetectorError {
    /// There are more than bits for them.
    #[error("more than {CUSTOM_MAX} custom detectors")]
    TooMany,
    /// The name is no word of `a-z 0-9 _`, or taken.
    #[error("`{0}` cannot be a detector's name: one of a-z, 0-9 and `_` that no other kind or group has")]
    Name(String),
    /// The label would break the JSON around it, or be found itself.
    #[error("the label of detector `{0}` must be printable ASCII without quotes and backslashes, 3 to 64 bytes")]
    Label(String),
    /// The pattern cannot be read or is too large.
    #[error("the pattern of detector `{0}` is refused: {1}")]
    Pattern(String, String),
    /// The pattern has no longest match, or one that is too long.
    #[error("the pattern of detector `{0}` may match more than {LENGTH_MAX} bytes: bound it, such as `{{1,64}}`")]
    Unbounded(String),
    /// The pattern matches nothing at all.
    #[error("the pattern of detector `{0}` matches the empty text")]
    Empty(String),
}

impl Detectors {
    /// Adds a kind; without a label it becomes `[masked:NAME]`.
    ///
    /// # Errors
    /// See [`DetectorError`].
    pub fn add(&mut self, name: &str, pattern: &str, label: Option<&str>) -> Result<(), DetectorError> {
        let owned = || name.to_owned();
        if self.rows.len() >= CUSTOM_MAX {
            return Err(DetectorError::TooMany);
        }
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(word) || self.kinds_named(name).is_some() {
            return Err(DetectorError::Name(owned()));
        }
        let label = label.map_or_else(|| format!("[masked:{name}]"), str::to_owned);
        let plain =
            |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\' | b'%' | b'&' | b'<' | b'>');
        if !(3..=64).contains(&label.len()) || !label.bytes().all(plain) {
            return Err(DetectorError::Label(owned()));
        }
        let config = syntax::Config::new().unicode(false).utf8(false);
        let parsed =
            syntax::parse_with(pattern, &config).map_err(|error| DetectorError::Pattern(owned(), error.to_string()))?;
        let longest = parsed.properties().maximum_len().filter(|longest| *longest <= LENGTH_MAX);
        let longest = longest.ok_or_else(|| DetectorError::Unbounded(owned()))?;
        if parsed.properties().minimum_len().unwrap_or(0) == 0 {
            return Err(DetectorError::Empty(owned()));
        }
        let regex = Regex::builder()
            .syntax(config)
            .thompson(thompson::Config::new().utf8(false))
            .dense(
                dense::Config::new()
                    .start_kind(StartKind::Both)
                    .dfa_size_limit(Some(SIZE_MAX))
                    .determinize_size_limit(Some(SIZE_MAX)),
            )
            .build(pattern)
            .map_err(|error| DetectorError::Pattern(owned(), error.to_string()))?;
        let row = Custom { name: owned(), label, regex, longest };
        if matches_within(&row, row.label.as_bytes()) {
            return Err(DetectorError::Label(owned()));
        }
        self.rows.push(row);
        Ok(())
    }

    /// The kinds that `word` stands for: as [`kinds_named`](crate::kinds_named), and the names of custom ones;
    /// `all` and `custom` hold those too.
    #[must_use]
    pub fn kinds_named(&self, word: &str) -> Option<MaskKinds> {
        let custom = self.kinds().filter(|(name, _)| *name == word || matches!(word, "all" | "custom"));
        let custom = custom.fold(MaskKinds::NONE, |kinds, (_, kind)| kinds.union(kind));
        match crate::kinds::kinds_named(word) {
            Some(kinds) => Some(kinds.union(custom)),
            None => (!custom.is_empty()).then_some(custom),
        }
    }

    /// Names and kinds of the custom detectors.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, MaskKinds)> {
        self.rows.iter().enumerate().map(|(at, row)| (row.name.as_str(), MaskKinds(1 << (CUSTOM_FROM + at))))
    }

    pub(crate) fn label(&self, row: usize) -> Option<&str> {
        self.row(row).map(|row| row.label.as_str())
    }

    pub(crate) fn name(&self, row: usize) -> Option<&str> {
        self.row(row).map(|row| row.name.as_str())
    }

    /// The custom rows among `kinds`.
    pub(crate) fn active(&self, kinds: u64) -> impl Iterator<Item = usize> + use<> {
        (CUSTOM_FROM..CUSTOM_FROM + self.rows.len()).filter(move |row| kinds >> row & 1 == 1)
    }

    /// A match, and the two bytes behind it that an assertion may look at.
    pub(crate) fn longest(&self, row: usize) -> usize {
        self.row(row).map_or(0, |row| row.longest + 2)
    }

    /// Where the first match at `from` or later begins.
    pub(crate) fn next(&self, row: usize, bytes: &[u8], from: usize) -> Option<usize> {
        let input = Input::new(bytes).range(from..);
        match self.row(row)?.regex.try_search(&input) {
            Ok(found) => found.map(|found| found.start()),
            Err(_) => (from < bytes.len()).then_some(from),
        }
    }

    /// Whether a match begins at the anchor, and where it ends.
    pub(crate) fn judge(&self, row: usize, window: &Window<'_>) -> Result<Outcome, NeedMore> {
        let Some(row) = self.row(row) else { return Ok(Outcome::Nothing) };
        let anchor = window.anchor();
        match walk(row, window.slice(0, usize::MAX), anchor) {
            Walk::Open(_) if !window.is_ended() => Err(NeedMore),
            Walk::Open(end) | Walk::Dead(end) => Ok(end.map_or(Outcome::Nothing, |end| Outcome::Found(anchor..end))),
        }
    }

    /// Where the first match begins, at `from` or later, that bytes to come may make; else the end of `bytes`.
    pub(crate) fn unfinished(&self, kinds: u64, bytes: &[u8], from: usize) -> usize {
        self.active(kinds).filter_map(|row| self.row(row)).fold(bytes.len(), |limit, row| {
            let first = from.max(bytes.len().saturating_sub(row.longest + 2));
            (first..limit).find(|at| matches!(walk(row, bytes, *at), Walk::Open(_))).unwrap_or(limit)
        })
    }

    fn row(&self, row: usize) -> Option<&Custom> {
        self.rows.get(row.checked_sub(CUSTOM_FROM)?)
    }
}

/// How a walk from one place ended, and where the match ends that it saw.
enum Walk {
    /// No byte to come can change it.
    Dead(Option<usize>),
    /// At the end of the bytes.
    Open(Option<usize>),
}

/// Walks the pattern's automaton from `at` on.
fn walk(row: &Custom, bytes: &[u8], at: usize) -> Walk {
    let dfa = row.regex.forward();
    let input = Input::new(bytes).range(at..).anchored(Anchored::Yes);
    let Ok(mut state) = dfa.start_state_forward(&input) else { return Walk::Open(None) };
    let mut end = None;
    for (ahead, byte) in bytes.get(at..).unwrap_or_default().iter().enumerate() {
        state = dfa.next_state(state, *byte);
        if dfa.is_special_state(state) {
            if dfa.is_match_state(state) {
                end = Some(at + ahead);
            } else if dfa.is_dead_state(state) || dfa.is_quit_state(state) {
                return Walk::Dead(end);
            }
        }
    }
    if dfa.is_match_state(dfa.next_eoi_state(state)) {
        end = Some(bytes.len());
    }
    Walk::Open(end)
}

fn matches_within(row: &Custom, text: &[u8]) -> bool {
    row.regex.is_match(text)
}
