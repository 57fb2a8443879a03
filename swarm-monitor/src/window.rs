use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::rings::{Reach, WIDTHS};

/// A stretch of time to look at.
///
/// It is answered from buckets: of a second where it begins within the last two minutes, of a minute within the last three
/// hours, of an hour within the last eight days; the first and the last bucket are taken whole. What lies further back is
/// gone. Answers say from when to when they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limits {
    /// Seconds before now: from, to.
    Ago(u64, u64),
    /// Seconds since 1970: from, to.
    At(u64, u64),
}

impl Window {
    /// The last `duration`, now included.
    pub fn last(duration: Duration) -> Self {
        Window { limits: Limits::Ago(whole(duration), 0) }
    }

    /// A stretch of `duration` that ended `ago`. The bucket it ended in is left out, so that it shares none with
    /// [`last`](Window::last) of `ago`.
    pub fn before(ago: Duration, duration: Duration) -> Self {
        let ago = whole(ago);
        Window { limits: Limits::Ago(ago.saturating_add(whole(duration)), ago) }
    }

    /// From one time to another. Empty if it ends before it begins.
    pub fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Window::seconds(from.timestamp().max(0) as u64, to.timestamp().max(0) as u64)
    }

    pub(crate) fn seconds(from: u64, to: u64) -> Self {
        Window { limits: Limits::At(from, to) }
    }

    /// The buckets it means at `now`.
    pub(crate) fn span(&self, now: u64, reach: Reach) -> Span {
        let (from, to) = match self.limits {
            Limits::Ago(from, to) => (now.saturating_sub(from), now.saturating_sub(to)),
            Limits::At(from, to) => (from, to.min(now)),
        };
        let reaches = |ring: &usize| from / WIDTHS[*ring] + reach.0[*ring] >= now / WIDTHS[*ring];
        let ring = (0..2).find(reaches).unwrap_or(2);
        let first = from / WIDTHS[ring];
        // What ends now takes in the bucket that is open; what ended before leaves out the one it ended in.
        let end = if to == now { now / WIDTHS[ring] + 1 } else { to / WIDTHS[ring] };
        Span { ring, first, end: end.max(first), now }
    }
}

fn whole(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// The buckets `first..end` of a ring, seen at `now`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) ring: usize,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) now: u64,
}

impl Span {
    pub(crate) fn from(&self) -> DateTime<Utc> {
        time(self.first * WIDTHS[self.ring])
    }

    pub(crate) fn to(&self) -> DateTime<Utc> {
        time((self.end * WIDTHS[self.ring]).min(self.now + 1).max(self.first * WIDTHS[self.ring]))
    }
}

pub(crate) fn time(second: u64) -> DateTime<Utc> {
    let known = i64::try_from(second).ok().and_then(|second| DateTime::from_timestamp(second, 0));
    known.unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_answered_from_the_finest_ring_that_reaches() {
        let now = 1_700_000_000; // a minute's 20th second, an hour's 13th minute
        let minute = now / 60;
        for (window, ring, first, end) in [
            (Window::last(Duration::from_secs(1)), 0, now - 1, now + 1),
            (Window::last(Duration::from_millis(1_500)), 0, now - 2, now + 1),
            (Window::last(Duration::from_secs(120)), 0, now - 120, now + 1),
            (Window::last(Duration::from_secs(121)), 1, minute - 2, minute + 1),
            (Window::last(Duration::from_secs(3 * 3600)), 1, minute - 180, minute + 1),
            (Window::last(Duration::from_secs(7 * 86_400)), 2, now / 3600 - 168, now / 3600 + 1),
            (
                Window::before(Duration::from_secs(3600), Duration::from_secs(3600)),
                1,
                minute - 120,
                minute - 60,
            ),
            (Window::seconds(now - 10, now - 20), 0, now - 10, now - 10),
            (Window::seconds(now - 10, now + 50), 0, now - 10, now + 1),
        ] {
            let span = window.span(now, Reach::DEFAULT);
            assert_eq!((span.ring, span.first, span.end), (ring, first, end), "{window:?}");
        }
    }
}
