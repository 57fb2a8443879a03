use std::fmt;

use wasmtime::ResourceLimiter;

/// Elements of all tables of an instance. Engines of other languages have some ten thousand.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

/// Counts what an instance has, all its memories and tables together, and refuses more than it may have.
#[derive(Debug)]
pub(super) struct Limiter {
    memory: usize,
    memory_limit: usize,
    elements: usize,
    refused: Option<Refused>,
}

/// What an instance asked for and did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Memory { limit: usize },
    Table,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Memory { limit } => write!(f, "more than {limit} bytes of memory"),
            Refused::Table => write!(f, "tables of more than {TABLE_ELEMENTS} elements"),
        }
    }
}

impl Limiter {
    pub(super) fn new(memory: usize) -> Self {
        Limiter { memory: 0, memory_limit: memory, elements: 0, refused: None }
    }

    /// Forgets what was refused.
    pub(super) fn begin(&mut self) {
        self.refused = None;
    }

    /// What was refused last.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    fn allow(&mut self, used: usize, more: usize, limit: usize, refused: Refused) -> Option<usize> {
        let sum = used.checked_add(more).filter(|&sum| sum <= limit);
        if sum.is_none() {
            self.refused = Some(refused);
        }
        sum
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if is_over(desired, maximum) {
            return Ok(false);
        }
        let limit = self.memory_limit;
        let more = desired.saturating_sub(current);
        let sum = self.allow(self.memory, more, limit, Refused::Memory { limit });
        self.memory = sum.unwrap_or(self.memory);
        Ok(sum.is_some())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if is_over(desired, maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let sum = self.allow(self.elements, more, TABLE_ELEMENTS, Refused::Table);
        self.elements = sum.unwrap_or(self.elements);
        Ok(sum.is_some())
    }
}

/// wasmtime asks before it looks at the most that the component itself has declared. What fails by that is not to count.
fn is_over(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_some_and(|most| desired > most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together_and_what_was_refused_is_told() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert_eq!(limiter.refused().unwrap().to_string(), "more than 100 bytes of memory");
        assert!(limiter.memory_growing(40, 40, None).unwrap());
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limiter.memory_growing(0, usize::MAX, None).unwrap());
        limiter.begin();
        assert_eq!(limiter.refused(), None, "the next call was refused nothing");
    }

    #[test]
    fn what_a_component_forbids_itself_is_not_counted() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 40, Some(50)).unwrap());
        for _ in 0..10 {
            assert!(!limiter.memory_growing(40, 51, Some(50)).unwrap());
            assert!(!limiter.table_growing(0, TABLE_ELEMENTS, Some(8)).unwrap());
        }
        assert_eq!(limiter.refused(), None);
        assert!(limiter.memory_growing(0, 60, Some(100)).unwrap());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS, Some(TABLE_ELEMENTS)).unwrap());
    }
}
