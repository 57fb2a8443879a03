use super::{Criterion, Direction, Judge};
use crate::wire::{StoredCriterion, StoredDirection, StoredJudge};

impl Judge {
    pub(crate) fn store(&self) -> StoredJudge {
        let criteria = self.criteria.iter().map(|criterion| StoredCriterion {
            metric: criterion.metric.clone(),
            better: match criterion.direction {
                Direction::LowerIsBetter => StoredDirection::Lower,
                Direction::HigherIsBetter => StoredDirection::Higher,
            },
            relative: criterion.relative,
            absolute: criterion.absolute,
            ranks: criterion.ranks,
        });
        StoredJudge {
            criteria: criteria.collect(),
            alpha: self.alpha,
            minimum: self.minimum,
            planned: self.planned,
        }
    }

    pub(crate) fn read(stored: &StoredJudge) -> Self {
        let criteria = stored.criteria.iter().map(|criterion| Criterion {
            metric: criterion.metric.clone(),
            direction: match criterion.better {
                StoredDirection::Lower => Direction::LowerIsBetter,
                StoredDirection::Higher => Direction::HigherIsBetter,
            },
            relative: criterion.relative,
            absolute: criterion.absolute,
            ranks: criterion.ranks,
        });
        Judge {
            criteria: criteria.collect(),
            alpha: stored.alpha,
            minimum: stored.minimum,
            planned: stored.planned,
        }
    }

    pub(crate) fn is_sequential(&self) -> bool {
        self.planned.is_some()
    }
}
