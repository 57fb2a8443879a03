//! What a detector's answers are worth.

use crate::nab::corpus::Series;

/// What each kind of answer counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// A window found at its first value.
    pub hit: f64,
    /// A value told of far from any window.
    pub false_alarm: f64,
    /// A window that was missed.
    pub miss: f64,
}

impl Profile {
    /// The benchmark's standard one.
    pub const STANDARD: Profile = Profile { hit: 1.0, false_alarm: 0.11, miss: 1.0 };
}

/// How a detector did on all series, at the threshold that is best for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// 100 for one that tells of the first value of each window and of nothing else, 0 for one that tells of nothing.
    pub normalised: f64,
    /// Values with at least this score are told of.
    pub threshold: f64,
    /// Windows found, of how many.
    pub found: usize,
    /// All windows.
    pub windows: usize,
    /// Values told of outside of windows.
    pub false_alarms: usize,
}

/// A detector learns from this share of a series, and from at most so much of 5,000 values, without being judged.
const PROBATION: f64 = 0.15;

/// The worth of a place: -1 at the beginning of a window, 0 at its end, 1 as far behind.
pub fn worth(place: f64) -> f64 {
    if place >= 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).exp()) - 1.0 }
}

/// A value that is judged.
struct Answer {
    score: f64,
    worth: f64,
    /// Among the windows of all series.
    window: Option<usize>,
}

/// Scores what a detector made of each series: a number for each of its values, of which the greatest are what it would tell of.
///
/// # Panics
///
/// If there are not as many series of numbers as series, or in one not as many numbers as values.
pub fn score(series: &[Series], scores: &[Vec<f64>], profile: Profile) -> Score {
    assert_eq!(series.len(), scores.len(), "scores for each series");
    let mut answers = Vec::new();
    let mut windows = 0;
    for (series, scores) in series.iter().zip(scores) {
        judge(series, scores, windows, profile, &mut answers);
        windows += series.windows.len();
    }
    // Those that lie in what is not judged cannot be missed.
    let mut judged: Vec<usize> = answers.iter().filter_map(|answer| answer.window).collect();
    judged.dedup();
    let nothing = -profile.miss * judged.len() as f64;
    let perfect = profile.hit * windows as f64;

    answers.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut best_of = vec![None; windows];
    let (mut total, mut found, mut false_alarms) = (nothing, 0, 0);
    let mut best = (total, Score { normalised: 0.0, threshold: f64::INFINITY, found, windows, false_alarms });
    for (at, answer) in answers.iter().enumerate() {
        match answer.window {
            Some(window) => {
                let before: f64 = best_of[window].unwrap_or(-profile.miss);
                found += usize::from(best_of[window].is_none());
                best_of[window] = Some(before.max(answer.worth));
                total += before.max(answer.worth) - before;
            }
            None => {
                total += answer.worth;
                false_alarms += 1;
            }
        }
        // All with the same score are told of together.
        let last = answers.get(at + 1).is_none_or(|next| next.score < answer.score);
        if last && total > best.0 {
            let normalised = 100.0 * (total - nothing) / (perfect - nothing);
            best = (total, Score { normalised, threshold: answer.score, found, windows, false_alarms });
        }
    }
    best.1
}

