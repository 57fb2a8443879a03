//! From times to places, with long idle stretches cut out.

use super::text;

/// The width of a cut, in pixels.
const CUT: f64 = 58.0;
/// What a piece between two cuts is at least wide, in pixels.
const PIECE: f64 = 24.0;
/// More cuts than this would leave no room for what happened.
const CUTS: usize = 8;
pub(super) const TICK_SIZE: f64 = 10.5;

/// Times are microseconds from the start of the run, places pixels.
pub(super) struct Axis {
    pub(super) left: f64,
    pub(super) right: f64,
    /// Ascending, without gaps: pieces and cuts in turn.
    spans: Vec<Span>,
}

struct Span {
    from: i64,
    to: i64,
    x: (f64, f64),
    cut: Option<Cut>,
}

#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Whether a driver took the run over in it.
    pub(super) resumed: bool,
}

pub(super) struct Tick {
    pub(super) x: f64,
    /// Its place and text, where there is room for one.
    pub(super) label: Option<(f64, String)>,
}

impl Axis {
    /// An axis from 0 to `total`. `busy` holds when something ran, `resumes` when a driver took over.
    pub(super) fn new(left: f64, right: f64, total: i64, mut busy: Vec<(i64, i64)>, resumes: &[i64]) -> Self {
        busy.sort_unstable();
        let mut gaps = Vec::new();
        let mut seen = 0;
        for (from, to) in busy.into_iter().chain([(total, total)]) {
            if from > seen {
                gaps.push((seen, from));
            }
            seen = seen.max(to);
        }
        let resumed = |gap: &(i64, i64)| resumes.iter().any(|at| gap.0 < *at && *at <= gap.1);
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.1 - gap.0));
        let mut rest = total;
        let mut cuts = Vec::new();
        for gap in gaps {
            let (length, others) = (gap.1 - gap.0, rest - (gap.1 - gap.0));
            // A stop between two drivers is of less interest than a wait within the run.
            let worth = if resumed(&gap) { length > others / 8 } else { length / 4 > others };
            if others > 0 && worth && cuts.len() < CUTS {
                cuts.push(gap);
                rest = others;
            }
        }
        cuts.sort_unstable();
        let mut spans = Vec::new();
        let mut from = 0;
        for gap in cuts {
            spans.push(Span { from, to: gap.0, x: (0.0, 0.0), cut: None });
            spans.push(Span {
                from: gap.0,
                to: gap.1,
                x: (0.0, 0.0),
                cut: Some(Cut { resumed: resumed(&gap) }),
            });
            from = gap.1;
        }
        spans.push(Span { from, to: total, x: (0.0, 0.0), cut: None });
        let mut axis = Axis { left, right, spans };
        axis.share_out();
        axis
    }

    fn share_out(&mut self) {
        let pieces = self.spans.len().div_ceil(2) as f64;
        let room = self.right - self.left - (pieces - 1.0) * CUT;
        let lengths = self.spans.iter().filter(|span| span.cut.is_none()).map(|span| span.to - span.from);
        let total = lengths.sum::<i64>().max(1) as f64;
        let natural = |span: &Span| (span.to - span.from) as f64 / total * room;
        let small = |span: &&Span| span.cut.is_none() && natural(span) < PIECE;
        let (count, taken) =
            self.spans.iter().filter(small).fold((0.0, 0.0), |(n, sum), s| (n + 1.0, sum + natural(s)));
        let shrink = if pieces > count { (room - count * PIECE) / (room - taken).max(1.0) } else { 1.0 };
        let mut x = self.left;
        for at in 0..self.spans.len() {
            let span = &self.spans[at];
            let width = match span.cut {
                Some(_) => CUT,
                None if pieces == 1.0 => room,
                None if small(&span) => PIECE,
                None => natural(span) * shrink,
            };
            self.spans[at].x = (x, x + width);
            x += width;
        }
    }

    pub(super) fn x(&self, at: i64) -> f64 {
        let at_or_last = self.spans.iter().find(|span| at <= span.to).or(self.spans.last());
        at_or_last.map_or(self.left, |span| match span.to - span.from {
            0 => span.x.0,
            length => {
                let part = (at - span.from) as f64 / length as f64;
                span.x.0 + part.clamp(0.0, 1.0) * (span.x.1 - span.x.0)
            }
        })
    }

    /// Left and right end of every cut, and its length.
    pub(super) fn cuts(&self) -> impl Iterator<Item = ((f64, f64), i64, Cut)> {
        self.spans.iter().filter_map(|span| Some((span.x, span.to - span.from, span.cut?)))
    }

    /// Ticks at round times. Behind a cut they count from its end.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let pieces = || self.spans.iter().filter(|span| span.cut.is_none());
        let longest = pieces().max_by_key(|span| span.to - span.from);
        let scale = longest.map_or(0.0, |span| (span.x.1 - span.x.0) / (span.to - span.from).max(1) as f64);
        let step = round_step((78.0 / scale.max(f64::MIN_POSITIVE)) as i64);
        // In a cut stands how long it is.
        let mut taken: Vec<(f64, f64)> = self.cuts().map(|(x, ..)| (x.0, x.1 - 8.0)).collect();
        let mut ticks = Vec::new();
        // The beginnings of the pieces come first, so that they get their labels.
        for piece in pieces() {
            ticks.push(self.tick((piece.x.0, 0.0), text::micros(piece.from), &mut taken));
        }
        for piece in pieces() {
            let count = (piece.to - piece.from) / step;
            for n in 1..=count {
                let plus = if piece.from > 0 { "+" } else { "" };
                let label = format!("{plus}{}", text::micros(n * step));
                ticks.push(self.tick((self.x(piece.from + n * step), 0.5), label, &mut taken));
            }
        }
        ticks
    }

    /// A tick at `x`, with this part of its label left of it.
    fn tick(&self, (x, part): (f64, f64), label: String, taken: &mut Vec<(f64, f64)>) -> Tick {
        let width = text::width(&label, TICK_SIZE);
        let from = (x - width * part).max(self.left);
        let free = taken.iter().all(|(left, right)| from >= right + 8.0 || from + width + 8.0 <= *left);
        if free {
            taken.push((from, from + width));
        }
        Tick { x, label: free.then_some((from, label)) }
    }
}

