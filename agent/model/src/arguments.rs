//! The arguments of one call as policy sees them: values by JSON pointer, each of one kind.
//!
//! Closed-world: what is complete holds every value of the call, so what is absent here was not sent.
//! Readers of protocols make them (`wire::arguments` for HTTP), policy judges them; values never reach a log.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// A number with four decimal places, as Cedar's `decimal`. Unit: ten-thousandths.
///
/// Prints as Cedar reads it: `12.3400`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Decimal(pub i64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, absolute) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:04}", absolute / 10_000, absolute % 10_000)
    }
}

/// One value of a call.
#[derive(Clone, PartialEq, Eq)]
pub enum Argument {
    /// Text. Whatever a form or a query sends is text.
    Text(String),
    /// A number, exactly: in every form that it can be expressed in, at least one.
    Number {
        /// As a whole number: `1e3` and `1000.0` are whole.
        whole: Option<i64>,
        /// With up to four decimal places; whole numbers too, where they are in range.
        decimal: Option<Decimal>,
    },
    /// True or false.
    Flag(bool),
    /// A list of texts, as a set. Its elements stand beside it, each at its own pointer.
    List(BTreeSet<String>),
    /// An object, or a list of other things than texts: what is in it stands beside it.
    Nested,
    /// Something that no rule can speak of: null, or a number beyond range or precision.
    Other,
}

/// The maps that policies read: `context.arguments.KIND`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArgumentKind {
    /// `text`.
    Text,
    /// `number`.
    Number,
    /// `decimal`.
    Decimal,
    /// `flag`.
    Flag,
    /// `list`.
    List,
}

impl ArgumentKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Text, Self::Number, Self::Decimal, Self::Flag, Self::List];

    /// The word in policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Decimal => "decimal",
            Self::Flag => "flag",
            Self::List => "list",
        }
    }
}

impl Argument {
    /// Whether it stands in the map of `kind`. A whole number stands in two: `number` and `decimal`.
    #[must_use]
    pub fn stands_in(&self, kind: ArgumentKind) -> bool {
        match self {
            Self::Text(_) => kind == ArgumentKind::Text,
            Self::Number { whole, decimal } => match kind {
                ArgumentKind::Number => whole.is_some(),
                ArgumentKind::Decimal => decimal.is_some(),
                _ => false,
            },
            Self::Flag(_) => kind == ArgumentKind::Flag,
            Self::List(_) => kind == ArgumentKind::List,
            Self::Nested | Self::Other => false,
        }
    }

    /// The kinds that it stands in, for people; `nested` or `other` where it stands in none.
    #[must_use]
    pub fn shape(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number { whole: Some(_), .. } => "number",
            Self::Number { .. } => "decimal",
            Self::Flag(_) => "flag",
            Self::List(_) => "list",
            Self::Nested => "nested",
            Self::Other => "other",
        }
    }
}

/// Values stay out of logs: the shape alone.
impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shape())
    }
}

macro_rules! unfit {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal, $sentence:literal;)+) => {
        /// Why the arguments of a call are not complete, or do not fit the rules that name them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Unfit { $($(#[doc = $doc])+ $variant,)+ }

        impl Unfit {
            /// Every cause, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in records and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What is wrong, in one phrase without any byte of the call.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }
        }
    };
}

unfit! {
    /// The body, or what it unfolds to, is over the bound.
    TooLarge = "too_large", "the arguments are larger than can be read";
    /// Brackets nest deeper than is read.
    TooDeep = "too_deep", "the arguments are nested too deeply";
    /// A body of no type that is read, none at all, or several.
    ContentType = "content_type", "the content type is none whose arguments are understood";
    /// A compressed body.
    ContentEncoded = "content_encoded", "the body is content-encoded";
    /// Not UTF-8.
    NotUtf8 = "not_utf8", "the arguments are not UTF-8";
    /// Begins with a byte order mark: some readers skip it, some fail.
    ByteOrderMark = "byte_order_mark", "the body begins with a byte order mark";
    /// Not what its content type says: comments, NaN, a comma too many, a broken escape.
    Malformed = "malformed", "the arguments are malformed";
    /// A name is there twice, or twice but for the case of its letters: readers take the first, the last, or a list.
    Duplicate = "duplicate", "a name is there twice";
    /// A rule names the argument as another kind than was sent.
    OtherKind = "other_kind", "an argument is of another kind than the rules expect";
    /// The protocol is one whose arguments are not decoded, or they were not read.
    NotRead = "not_read", "the arguments were not read";
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Unfit {}

/// Most memory that the arguments of one call take, roughly. Unit: bytes.
/// Source: ours; eight times the largest body that is read.
const WEIGHT_MAX: usize = 8 << 20;

/// What one entry weighs beside its name and its text. Unit: bytes. Source: two tree nodes and a set's slot, rounded up.
const ENTRY_WEIGHT: usize = 128;

/// Every value of one call, by JSON pointer (RFC 6901).
///
/// `/items/0/price` is in the body, whether JSON or form; `?page` is a parameter of the query.
/// The body as a whole is the empty pointer. `~` and `/` within a name of the body are `~0` and `~1`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Arguments {
    values: BTreeMap<String, Argument>,
    /// The pointers as a reader without regard for case sees them.
    folded: HashSet<String>,
    weight: usize,
}

