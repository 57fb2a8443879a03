use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// Names in one string, and an open-addressing table from name to number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    text: String,
    ends: Vec<u32>,
    /// Empty until [`Names::index`]; then a power of two of slots, at most half of them full.
    slots: Vec<Slot>,
    state: RandomState,
}

/// `tag` is the upper half of the hash; `node` is one more than the number, 0 in an empty slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    tag: u32,
    node: u32,
}

impl Names {
    pub(crate) fn with_capacity(nodes: usize) -> Self {
        Names { ends: Vec::with_capacity(nodes), text: String::with_capacity(nodes * 12), ..Names::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the names together are too long for the 32-bit offsets.
    pub(crate) fn overflowed(&self) -> bool {
        self.text.len() >= u32::MAX as usize || self.ends.len() >= (u32::MAX / 4) as usize
    }

    pub(crate) fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len() as u32);
    }

    pub(crate) fn get(&self, node: u32) -> &str {
        let node = node as usize;
        let start = if node == 0 { 0 } else { self.ends[node - 1] as usize };
        &self.text[start..self.ends[node] as usize]
    }

    /// Fills the table; `duplicate` is told each name that was there before.
    pub(crate) fn index(&mut self, mut duplicate: impl FnMut(&str)) {
        let mut slots = vec![Slot::default(); (self.len() * 2).next_power_of_two().max(4)];
        let mask = slots.len() - 1;
        for node in 0..self.len() as u32 {
            let name = self.get(node);
            let (mut at, tag) = self.place(name, mask);
            loop {
                let slot = slots[at];
                if slot.node == 0 {
                    slots[at] = Slot { tag, node: node + 1 };
                    break;
                }
                if slot.tag == tag && self.get(slot.node - 1) == name {
                    duplicate(name);
                    break;
                }
                at = (at + 1) & mask;
            }
        }
        self.slots = slots;
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let (at, tag) = self.place(name, mask);
        self.probe(name, at, tag)
    }

    fn probe(&self, name: &str, mut at: usize, tag: u32) -> Option<u32> {
        let mask = self.slots.len() - 1;
        loop {
            let slot = self.slots[at];
            if slot.node == 0 {
                return None;
            }
            if slot.tag == tag && self.get(slot.node - 1) == name {
                return Some(slot.node - 1);
            }
            at = (at + 1) & mask;
        }
    }

    /// Looks up many names, `u32::MAX` for those unknown, a block at a time and each stage for the
    /// whole block, so that the cache misses of one stage overlap.
    pub(crate) fn find_all(&self, wanted: &[&str], found: &mut Vec<u32>) {
        const BLOCK: usize = 32;
        let mask = self.slots.len() - 1;
        let mut places = [(0, 0); BLOCK];
        for block in wanted.chunks(BLOCK) {
            for (place, name) in places.iter_mut().zip(block) {
                *place = self.place(name, mask);
            }
            let first = found.len();
            for &(at, tag) in &places[..block.len()] {
                let slot = self.slots[at];
                let likely = if slot.tag == tag { slot.node.wrapping_sub(1) } else { u32::MAX };
                found.push(likely);
            }
            for (at, name) in block.iter().enumerate() {
                let likely = found[first + at];
                if likely == u32::MAX || self.get(likely) != *name {
                    found[first + at] = self.probe(name, places[at].0, places[at].1).unwrap_or(u32::MAX);
                }
            }
        }
    }

    fn place(&self, name: &str, mask: usize) -> (usize, u32) {
        let hash = self.state.hash_one(name);
        (hash as usize & mask, (hash >> 32) as u32)
    }

    /// The known name most like `wanted`, if any is like it. Gives up once `told` problems of a large
    /// graph were told, since nobody reads that many and each costs a look at every name.
    pub(crate) fn nearest(&self, wanted: &str, told: usize) -> Option<&str> {
        if self.len().saturating_mul(told) > 1_000_000 || wanted.len() > 256 {
            return None;
        }
        let names = (0..self.len() as u32).map(|node| self.get(node));
        nearest(wanted, names)
    }
}

/// The candidate with the smallest Damerau-Levenshtein distance, if at most a third of the name differs.
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = wanted.chars().count() / 3 + 1;
    candidates
        .filter(|name| name.len().abs_diff(wanted.len()) <= allowed * 4 && name.len() <= 256)
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}
