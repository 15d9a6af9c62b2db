//! The options that say which records are meant.

use callgate_collector::Filter;
use callgate_model::{Reason, SessionId, Verdict};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Which records.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Workload: its entity id, or what follows the first `/` (`build` finds `run/build`)
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// Part of the function as it prints, for instance `POST api.x/v1/`; upper and lower case are the same
    #[arg(long, value_name = "TEXT")]
    pub function: Option<String>,
    /// What policy said
    #[arg(long, value_name = "VERDICT", value_parser = verdict_parser())]
    pub decision: Option<Verdict>,
    /// Why: of the decision, or of the end
    #[arg(long, value_name = "REASON", value_parser = reason_parser(), hide_possible_values = true)]
    pub reason: Option<Reason>,
    /// Session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    #[command(flatten)]
    pub window: Window,
}

/// From when, until when.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Window {
    /// Not before: `15m`, `2h` or `3d` ago, `2026-11-22`, `2026-11-22T18:00` (local) or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<u64>,
    /// Before: as --since
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<u64>,
}

impl FilterArgs {
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            workload: self.workload.clone(),
            function: self.function.clone(),
            verdict: self.decision,
            reason: self.reason,
            session: self.session,
            from_us: self.window.since,
            until_us: self.window.until,
            ..Filter::default()
        }
    }
}

fn verdict_parser() -> impl clap::builder::TypedValueParser<Value = Verdict> {
    PossibleValuesParser::new(["allow", "deny"])
        .map(|word| if word == "allow" { Verdict::Allow } else { Verdict::Deny })
}

fn reason_parser() -> impl clap::builder::TypedValueParser<Value = Reason> {
    let words = Reason::ALL.iter().map(|reason| reason.as_str());
    PossibleValuesParser::new(words.collect::<Vec<_>>()).map(|word| word.parse().unwrap_or(Reason::Internal))
}

/// A time, in microseconds since the Unix epoch.
fn parse_time(text: &str) -> Result<u64, String> {
    time_of(text, Timestamp::now(), &TimeZone::system())
        .ok_or_else(|| "expected `15m`, `2h`, `3d`, `2026-11-22`, `2026-11-22T18:00` or RFC 3339".into())
}

fn time_of(text: &str, now: Timestamp, zone: &TimeZone) -> Option<u64> {
    let local = |time: DateTime| time.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()).filter(|days| *days >= 0);
    let time = if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else if let Ok(time) = text.parse::<DateTime>() {
        // A date alone is its midnight.
        local(time)?
    } else if let Some(days) = days {
        now.checked_sub(SignedDuration::from_hours(days.checked_mul(24)?)).ok()?
    } else {
        let ago: SignedDuration = text.parse().ok().filter(|ago: &SignedDuration| !ago.is_negative())?;
        now.checked_sub(ago).ok()?
    };
    u64::try_from(time.as_microsecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_help_names() {
        let now: Timestamp = "2026-11-22T18:30:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (text, expected) in [
            ("15m", "2026-11-22T18:15:00Z"),
            ("2h", "2026-11-22T16:30:00Z"),
            ("1h30m", "2026-11-22T17:00:00Z"),
            ("3d", "2026-11-19T18:30:00Z"),
            ("2026-11-22", "2026-11-21T23:00:00Z"),
            ("2026-11-22T18:00", "2026-11-22T17:00:00Z"),
            ("2026-11-22T18:00:05.5Z", "2026-11-22T18:00:05.5Z"),
            ("2026-11-22T18:00:00+02:00", "2026-11-22T16:00:00Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(time_of(text, now, &zone), u64::try_from(expected.as_microsecond()).ok(), "{text}");
        }
        for text in ["", "x", "-2h", "-3d", "yesterday", "1969-01-01T00:00:00Z"] {
            assert_eq!(time_of(text, now, &zone), None, "{text}");
        }
    }
}
