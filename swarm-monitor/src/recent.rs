//! What this thread recorded last: from names and tags as they were given to their series, without a lock.

use std::cell::RefCell;
use std::sync::Arc;

use crate::series::Series;
use crate::sink::Tags;

/// A key has at most so many words: three tags of OpenTelemetry with their long names take twenty.
const WORDS: usize = 24;
/// Most strings of most keys are shorter than this, and most have no more tags.
const SHORT: usize = 32;
const FEW: usize = 5;
/// Those of other keys are, and all have no more.
const LONG: usize = 128;
const MANY: usize = 8;
/// A thread remembers so many keys.
const SLOTS: usize = 256;

/// A record's name and tags in the order they were given, and where to look for them.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    monitor: u64,
    /// Of all strings, five bits each, after the kind, which is not 0, so that the number of strings shows. In a key with a long string or many
    /// tags it is seven bits each, and the first of all bits is set.
    lengths: u128,
    hash: u64,
    name: &'a str,
    tags: Tags<'a>,
}

struct Slot {
    monitor: u64,
    lengths: u128,
    /// What the strings hold, one after the other; with their lengths, no other strings hold the same.
    words: [u64; WORDS],
    series: Arc<Series>,
}

thread_local! {
    static RECENT: RefCell<Vec<Option<Slot>>> = const { RefCell::new(Vec::new()) };
}

impl<'a> Key<'a> {
    /// `None` for what is too long, which is then looked for in the table.
    #[inline]
    pub(crate) fn new(monitor: u64, kind: u8, name: &'a str, tags: Tags<'a>) -> Option<Self> {
        if tags.len() > FEW || name.len() >= SHORT {
            return Key::long(monitor, kind, name, tags);
        }
        // Records with the same values under other names are rare: names of tags are compared, not hashed.
        let mut hash = monitor ^ digest(name.as_bytes());
        let mut lengths = (u64::from(kind) + 1) << 5 | name.len() as u64;
        let mut longest = 0;
        for (key, value) in tags {
            lengths = lengths << 10 | (key.len() as u64) << 5 | value.len() as u64;
            longest |= key.len() | value.len();
            hash = hash.rotate_left(7) ^ digest(value.as_bytes());
        }
        if longest >= SHORT {
            return Key::long(monitor, kind, name, tags);
        }
        let hash = fold(hash ^ SEEDS[0], lengths ^ SEEDS[1]);
        Some(Key { monitor, lengths: lengths.into(), hash, name, tags })
    }

    #[inline(never)]
    fn long(monitor: u64, kind: u8, name: &'a str, tags: Tags<'a>) -> Option<Self> {
        let mut hash = monitor ^ digest(name.as_bytes());
        let mut lengths = (u128::from(kind) + 1) << 7 | name.len() as u128;
        let mut longest = name.len();
        for (key, value) in tags.iter().take(MANY) {
            lengths = lengths << 14 | (key.len() as u128) << 7 | value.len() as u128;
            longest = longest.max(key.len()).max(value.len());
            hash = hash.rotate_left(7) ^ digest(value.as_bytes());
        }
        let hash = fold(hash ^ SEEDS[0], lengths as u64 ^ SEEDS[1]);
        (longest < LONG && tags.len() <= MANY).then_some(Key {
            monitor,
            lengths: lengths | 1 << 127,
            hash,
            name,
            tags,
        })
    }

    /// Goes through the words of all strings, as long as `see` agrees.
    #[inline(always)]
    fn words(&self, mut see: impl FnMut(u64) -> bool) -> bool {
        words(self.name.as_bytes(), &mut see)
            && self
                .tags
                .iter()
                .all(|(key, value)| words(key.as_bytes(), &mut see) && words(value.as_bytes(), &mut see))
    }

    #[inline(always)]
    fn is_at(&self, slot: &Slot) -> bool {
        let mut known = slot.words.iter();
        slot.lengths == self.lengths
            && slot.monitor == self.monitor
            && self.words(|word| known.next() == Some(&word))
    }
}

/// The series that the thread has for `key`.
#[inline]
pub(crate) fn with<R>(key: &Key<'_>, then: impl FnOnce(&Series) -> R) -> Option<R> {
    RECENT
        .try_with(|recent| {
            let recent = recent.borrow();
            let slot = recent.get(key.hash as usize % SLOTS)?.as_ref()?;
            key.is_at(slot).then(|| then(&slot.series))
        })
        .ok()?
}

/// Remembers it, unless it is too long altogether.
pub(crate) fn put(key: &Key<'_>, series: &Arc<Series>) {
    let mut words = [0; WORDS];
    let mut free = words.iter_mut();
    if !key.words(|word| free.next().map(|place| *place = word).is_some()) {
        return;
    }
    let slot = Slot { monitor: key.monitor, lengths: key.lengths, words, series: series.clone() };
    // Fails while the thread ends, and then nothing needs to be remembered.
    let _ = RECENT.try_with(|recent| {
        let mut recent = recent.borrow_mut();
        if recent.is_empty() {
            recent.resize_with(SLOTS, || None);
        }
        let old = recent[key.hash as usize % SLOTS].replace(slot);
        drop(recent);
        drop(old);
    });
}

