//! What needs an operator: one alarm for each cause, with its times, gone when the cause is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use callgate_proto::v1::Alarm as Shown;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Most alarms at once; a cause beyond that is in log and record alone. Unit: causes.
const ALARMS_MAX: usize = 64;

/// The alarms that hold now, by cause.
#[derive(Debug, Default)]
pub struct Alarms {
    open: Mutex<BTreeMap<String, Alarm>>,
    gauge: Gauge,
}

#[derive(Debug)]
struct Alarm {
    text: String,
    first: SystemTime,
    last: SystemTime,
    count: u64,
}

impl Alarms {
    /// None, with the gauge `callgate_alarms`.
    pub fn register(registry: &mut Registry) -> Self {
        let alarms = Self::default();
        registry.register("callgate_alarms", "Alarms that hold now", alarms.gauge.clone());
        alarms
    }

    /// Raises the alarm of `cause`; whether that is news: it was not there, or said something else.
    pub fn raise(&self, cause: &str, text: &str) -> bool {
        let now = SystemTime::now();
        let mut open = self.open();
        let news = match open.get_mut(cause) {
            Some(alarm) => {
                let news = alarm.text != text;
                text.clone_into(&mut alarm.text);
                alarm.last = now;
                alarm.count += 1;
                news
            }
            None => {
                if open.len() < ALARMS_MAX {
                    open.insert(cause.into(), Alarm { text: text.into(), first: now, last: now, count: 1 });
                }
                true
            }
        };
        self.gauge.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
        news
    }

    /// Ends the alarm of `cause`; whether there was one.
    pub fn clear(&self, cause: &str) -> bool {
        let mut open = self.open();
        let was = open.remove(cause).is_some();
        self.gauge.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
        was
    }

    /// All that hold now, the oldest first.
    pub fn list(&self) -> Vec<Shown> {
        let micros =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let show = |alarm: &Alarm| Shown {
            text: alarm.text.clone(),
            first_us: micros(alarm.first),
            last_us: micros(alarm.last),
            count: alarm.count,
        };
        let mut all: Vec<Shown> = self.open().values().map(show).collect();
        all.sort_by_key(|alarm| alarm.first_us);
        all
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Alarm>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_has_one_alarm_until_it_is_gone() {
        let alarms = Alarms::default();
        assert!(alarms.raise("policies", "a.cedar is broken"));
        assert!(!alarms.raise("policies", "a.cedar is broken"));
        assert!(alarms.raise("policies", "b.cedar is broken"));
        assert!(alarms.raise("disk", "full"));
        let all = alarms.list();
        assert_eq!(all.len(), 2);
        let policies = all.iter().find(|alarm| alarm.text == "b.cedar is broken").unwrap();
        assert!(policies.count == 3 && policies.first_us > 0 && policies.last_us >= policies.first_us);
        assert_eq!(alarms.gauge.get(), 2);
        assert!(alarms.clear("policies") && !alarms.clear("policies"));
        assert_eq!((alarms.list().len(), alarms.gauge.get()), (1, 1));
    }

    #[test]
    fn a_flood_of_causes_takes_no_memory() {
        let alarms = Alarms::default();
        for cause in 0..2 * ALARMS_MAX {
            alarms.raise(&cause.to_string(), "x");
        }
        assert_eq!(alarms.list().len(), ALARMS_MAX);
    }
}
