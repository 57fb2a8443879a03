//! What this thread recorded last: from names and tags as they were given to their series, without a lock.

use std::cell::RefCell;
use std::sync::Arc;

use crate::series::Series;
use crate::sink::Tags;

/// A key has at most so many words, which is what five tags of usual length take.
const WORDS: usize = 16;
/// A thread remembers so many keys.
const SLOTS: usize = 256;

/// The names and tags of a record in the order they were given, packed into words; equal if and only if those are.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Key {
    words: [u64; WORDS],
    hash: u64,
}

struct Slot {
    key: Key,
    series: Arc<Series>,
}

thread_local! {
    static RECENT: RefCell<Vec<Option<Slot>>> = const { RefCell::new(Vec::new()) };
}

impl Key {
    /// `None` for what is too long, which is then looked for in the table.
    #[inline]
    pub(crate) fn new(monitor: u64, kind: u8, name: &str, tags: Tags<'_>) -> Option<Key> {
        let mut packer = Packer { words: [0; WORDS], len: 2, lengths: u64::from(kind) + 1, hash: monitor };
        if tags.len() > 5 {
            return None;
        }
        packer.words[0] = monitor;
        packer.put(name)?;
        for (key, value) in tags {
            packer.put(key)?;
            packer.put(value)?;
        }
        packer.words[1] = packer.lengths;
        let hash = fold(packer.hash ^ SEEDS[0], packer.lengths ^ SEEDS[1]);
        Some(Key { words: packer.words, hash })
    }
}

/// The series that the thread has for `key`.
#[inline]
pub(crate) fn with<R>(key: &Key, then: impl FnOnce(&Series) -> R) -> Option<R> {
    RECENT
        .try_with(|recent| {
            let recent = recent.borrow();
            let slot = recent.get(key.hash as usize % SLOTS)?.as_ref()?;
            (slot.key.words == key.words).then(|| then(&slot.series))
        })
        .ok()?
}

/// Remembers it.
pub(crate) fn put(key: Key, series: &Arc<Series>) {
    // Fails while the thread ends, and then nothing needs to be remembered.
    let _ = RECENT.try_with(|recent| {
        let mut recent = recent.borrow_mut();
        if recent.is_empty() {
            recent.resize_with(SLOTS, || None);
        }
        let old = recent[key.hash as usize % SLOTS].replace(Slot { key, series: series.clone() });
        drop(recent);
        drop(old);
    });
}

struct Packer {
    words: [u64; WORDS],
    len: usize,
    /// Five bits a string, after the kind, which is not 0, so that the number of strings shows.
    lengths: u64,
    hash: u64,
}

impl Packer {
    #[inline(always)]
    fn put(&mut self, string: &str) -> Option<()> {
        let bytes = string.as_bytes();
        let (low, high) = match bytes.len() {
            0 => (0, 0),
            1..=3 => {
                let middle = u64::from(bytes[bytes.len() / 2]) << 8;
                (u64::from(bytes[0]) | middle | u64::from(bytes[bytes.len() - 1]) << 16, 0)
            }
            4..=7 => (four(bytes, 0) | four(bytes, bytes.len() - 4) << 32, 0),
            8 => (eight(bytes, 0), 0),
            9..=31 => return self.put_long(bytes),
            _ => return None,
        };
        self.lengths = self.lengths << 5 | bytes.len() as u64;
        *self.words.get_mut(self.len)? = low;
        self.len += 1;
        self.mix(low, high);
        Some(())
    }

    #[inline(always)]
    fn put_long(&mut self, bytes: &[u8]) -> Option<()> {
        self.lengths = self.lengths << 5 | bytes.len() as u64;
        let (low, high) = (eight(bytes, 0), eight(bytes, bytes.len() - 8));
        let words = self.words.get_mut(self.len..self.len + 2)?;
        words.copy_from_slice(&[low, high]);
        self.len += 2;
        self.mix(low, high);
        if bytes.len() > 16 {
            let (low, high) = (eight(bytes, 8), eight(bytes, bytes.len() - 16));
            let words = self.words.get_mut(self.len..self.len + 2)?;
            words.copy_from_slice(&[low, high]);
            self.len += 2;
            self.mix(low, high);
        }
        Some(())
    }

    #[inline(always)]
    fn mix(&mut self, low: u64, high: u64) {
        self.hash = self.hash.rotate_left(7) ^ fold(low ^ SEEDS[0], high ^ SEEDS[1]);
    }
}

/// Digits of pi. A collision costs a look into the table and nothing else.
const SEEDS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
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

    proptest! {
        #[test]
        fn keys_are_equal_only_for_the_same_names_and_tags(
            a in prop::collection::vec("[ab]{0,33}", 1..8), b in prop::collection::vec("[ab]{0,3}", 1..8),
            same in prop::bool::ANY, kinds in (0..2u8, 0..2u8),
        ) {
            let key = |strings: &[String], kind| {
                let tags: Vec<(&str, &str)> = strings[1..].chunks_exact(2).map(|t| (&*t[0], &*t[1])).collect();
                (Key::new(1, kind, &strings[0], &tags), (strings[0].clone(), format!("{tags:?}"), kind))
            };
            let b = if same { &a } else { &b };
            if let ((Some(first), names), (Some(second), others)) = (key(&a, kinds.0), key(b, kinds.1)) {
                prop_assert_eq!(first == second, names == others);
            }
        }
    }

    #[test]
    fn a_string_of_every_length_is_told_from_its_neighbours() {
        for len in 1..32 {
            let string = "x".repeat(len);
            for at in 0..len {
                let mut other = string.clone();
                other.replace_range(at..=at, "y");
                assert!(Key::new(1, 0, &string, &[]) != Key::new(1, 0, &other, &[]), "{len} {at}");
            }
        }
    }
}