/// Shows the words that tell a string from others of its length. Of a long one some bytes are in two.
#[inline(always)]
fn words(bytes: &[u8], mut see: impl FnMut(u64) -> bool) -> bool {
    match bytes.len() {
        0 => true,
        1..=8 => see(short(bytes)),
        9..=16 => see(eight(bytes, 0)) && see(eight(bytes, bytes.len() - 8)),
        17..=32 => {
            let (a, b) = (eight(bytes, 0), eight(bytes, 8));
            let (c, d) = (eight(bytes, bytes.len() - 16), eight(bytes, bytes.len() - 8));
            see(a) && see(b) && see(c) && see(d)
        }
        _ => long_words(bytes, &mut see),
    }
}

#[inline(never)]
fn long_words(bytes: &[u8], see: &mut dyn FnMut(u64) -> bool) -> bool {
    (0..bytes.len() / 8).all(|at| see(eight(bytes, 8 * at))) && see(eight(bytes, bytes.len() - 8))
}

#[inline(always)]
fn digest(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0 => 0,
        1..=8 => fold(short(bytes) ^ SEEDS[0], SEEDS[1]),
        _ => {
            let (first, last) = (eight(bytes, 0), eight(bytes, bytes.len() - 8));
            let middle = if bytes.len() > 16 { eight(bytes, bytes.len() / 2 - 4) } else { 0 };
            fold(first ^ SEEDS[0], last ^ SEEDS[1] ^ middle.rotate_left(32))
        }
    }
}

/// Digits of pi. A collision costs a look into the table and nothing else.
const SEEDS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Of one to eight bytes.
#[inline(always)]
fn short(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if len >= 4 {
        four(bytes, 0) | four(bytes, len - 4) << 32
    } else {
        u64::from(bytes[0]) | u64::from(bytes[len / 2]) << 8 | u64::from(bytes[len - 1]) << 16
    }
}

#[inline(always)]
fn four(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from(u32::from_le_bytes(*chunk)))
}

#[inline(always)]
fn eight(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PerformanceMonitor;
    use crate::metric::MetricKind;
    use crate::table::Found;

    /// Whether a thread that remembers the one takes the other for it.
    fn alike(one: &Key<'_>, other: &Key<'_>) -> bool {
        let monitor = PerformanceMonitor::new();
        let Found::Own(series) = monitor.inner.table.find("any", MetricKind::Counter, &[], false) else {
            return false;
        };
        put(one, &series);
        with(one, |_| ()).is_some() && with(other, |_| ()).is_some()
    }

    proptest! {
        #[test]
        fn keys_are_alike_only_for_the_same_names_and_tags(
            a in prop_oneof![
                prop::collection::vec("[ab]{0,40}", 1..8),
                prop::collection::vec("[ab]{0,3}", 1..20),
            ],
            b in prop::collection::vec("[ab]{0,3}", 1..20),
            same in prop::bool::ANY, kinds in (0..2u8, 0..2u8),
        ) {
            fn strings(all: &[String]) -> (&str, Vec<(&str, &str)>) {
                (&all[0], all[1..].chunks_exact(2).map(|tag| (&*tag[0], &*tag[1])).collect())
            }
            let (a, b) = (strings(&a), if same { strings(&a) } else { strings(&b) });
            if let (Some(mut one), Some(mut other)) =
                (Key::new(1, kinds.0, a.0, &a.1), Key::new(1, kinds.1, b.0, &b.1))
            {
                let equal = a == b && kinds.0 == kinds.1;
                prop_assert!(!equal || one.hash == other.hash);
                // Even where the hashes collide.
                (one.hash, other.hash) = (0, 0);
                let mut words = 0;
                one.words(|_| { words += 1; true });
                prop_assert_eq!(alike(&one, &other), equal && words <= WORDS);
            }
        }
    }

    #[test]
    fn a_string_of_every_length_is_told_from_its_neighbours() {
        for len in 1..LONG {
            let string = "x".repeat(len);
            let key = Key { hash: 0, ..Key::new(1, 0, &string, &[]).unwrap() };
            for at in 0..len {
                let mut other = string.clone();
                other.replace_range(at..=at, "y");
                assert!(!alike(&key, &Key { hash: 0, ..Key::new(1, 0, &other, &[]).unwrap() }), "{len} {at}");
            }
            assert!(alike(&key, &Key { hash: 0, ..Key::new(1, 0, &string.clone(), &[]).unwrap() }), "{len}");
        }
        let long = "x".repeat(LONG);
        assert!(Key::new(1, 0, &long, &[]).is_none());
        assert!(
            Key::new(1, 0, "x", &[("x", &long)]).is_none() && Key::new(1, 0, "x", &[(&long, "x")]).is_none()
        );
        assert!(Key::new(1, 0, "x", &[("x", "x"); MANY]).is_some());
        assert!(Key::new(1, 0, "x", &[("x", "x"); MANY + 1]).is_none());
    }
}
