//! What is let through of something that another can do without end.

use std::time::Duration;

use tokio::time::Instant;

/// Lets so many through at once, and after that one in each span of time.
pub(crate) struct Brake {
    most: u32,
    every: Duration,
    left: u32,
    /// Up to when time was turned into what is left.
    counted: Instant,
}

impl Brake {
    /// `every` is not zero.
    pub(crate) fn new(most: u32, every: Duration) -> Brake {
        Brake { most, every, left: most, counted: Instant::now() }
    }

    /// Lets one through, or says how long it has to wait.
    pub(crate) fn pass(&mut self) -> Result<(), Duration> {
        let since = self.counted.elapsed();
        let earned = u32::try_from(since.as_nanos() / self.every.as_nanos()).unwrap_or(u32::MAX);
        if earned >= self.most - self.left {
            (self.left, self.counted) = (self.most, Instant::now());
        } else {
            self.left += earned;
            self.counted += self.every * earned;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.every.saturating_sub(self.counted.elapsed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_lets_some_through_and_then_one_at_a_time() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut brake = Brake::new(3, SECOND);
        for (advance, passed, why) in [
            (Duration::ZERO, 3, "so many at once"),
            (SECOND / 2, 0, "not yet"),
            (SECOND / 2, 1, "parts of a span add up"),
            (SECOND * 2, 2, "one for each"),
            (SECOND * 1_000_000, 3, "no more than at first, however long it waits"),
        ] {
            tokio::time::advance(advance).await;
            assert_eq!(std::iter::from_fn(|| brake.pass().ok()).count(), passed, "{why}");
        }
        assert_eq!(brake.pass(), Err(SECOND));
    }
}
