//! A bounded map that forgets what was not used lately, in constant time.
//!
//! Two generations: a lookup moves an entry into the young one; when the young one is full it becomes the old one,
//! and what the old one still held is forgotten. At most `limit` entries, and anything among the last `limit / 2`
//! distinct keys used is always present. An exact LRU list would cost a second index for no benefit here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// A shared, bounded map of cheap-to-clone values (`Arc`s).
pub(crate) struct Generations<K, V> {
    half: usize,
    both: Mutex<Both<K, V>>,
}

struct Both<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    /// Holds at most `limit` entries (at least 2).
    pub fn new(limit: usize) -> Self {
        Self { half: (limit / 2).max(1), both: Mutex::new(Both { young: HashMap::new(), old: HashMap::new() }) }
    }

    /// The entry of `key`, when it is present and `fresh`; else what `make` returns, which is kept.
    ///
    /// `make` runs under the lock: it must be cheap.
    pub fn get_or(&self, key: &K, fresh: impl Fn(&V) -> bool, make: impl FnOnce() -> V) -> V {
        let mut both = self.both.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = both.young.get(key)
            && fresh(value)
        {
            return value.clone();
        }
        let value = match both.old.remove(key) {
            Some(value) if fresh(&value) => value,
            _ => make(),
        };
        if both.young.len() >= self.half && !both.young.contains_key(key) {
            both.old = std::mem::take(&mut both.young);
        }
        both.young.insert(key.clone(), value.clone());
        value
    }

    /// The entry of `key`, when it is present.
    pub fn get(&self, key: &K) -> Option<V> {
        let both = self.both.lock().unwrap_or_else(PoisonError::into_inner);
        both.young.get(key).or_else(|| both.old.get(key)).cloned()
    }

    /// Forgets `key`.
    pub fn remove(&self, key: &K) {
        let mut both = self.both.lock().unwrap_or_else(PoisonError::into_inner);
        both.young.remove(key);
        both.old.remove(key);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let both = self.both.lock().unwrap();
        both.young.len() + both.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used_and_stays_within_its_limit() {
        let cache = Generations::new(8);
        cache.get_or(&5000, |_| true, || 70);
        for n in 0..1000u32 {
            cache.get_or(&n, |_| true, || n);
            assert_eq!(cache.get_or(&5000, |_| true, || panic!("forgotten at {n}")), 70);
            assert!(cache.len() <= 8, "{}", cache.len());
        }
    }

    #[test]
    fn remakes_what_is_stale_or_removed() {
        let cache = Generations::new(4);
        assert_eq!(cache.get_or(&"a", |_| true, || 1), 1);
        assert_eq!(cache.get_or(&"a", |v| *v > 1, || 2), 2);
        cache.remove(&"a");
        assert_eq!(cache.get_or(&"a", |_| true, || 3), 3);
    }
}