/// The smallest round time that is no less than `least`, both in microseconds.
fn round_step(least: i64) -> i64 {
    const SECOND: i64 = 1_000_000;
    let decimal = |unit: i64| {
        let powers = (0..15).map(move |power| unit.saturating_mul(10_i64.pow(power)));
        powers.flat_map(|power| [1, 2, 5].map(|n| power.saturating_mul(n)))
    };
    let below_minute = decimal(1).filter(|step| *step <= 20 * SECOND);
    let clock = [30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200].map(|n| n * SECOND);
    let mut all = below_minute.chain(clock).chain(decimal(86_400 * SECOND));
    all.find(|step| *step >= least).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn a_long_stop_is_cut_and_what_happened_keeps_its_room() {
        let axis = Axis::new(0.0, 1_000.0, 72 * HOUR, vec![(0, HOUR), (71 * HOUR, 72 * HOUR)], &[71 * HOUR]);
        let cuts: Vec<_> = axis.cuts().map(|(x, length, cut)| (x.1 - x.0, length, cut.resumed)).collect();
        assert_eq!(cuts, [(CUT, 70 * HOUR, true)]);
        assert!(axis.x(HOUR) > 450.0 && axis.x(71 * HOUR) > axis.x(HOUR));
        assert_eq!(axis.x(72 * HOUR), 1_000.0);
    }

    #[test]
    fn delays_that_make_up_the_run_are_not_cut() {
        let axis = Axis::new(0.0, 1_000.0, 700, vec![(0, 1), (100, 101), (300, 301), (700, 700)], &[]);
        assert_eq!(axis.cuts().count(), 0);
        assert_eq!(axis.x(350), 500.0);
    }

    #[test]
    fn labels_of_ticks_keep_apart() {
        for total in [0, 1, 999, 1_234_567, 59 * 1_000_000, HOUR, 100 * HOUR, 9_000 * HOUR, i64::MAX / 4] {
            let axis = Axis::new(200.0, 900.0, total, vec![(0, total)], &[]);
            let ticks = axis.ticks();
            assert!((1..15).contains(&ticks.len()), "{} ticks for {total} µs", ticks.len());
            let mut labels: Vec<_> = ticks.into_iter().filter_map(|tick| tick.label).collect();
            labels.sort_by(|a, b| a.0.total_cmp(&b.0));
            for pair in labels.windows(2) {
                assert!(pair[0].0 + text::width(&pair[0].1, TICK_SIZE) < pair[1].0, "{total} µs");
            }
        }
    }
}
