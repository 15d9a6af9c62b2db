//! Which records are meant, and that as SQL.

use callgate_model::{CallId, Reason, Record, RecordKind, SessionId, StreamId, Verdict};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _};

use super::day::{Day, first_day_of};
use super::row::verdict_word;
use super::text::fts_query;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $word:literal;)*) => {
        /// Kind of a record, by the word that it has in JSON.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Kind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The kind of a record.
            #[must_use]
            pub fn of(record: &Record) -> Self {
                match &record.kind { $(RecordKind::$kind(_) => Self::$kind,)* }
            }

            /// The word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }
        }

        impl std::str::FromStr for Kind {
            type Err = ();
            fn from_str(word: &str) -> Result<Self, ()> {
                match word { $($word => Ok(Self::$kind),)* _ => Err(()) }
            }
        }
    };
}

kinds! {
    /// A call was decided.
    Begin = "begin";
    /// A piece of a body.
    Chunk = "chunk";
    /// A call ended.
    End = "end";
    /// A connection ended.
    Connection = "connection";
    /// A workload was enrolled or let go.
    Enrolment = "enrolment";
    /// The kernel refused something.
    KernelDenial = "kernel_denial";
    /// A question of DNS was answered or refused.
    Dns = "dns";
    /// The policy set changed.
    Policy = "policy";
    /// The agent about itself.
    Agent = "agent";
}

/// Which records are meant: all conditions that are set must hold.
///
/// Session, workload, function and verdict of a chunk or an end are those of its call's begin.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    /// Chain.
    pub stream: Option<StreamId>,
    /// Workload's entity id, or what follows its first `/`: `build` finds `run/build`.
    pub workload: Option<String>,
    /// Session.
    pub session: Option<SessionId>,
    /// Call.
    pub call: Option<CallId>,
    /// Text that the function's printed form contains; ASCII case does not matter.
    pub function: Option<String>,
    /// Allow or deny.
    pub verdict: Option<Verdict>,
    /// Reason of the decision, or of the end.
    pub reason: Option<Reason>,
    /// Kinds; none: all.
    pub kinds: Vec<Kind>,
    /// Not before. Unit: microseconds since the Unix epoch; inclusive.
    pub from_us: Option<u64>,
    /// Before. Unit: microseconds since the Unix epoch; exclusive.
    pub until_us: Option<u64>,
    /// Words that all occur in the record; `"two words"` in that order, `pre*` begins with.
    pub text: Option<String>,
}

/// Conditions on table `r` (records), with their parameters.
#[derive(Default)]
pub(crate) struct Conditions {
    /// Joined by AND.
    pub sql: Vec<String>,
    /// For `?`, in order.
    pub values: Vec<Value>,
    /// Query for `words`, where a text is asked for.
    pub words: Option<String>,
}

impl Filter {
    /// Whether a day can hold such a record.
    pub(crate) fn covers(&self, day: Day) -> bool {
        self.from_us.is_none_or(|from| day >= Day::of(from))
            && self.until_us.is_none_or(|until| day <= Day::of(until))
            && first_day_of(self.call, self.session.map(|s| s.0)).is_none_or(|first| day >= first)
    }

    /// The filter as conditions within one day; none if no record of that day can fit.
    pub(crate) fn conditions(&self, day: Day, connection: &Connection) -> rusqlite::Result<Option<Conditions>> {
        let mut is = Conditions::default();
        if let Some(StreamId(stream)) = &self.stream {
            let mut find = connection.prepare_cached("SELECT id FROM names WHERE text = ?")?;
            let Some(id) = find.query_row([stream], |row| row.get::<_, i64>(0)).optional()? else { return Ok(None) };
            is.and("r.stream = ?", Value::Integer(id));
        }
        if let Some(workload) = &self.workload {
            let mut find = connection
                .prepare_cached("SELECT id FROM names WHERE text = ?1 OR substr(text, instr(text, '/') + 1) = ?1")?;
            let ids = find.query_map([workload], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
            match ids[..] {
                [] => return Ok(None),
                [id] => is.and("r.workload = ?", Value::Integer(id)),
                _ => is.sql.push(format!("r.workload IN ({})", list(ids.iter()))),
            }
        }
        if let Some(session) = self.session {
            is.and("r.session = ?", blob(session.0));
        }
        if let Some(call) = self.call {
            is.and("r.call = ?", blob(call.0));
        }
        if let Some(function) = &self.function {
            let like = "r.function IN (SELECT id FROM functions WHERE text LIKE ? ESCAPE '\\')";
            is.and(like, Value::Text(format!("%{}%", escape_like(function))));
        }
        // Words of closed lists are written into the SQL, so that the partial indices are found.
        if let Some(verdict) = self.verdict {
            is.sql.push(format!("r.verdict = '{}'", verdict_word(verdict)));
        }
        if let Some(reason) = self.reason {
            is.sql.push(format!("r.reason = '{reason}'"));
            if reason != Reason::Permitted {
                is.sql.push("r.reason <> 'permitted'".into());
            }
        }
        if !self.kinds.is_empty() {
            is.sql.push(format!("r.kind IN ({})", list(self.kinds.iter().map(|kind| format!("'{}'", kind.as_str())))));
            if !self.kinds.iter().any(|kind| matches!(kind, Kind::Chunk | Kind::End)) {
                is.sql.push("r.kind NOT IN ('chunk', 'end')".into());
            }
        }
        if let Some((of_day, id)) = self.from_us.map(Day::place)
            && of_day == day
        {
            is.and("r.id >= ?", Value::Integer(id));
        }
        if let Some((of_day, id)) = self.until_us.map(Day::place)
            && of_day == day
        {
            is.and("r.id < ?", Value::Integer(id));
        }
        if let Some(text) = &self.text {
            match fts_query(text) {
                Some(words) => is.words = Some(words),
                None => return Ok(None),
            }
        }
        Ok(Some(is))
    }
}

impl Conditions {
    fn and(&mut self, sql: &str, value: Value) {
        self.sql.push(sql.into());
        self.values.push(value);
    }
}

fn blob(id: uuid::Uuid) -> Value {
    Value::Blob(id.into_bytes().to_vec())
}

fn list(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
