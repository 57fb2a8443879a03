//! Series as the benchmark's, made: two weeks of one value every five minutes, of kinds that services have, with one or two places where something is
//! unusual, or none.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fs;
use std::io;
use std::path::Path;

use chrono::{DateTime, NaiveDateTime, TimeDelta};

use crate::nab::corpus::Series;

/// Values in a series, and in a day.
const VALUES: usize = 4_032;
const DAY: usize = 288;
/// Windows take this share of a series together.
const WINDOWS: usize = 10;

/// What a series is like, and what happens in it.
const KINDS: [&str; 10] = [
    "load_of_a_day_with_a_spike",
    "level_that_shifts",
    "load_of_a_day_that_stands_still",
    "spread_that_grows",
    "requests_in_a_burst",
    "hours_of_work_on_a_day_off",
    "processor_that_stays_busy",
    "temperature_that_falls",
    "latency_with_a_heavy_tail",
    "load_of_a_day_without_events",
];

/// One series of each kind for each seed.
pub fn corpus(seeds: impl IntoIterator<Item = u64>) -> Vec<Series> {
    seeds.into_iter().flat_map(|seed| (0..KINDS.len()).map(move |kind| series(kind, seed))).collect()
}

/// Writes series as the benchmark keeps its own.
///
/// # Errors
///
/// The system's.
pub fn write(folder: &Path, corpus: &[Series]) -> io::Result<()> {
    let mut windows = BTreeMap::new();
    for series in corpus {
        let path = folder.join("data").join(&series.name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut text = "timestamp,value\n".to_owned();
        for (time, value) in series.times.iter().zip(&series.values) {
            text += &format!("{time},{value}\n");
        }
        fs::write(path, text)?;
        let at = |place: usize| series.times[place].format("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let limits: Vec<_> =
            series.windows.iter().map(|window| [at(window.start), at(window.end - 1)]).collect();
        windows.insert(series.name.clone(), limits);
    }
    fs::create_dir_all(folder.join("labels"))?;
    fs::write(folder.join("labels/combined_windows.json"), serde_json::to_string_pretty(&windows)?)
}

/// Something unusual: from where on, for how many values, and up or down.
#[derive(Clone, Copy)]
struct Event {
    from: usize,
    lasts: usize,
    way: f64,
}

fn series(kind: usize, seed: u64) -> Series {
    let mut random = Random(seed * 1_000 + kind as u64);
    let places = match random.uniform() {
        _ if kind == 9 => Vec::new(),
        one if one < 0.5 => vec![1_200 + random.below(2_300)],
        _ => vec![1_000 + random.below(900), 2_500 + random.below(1_000)],
    };
    let mut events: Vec<Event> = places
        .into_iter()
        .map(|from| {
            let way = if random.uniform() < 0.7 { 1.0 } else { -1.0 };
            Event { from, lasts: 12 + random.below(100), way }
        })
        .collect();
    let size = 1.5 + 2.0 * random.uniform();
    if kind == 5 {
        // From when work would begin.
        events.iter_mut().for_each(|event| event.from = event.from / DAY * DAY + DAY * 35 / 100);
    }
    let mut walk = 0.0;
    let values = (0..VALUES).map(|at| value(kind, at, &events, size, &mut walk, &mut random)).collect();
    let half = VALUES / WINDOWS / events.len().max(1) / 2;
    let window = |event: &Event| event.from.saturating_sub(half)..(event.from + half).min(VALUES);
    let minutes = |at: usize| TimeDelta::minutes(5 * at as i64);
    Series {
        name: format!("made/{}_{seed}.csv", KINDS[kind]),
        times: (0..VALUES).map(|at| start() + minutes(at)).collect(),
        values,
        windows: events.iter().map(window).collect(),
    }
}

fn start() -> NaiveDateTime {
    DateTime::UNIX_EPOCH.naive_utc() + TimeDelta::days(16_000)
}

fn value(kind: usize, at: usize, events: &[Event], size: f64, walk: &mut f64, random: &mut Random) -> f64 {
    let hour = (at % DAY) as f64 / DAY as f64;
    let wave = (TAU * hour).sin();
    let noise = random.normal();
    let within = |lasts: usize| events.iter().find(|event| (event.from..event.from + lasts).contains(&at));
    let during = events.iter().find(|event| (event.from..event.from + event.lasts).contains(&at));
    match kind {
        0 => 50.0 + 20.0 * wave + 2.0 * noise + within(3).map_or(0.0, |event| event.way * 25.0 * size),
        1 => {
            let shifts = events.iter().filter(|event| at >= event.from).map(|event| event.way * 4.0 * size);
            100.0 + shifts.sum::<f64>() + 2.0 * noise
        }
        2 if during.is_some() => 70.0,
        2 => 70.0 + 8.0 * wave + 1.5 * noise,
        3 => 20.0 + 3.0 * noise * if during.is_some() { 2.0 * size } else { 1.0 },
        4 => {
            let count = random.count(20.0 * (1.3 + wave)) * (0.3 * noise).exp();
            let busy = random.uniform() < 0.004;
            (count * if during.is_some() { 3.0 * size } else { 1.0 } * if busy { 4.0 } else { 1.0 }).round()
        }
        5 => {
            let off = events.iter().any(|event| event.from / DAY == at / DAY);
            2.0 * noise + if (0.35..0.75).contains(&hour) && !off { 80.0 } else { 20.0 }
        }
        6 => {
            let busy = if random.uniform() < 0.01 { 0.3 * random.uniform() } else { 0.0 };
            0.1 + 0.01 * random.exponential() + busy + during.map_or(0.0, |_| 0.4 * size)
        }
        7 => {
            *walk += 0.15 * noise - 0.002 * *walk;
            90.0 + *walk + 0.8 * wave + 0.3 * random.normal() - during.map_or(0.0, |_| 6.0 * size)
        }
        8 => (3.0 + 0.5 * wave + 0.5 * noise).exp() * during.map_or(1.0, |_| 2.5 * size),
        _ => 10.0 + 3.0 * wave + noise + if random.uniform() < 0.003 { 6.0 } else { 0.0 },
    }
}

/// Reproducible draws: SplitMix64.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.uniform() * end as f64) as usize
    }

    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    /// Poisson.
    fn count(&mut self, mean: f64) -> f64 {
        let (mut product, mut n) = (self.uniform(), 0.0);
        while product > (-mean).exp() {
            product *= self.uniform();
            n += 1.0;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nab::corpus::read;

    #[test]
    fn what_is_written_is_read_as_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut made = corpus(1..3);
        write(folder.path(), &made).unwrap();
        made.sort_by(|a, b| a.name.cmp(&b.name));
        let read = read(folder.path()).unwrap();
        assert_eq!(read, made);
        assert_eq!(made, {
            let mut again = corpus(1..3);
            again.sort_by(|a, b| a.name.cmp(&b.name));
            again
        });
        assert!(
            read.iter().all(|series| series.a_day() == DAY && series.values.iter().all(|v| v.is_finite()))
        );
        assert_eq!(read.iter().filter(|series| series.windows.is_empty()).count(), 2);
    }
}