impl Arguments {
    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    ///
    /// # Errors
    /// [`Unfit::Duplicate`] if the pointer is taken, also by one that differs in case alone: some services match names
    /// without regard for case. [`Unfit::TooLarge`] if it is too much in all.
    pub fn insert(&mut self, pointer: String, argument: Argument) -> Result<(), Unfit> {
        let content = match &argument {
            Argument::Text(text) => text.len(),
            Argument::List(items) => items.iter().map(|item| item.len() + ENTRY_WEIGHT).sum(),
            _ => 0,
        };
        self.weight = self.weight.saturating_add(2 * pointer.len() + content + ENTRY_WEIGHT);
        if self.weight > WEIGHT_MAX {
            return Err(Unfit::TooLarge);
        }
        if !self.folded.insert(fold(&pointer)) {
            return Err(Unfit::Duplicate);
        }
        match self.values.entry(pointer) {
            Entry::Vacant(entry) => {
                entry.insert(argument);
                Ok(())
            }
            Entry::Occupied(_) => Err(Unfit::Duplicate),
        }
    }

    /// Replaces a value that is there, such as a list whose elements are known now: what it holds must be there already.
    pub fn refine(&mut self, pointer: &str, argument: Argument) {
        if let Some(value) = self.values.get_mut(pointer) {
            *value = argument;
        }
    }

    /// Whether there is a value at `pointer`, or at one that differs in case alone.
    #[must_use]
    pub fn holds(&self, pointer: &str) -> bool {
        self.folded.contains(&fold(pointer))
    }

    /// The value at `pointer`.
    #[must_use]
    pub fn get(&self, pointer: &str) -> Option<&Argument> {
        self.values.get(pointer)
    }

    /// Every pointer and its value, in the order of the pointers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Argument)> {
        self.values.iter().map(|(pointer, argument)| (pointer.as_str(), argument))
    }

    /// How many there are, nested ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Values stay out of logs: the number of them alone.
impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arguments({})", self.len())
    }
}

/// What is known of a call's arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArgumentsState {
    /// Nobody looked: no rule names any.
    NotRead,
    /// They cannot be told for certain.
    Unfit(Unfit),
    /// All of them are known.
    Complete(Arguments),
}

/// One form for all cases of a letter: upper first, so that `ſ` is an `s` and the Kelvin sign a `k`.
fn fold(pointer: &str) -> String {
    if pointer.is_ascii() {
        return pointer.to_ascii_lowercase();
    }
    pointer.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_print_as_cedar_reads_them() {
        for (units, text) in [(0, "0.0000"), (-1, "-0.0001"), (123_400, "12.3400"), (-10_000, "-1.0000")] {
            assert_eq!(Decimal(units).to_string(), text);
        }
        assert_eq!(Decimal(i64::MIN).to_string(), "-922337203685477.5808");
    }

    #[test]
    fn a_name_twice_is_refused_whatever_its_case() {
        for (first, second) in [("/a", "/a"), ("/amount", "/Amount"), ("/s", "/\u{17f}"), ("/k", "/\u{212a}")] {
            let mut arguments = Arguments::new();
            arguments.insert(first.into(), Argument::Flag(true)).unwrap();
            assert_eq!(arguments.insert(second.into(), Argument::Other), Err(Unfit::Duplicate), "{second}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut arguments = Arguments::new();
        let refused = (0..1_000_000).find_map(|n| arguments.insert(format!("/{n}"), Argument::Other).err());
        assert_eq!(refused, Some(Unfit::TooLarge));
        assert!(arguments.len() < 100_000);
    }

    #[test]
    fn values_stay_out_of_logs() {
        let mut arguments = Arguments::new();
        arguments.insert("/pin".into(), Argument::Text("4711".into())).unwrap();
        assert!(!format!("{arguments:?} {:?}", arguments.get("/pin")).contains("4711"));
    }
}