fn judge(series: &Series, scores: &[f64], windows_before: usize, profile: Profile, into: &mut Vec<Answer>) {
    assert_eq!(series.values.len(), scores.len(), "{}: a score for each value", series.name);
    let learned = (PROBATION * scores.len() as f64).floor().min(PROBATION * 5_000.0) as usize;
    let mut windows = series.windows.iter().enumerate().peekable();
    let mut behind: Option<&std::ops::Range<usize>> = None;
    for (at, &score) in scores.iter().enumerate() {
        if let Some((_, window)) = windows.next_if(|(_, window)| window.end <= at) {
            behind = Some(window);
        }
        let inside = windows.peek().filter(|(_, window)| window.contains(&at));
        let worth = match (inside, behind) {
            (Some((_, window)), _) => {
                let place = -((window.end - at) as f64) / window.len() as f64;
                worth(place) / worth(-1.0) * profile.hit
            }
            (None, Some(window)) => {
                worth((at + 1 - window.end) as f64 / (window.len() - 1) as f64) * profile.false_alarm
            }
            (None, None) => -profile.false_alarm,
        };
        if at >= learned {
            into.push(Answer { score, worth, window: inside.map(|(number, _)| windows_before + number) });
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDateTime;

    use super::*;

    /// A hundred values, of which the first 15 are not judged and ten from the 40th on are unusual.
    fn series() -> Series {
        Series {
            name: "a".to_owned(),
            times: vec![NaiveDateTime::default(); 100],
            values: vec![0.0; 100],
            windows: std::iter::once(40..50).collect(),
        }
    }

    fn scores(told: &[(usize, f64)]) -> Vec<f64> {
        let mut scores = vec![0.0; 100];
        told.iter().for_each(|(at, score)| scores[*at] = *score);
        scores
    }

    #[test]
    fn places_are_worth_what_the_paper_says() {
        for (place, expected) in [(-1.0, 0.98661), (-0.5, 0.84828), (0.0, 0.0), (1.0, -0.98661), (3.0, -1.0)]
        {
            assert!((worth(place) - expected).abs() < 1e-5, "{place}");
        }
    }

    #[test]
    fn one_series_is_scored_as_by_hand() {
        // The window's last value is worth 2 / (1 + exp(-0.5)) - 1 = 0.244919 of the first one's 0.986614.
        let late = 0.244_919 / 0.986_614;
        // The first value behind it is at 1/9: 2 / (1 + exp(5/9)) - 1 = -0.270847. At 59, as far behind as it is long: -0.986614.
        let (behind, far) = (-0.270_847 * 0.11, -0.986_614 * 0.11);
        for (told, expected) in [
            (&[][..], 0.0),
            (&[(40, 1.0)], 100.0),
            (&[(49, 1.0)], 100.0 * (late + 1.0) / 2.0),
            (&[(44, 1.0), (40, 1.0), (49, 1.0)], 100.0),
            (&[(20, 1.0), (40, 1.0)], 100.0 * (2.0 - 0.11) / 2.0),
            (&[(40, 1.0), (50, 1.0)], 100.0 * (2.0 + behind) / 2.0),
            (&[(40, 1.0), (58, 1.0)], 100.0 * (2.0 + far) / 2.0),
            (&[(40, 1.0), (99, 1.0)], 100.0 * (2.0 - 0.11) / 2.0),
            // Not judged.
            (&[(14, 1.0), (40, 1.0)], 100.0),
            // A threshold above what is wrong, and one that nothing reaches.
            (&[(20, 0.9), (40, 1.0)], 100.0),
            (&[(20, 1.0), (60, 1.0)], 0.0),
        ] {
            let score = score(&[series()], &[scores(told)], Profile::STANDARD);
            assert!((score.normalised - expected).abs() < 1e-3, "{told:?}: {score:?}, not {expected}");
        }
    }

    #[test]
    fn one_threshold_does_for_all_series() {
        let all = [series(), series(), Series { windows: Vec::new(), ..series() }];
        // The second window is found at a threshold that has a false alarm too, which is less than a window is worth.
        let told = [scores(&[(40, 0.9)]), scores(&[(40, 0.5)]), scores(&[(70, 0.6)])];
        let score = score(&all, &told, Profile::STANDARD);
        assert_eq!((score.threshold, score.found, score.windows, score.false_alarms), (0.5, 2, 2, 1));
        assert!((score.normalised - 100.0 * (4.0 - 0.11) / 4.0).abs() < 1e-9, "{score:?}");
    }

    #[test]
    fn a_window_that_is_not_judged_cannot_be_missed() {
        let early = Series { windows: vec![2..9, 40..50], ..series() };
        let score = score(&[early], &[scores(&[(40, 1.0)])], Profile::STANDARD);
        // One missed without an alarm, two that a perfect detector has.
        assert!((score.normalised - 100.0 * 2.0 / 3.0).abs() < 1e-9, "{score:?}");
    }
}
