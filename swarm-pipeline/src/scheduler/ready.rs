/// A set of numbers below a fixed bound that gives its smallest in a few instructions.
///
/// A tree of 64-bit words: a bit of one level says whether the word below it has any bit set. Three
/// levels hold 262,144 numbers, so that nothing here grows with how many are in the set.
#[derive(Debug, Clone)]
pub(super) struct ReadySet {
    levels: Vec<Vec<u64>>,
}

impl ReadySet {
    pub(super) fn new(bound: usize) -> Self {
        let mut levels = Vec::new();
        let mut words = bound.div_ceil(64).max(1);
        loop {
            levels.push(vec![0; words]);
            if words == 1 {
                return ReadySet { levels };
            }
            words = words.div_ceil(64);
        }
    }

    pub(super) fn insert(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            let before = std::mem::replace(word, *word | 1 << (at % 64));
            if before != 0 {
                return;
            }
            at /= 64;
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let at = number as usize;
        self.levels[0][at / 64] & 1 << (at % 64) != 0
    }

    pub(super) fn first(&self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level[at];
            if word == 0 {
                return None;
            }
            at = at * 64 + word.trailing_zeros() as usize;
        }
        Some(at as u32)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.last().is_none_or(|top| top[0] == 0)
    }

    pub(super) fn clear(&mut self) {
        self.levels.iter_mut().for_each(|level| level.fill(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_agrees_with_an_ordered_set(bound in 1_usize..9000, steps in prop::collection::vec((any::<u32>(), any::<bool>()), 0..400)) {
            let mut set = ReadySet::new(bound);
            let mut model = BTreeSet::new();
            for (number, add) in steps {
                let number = number % bound as u32;
                if add {
                    set.insert(number);
                    model.insert(number);
                } else {
                    set.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(set.contains(number), add);
                prop_assert_eq!(set.first(), model.first().copied());
                prop_assert_eq!(set.is_empty(), model.is_empty());
            }
        }
    }
}
