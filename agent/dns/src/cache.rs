//! Answers that upstreams gave a moment ago, for as long as they said.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::question::Question;

/// Longest time that an answer is kept. Unit: seconds. Source: ours; an operator who changes a name waits no longer.
const POSITIVE_MAX: u32 = 3_600;

/// Longest time that "no such name" is kept. Unit: seconds. Source: RFC 2308 §5 allows 1 to 3 hours; ours is shorter.
const NEGATIVE_MAX: u32 = 300;

/// Longest answer kept. Unit: bytes. With the default number of entries, 16 MiB in all.
const ANSWER_MAX: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Cache {
    max: usize,
    entries: Mutex<HashMap<Key, Entry>>,
}

/// What makes two questions one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    name: Name,
    query_type: RecordType,
    dnssec_ok: bool,
    checking_disabled: bool,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<Message>,
    stored: Instant,
    ttl: u32,
}

impl Cache {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, entries: Mutex::default() }
    }

    /// The answer, with what is left of its records' lives.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let (answer, age) = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.get(&key(question))?;
            let age = entry.age(now);
            if age >= entry.ttl {
                return None;
            }
            (Arc::clone(&entry.answer), age)
        };
        let mut answer = Message::clone(&answer);
        for section in [&mut answer.answers, &mut answer.authorities, &mut answer.additionals] {
            for record in section {
                record.decrement_ttl(age);
            }
        }
        Some(answer)
    }

    /// Keeps an answer of `size` bytes, if it may be kept.
    pub(crate) fn put(&self, question: &Question, answer: &Message, size: usize, now: Instant) {
        let ttl = ttl(answer);
        if ttl == 0 || size > ANSWER_MAX || self.max == 0 {
            return;
        }
        let entry = Entry { answer: Arc::new(answer.clone()), stored: now, ttl };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.max {
            entries.retain(|_, entry| entry.age(now) < entry.ttl);
        }
        if entries.len() >= self.max {
            // The older half at once, so that a flood of names pays for the search rarely.
            let mut times: Vec<Instant> = entries.values().map(|entry| entry.stored).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            entries.retain(|_, entry| entry.stored > median);
        }
        entries.insert(key(question), entry);
    }
}

impl Entry {
    fn age(&self, now: Instant) -> u32 {
        let age: Duration = now.saturating_duration_since(self.stored);
        u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
    }
}

fn key(question: &Question) -> Key {
    Key {
        name: question.name.clone(),
        query_type: question.query_type(),
        dnssec_ok: question.dnssec_ok(),
        checking_disabled: question.checking_disabled,
    }
}

/// How long an answer may be kept; 0: not at all. Unit: seconds.
fn ttl(answer: &Message) -> u32 {
    let code = answer.metadata.response_code;
    if answer.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return 0;
    }
    let shortest = answer.answers.iter().map(|record| record.ttl).min();
    match shortest {
        Some(ttl) if code == ResponseCode::NoError => ttl.min(POSITIVE_MAX),
        // RFC 2308 §5: the lesser of the SOA's own life and the one that it names; without an SOA nothing is kept.
        _ => {
            let soa = answer.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            });
            soa.unwrap_or(0).min(NEGATIVE_MAX).min(shortest.unwrap_or(NEGATIVE_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;
    use crate::question::tests::{query, question};

    fn asked(name: &str) -> Question {
        question(&query(name, RecordType::A))
    }

    fn answer(ttl: u32) -> Message {
        let mut message = query("a.example.", RecordType::A).into_response();
        let name = Name::from_ascii("a.example.").unwrap();
        message.answers.push(Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, 1))));
        message
    }

    #[test]
    fn an_answer_lives_as_long_as_it_says_and_grows_older() {
        let (cache, now) = (Cache::new(10), Instant::now());
        cache.put(&asked("a.example."), &answer(60), 100, now);
        let later = cache.get(&asked("A.EXAMPLE."), now + Duration::from_secs(20)).unwrap();
        assert_eq!(later.answers[0].ttl, 40);
        assert!(cache.get(&asked("a.example."), now + Duration::from_secs(60)).is_none());
        assert!(cache.get(&asked("b.example."), now).is_none());
    }

    #[test]
    fn failures_and_what_has_no_life_are_not_kept() {
        let (cache, now) = (Cache::new(10), Instant::now());
        let mut failure = answer(60);
        failure.metadata.response_code = ResponseCode::ServFail;
        let mut cut = answer(60);
        cut.metadata.truncation = true;
        let mut nothing = answer(60);
        nothing.answers.clear();
        for (unkept, size) in [(&failure, 1), (&cut, 1), (&nothing, 1), (&answer(0), 1), (&answer(60), ANSWER_MAX + 1)]
        {
            cache.put(&asked("a.example."), unkept, size, now);
            assert!(cache.get(&asked("a.example."), now).is_none());
        }
    }

    #[test]
    fn no_such_name_is_kept_for_as_long_as_the_zone_says() {
        let (cache, now) = (Cache::new(10), Instant::now());
        let mut none = answer(60);
        none.answers.clear();
        none.metadata.response_code = ResponseCode::NXDomain;
        let root = Name::root();
        let soa = SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, 30);
        none.authorities.push(Record::from_rdata(root, 900, RData::SOA(soa)));
        cache.put(&asked("a.example."), &none, 100, now);
        let kept = cache.get(&asked("a.example."), now + Duration::from_secs(29)).unwrap();
        assert_eq!(kept.metadata.response_code, ResponseCode::NXDomain);
        assert!(cache.get(&asked("a.example."), now + Duration::from_secs(30)).is_none());
    }

    #[test]
    fn the_number_of_answers_is_bounded() {
        let (cache, now) = (Cache::new(8), Instant::now());
        for n in 0..100_u64 {
            cache.put(&asked(&format!("n{n}.example.")), &answer(60), 100, now + Duration::from_millis(n));
            assert!(cache.entries.lock().unwrap().len() <= 8);
        }
        assert!(cache.get(&asked("n99.example."), now + Duration::from_millis(99)).is_some());
    }
}
