//! A hash index over the keys of one large table.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

/// Positions by key: open addressing over a power of two, at most half full.
pub(crate) struct Index {
    state: RandomState,
    /// A position plus one, or nought.
    slots: Box<[u32]>,
}

impl Index {
    /// Tables with at most this many keys are searched one by one.
    pub(crate) const FROM: usize = 16;

    /// Indexes `count` keys, or answers with the position of the first key that was there before.
    pub(crate) fn build<'a>(count: usize, key: impl Fn(u32) -> &'a str) -> Result<Index, u32> {
        let state = RandomState::default();
        let mut slots = vec![0u32; (count * 2).next_power_of_two()].into_boxed_slice();
        let mask = slots.len() - 1;
        for at in 0..count as u32 {
            let name = key(at);
            let mut slot = state.hash_one(name) as usize & mask;
            while slots[slot] != 0 {
                if key(slots[slot] - 1) == name {
                    return Err(at);
                }
                slot = (slot + 1) & mask;
            }
            slots[slot] = at + 1;
        }
        Ok(Index { state, slots })
    }

    pub(crate) fn find<'a>(&self, name: &str, key: impl Fn(u32) -> &'a str) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut slot = self.state.hash_one(name) as usize & mask;
        while self.slots[slot] != 0 {
            let at = self.slots[slot] - 1;
            if key(at) == name {
                return Some(at);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u32>()
    }
}
