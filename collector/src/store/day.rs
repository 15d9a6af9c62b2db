//! Days, and the ids of records within one.
//!
//! A record lies in the file of its own day (UTC), under an id that is its time of day: the table is clustered by time,
//! so "newest first" and time ranges need no index of their own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use callgate_model::CallId;
use jiff::civil::Date;
use uuid::Uuid;

use crate::StoreError;
use crate::error::At as _;

/// A day in UTC; prints as `2026-11-22`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(i64);

/// Unit: microseconds.
const DAY_US: i64 = 86_400 * 1_000_000;
/// Bits of an id below its microsecond: records of one microsecond are told apart by them.
pub(crate) const ID_SHIFT: u32 = 20;
/// First and last day that get a file of their own; a clock that is further off shares these.
/// Days since the Unix epoch: 2020-01-01 and 2199-12-31.
const RANGE: (i64, i64) = (18_262, 84_005);

impl Day {
    /// The day of a record's time, and the least id that it can have there.
    #[must_use]
    pub(crate) fn place(time_us: u64) -> (Self, i64) {
        let time = i64::try_from(time_us).unwrap_or(i64::MAX);
        let (day, of_day) = (time / DAY_US, time % DAY_US);
        let (day, of_day) = match day {
            day if day < RANGE.0 => (RANGE.0, 0),
            day if day > RANGE.1 => (RANGE.1, DAY_US - 1),
            day => (day, of_day),
        };
        (Self(day), of_day << ID_SHIFT)
    }

    /// The day of a time. Unit: microseconds since the Unix epoch.
    #[must_use]
    pub fn of(time_us: u64) -> Self {
        Self::place(time_us).0
    }

    /// The day before the one in which a UUID of version 7 was made; none for other versions.
    ///
    /// Everything that belongs to the call or session was recorded on that day or later.
    pub(crate) fn not_before(id: Uuid) -> Option<Self> {
        let (seconds, _) = id.get_timestamp()?.to_unix();
        Some(Self(i64::try_from(seconds / 86_400).ok()?.saturating_sub(1)))
    }

    /// Where the file of this day is.
    pub(crate) fn file(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.db"))
    }

    /// The days that have a file in `dir`, oldest first.
    pub(crate) fn list(dir: &Path) -> Result<Vec<Self>, StoreError> {
        let mut days = Vec::new();
        for entry in std::fs::read_dir(dir).at(dir)? {
            let name = entry.at(dir)?.file_name();
            if let Some(day) = name.to_str().and_then(|name| name.strip_suffix(".db")).and_then(|d| d.parse().ok()) {
                days.push(day);
            }
        }
        days.sort_unstable();
        Ok(days)
    }

    fn epoch() -> Date {
        Date::constant(1970, 1, 1)
    }
}

/// Least day in which records of a call can lie.
pub(crate) fn first_day_of(call: Option<CallId>, session: Option<Uuid>) -> Option<Day> {
    [call.map(|c| c.0), session].into_iter().flatten().filter_map(Day::not_before).max()
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use jiff::ToSpan as _;
        match Self::epoch().checked_add(self.0.days()) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "day {}", self.0),
        }
    }
}

impl FromStr for Day {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let date: Date = text.parse().map_err(|_| ())?;
        // jiff reads other shapes too; a file or cursor has exactly this one.
        if date.to_string() != text {
            return Err(());
        }
        let span = date.since((jiff::Unit::Day, Self::epoch())).map_err(|_| ())?;
        Ok(Self(span.get_days().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in ["2020-01-01", "2026-11-22", "2199-12-31"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        assert_eq!(Day::of(1_795_392_000_000_000).to_string(), "2026-11-23");
        for text in ["", "index", "2026-11-2", "20261122", "2026-11-22T00"] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_follow_time_and_wild_clocks_share_two_files() {
        let noon = 1_795_348_800_000_000;
        let ((day, a), (same, b)) = (Day::place(noon), Day::place(noon + 1));
        assert_eq!(day, same);
        assert_eq!(b - a, 1 << ID_SHIFT);
        assert_eq!(Day::of(0).to_string(), "2020-01-01");
        assert_eq!(Day::of(u64::MAX).to_string(), "2199-12-31");
        assert!(Day::place(u64::MAX).1.checked_add(1 << ID_SHIFT).is_some());
    }

    #[test]
    fn a_call_is_not_looked_for_before_it_was_made() {
        let call = CallId::new();
        let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
        assert!(Day::not_before(call.0).unwrap() < Day::of(now));
        assert_eq!(Day::not_before(Uuid::nil()), None);
    }
}
