//! Series as the benchmark keeps them: values with their times as CSV, and windows around what is unusual as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use chrono::NaiveDateTime;

/// A series with what a detector should find in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The file, from the folder `data` on.
    pub name: String,
    /// When each value was taken.
    pub times: Vec<NaiveDateTime>,
    /// What was measured.
    pub values: Vec<f64>,
    /// Where something is unusual, as positions in `values`, in order.
    pub windows: Vec<Range<usize>>,
}

impl Series {
    /// So many values make a day, by the time that most of them are apart; 0 if that is no number that a season can have.
    pub fn a_day(&self) -> usize {
        let mut apart: Vec<i64> =
            self.times.windows(2).map(|pair| (pair[1] - pair[0]).num_seconds()).collect();
        apart.sort_unstable();
        match apart.get(apart.len() / 2) {
            Some(&seconds @ 1..=21_600) => 86_400 / seconds as usize,
            _ => 0,
        }
    }
}

/// Reads every series that has an entry in the windows, by name.
///
/// `folder` is a copy of the benchmark's repository, or its folders `data` and `labels` only, or one with `combined_windows.json` and `data`.
///
/// # Errors
///
/// What is not there or not as it should be, with file and line.
pub fn read(folder: &Path) -> Result<Vec<Series>, String> {
    let places = [folder.join("labels/combined_windows.json"), folder.join("combined_windows.json")];
    let labels = places.iter().find(|path| path.is_file()).unwrap_or(&places[0]);
    let text = fs::read_to_string(labels).map_err(|error| format!("{}: {error}", labels.display()))?;
    let windows: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", labels.display()))?;
    windows.into_iter().map(|(name, windows)| read_one(folder, name, &windows)).collect()
}

fn read_one(folder: &Path, name: String, windows: &[(String, String)]) -> Result<Series, String> {
    let path = folder.join("data").join(&name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut series = Series { name, times: Vec::new(), values: Vec::new(), windows: Vec::new() };
    // The first line is the header.
    for (at, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        let row =
            line.split_once(',').and_then(|(when, value)| Some((time(when)?, value.trim().parse().ok()?)));
        let Some((when, value)) = row else {
            return Err(format!("{}, line {}: no time and value: {line:?}", path.display(), at + 1));
        };
        series.times.push(when);
        series.values.push(value);
    }
    for (from, to) in windows {
        let (Some(from), Some(to)) = (time(from), time(to)) else {
            return Err(format!("{}: no window: {from:?} to {to:?}", series.name));
        };
        let first = series.times.partition_point(|when| *when < from);
        let end = series.times.partition_point(|when| *when <= to);
        if first >= end {
            return Err(format!("{}: nothing in the window from {from} to {to}", series.name));
        }
        series.windows.push(first..end);
    }
    series.windows.sort_by_key(|window| window.start);
    Ok(series)
}

/// With or without a fraction of the second.
fn time(text: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text.trim(), "%Y-%m-%d %H:%M:%S%.f").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(csv: &str, windows: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("data/real")).unwrap();
        fs::write(folder.path().join("data/real/a.csv"), csv).unwrap();
        fs::write(folder.path().join("combined_windows.json"), windows).unwrap();
        folder
    }

    #[test]
    fn values_are_read_with_their_windows() {
        let csv =
            "timestamp,value\n2014-02-14 14:30:00,0.132\n2014-02-14 14:35:00,-1e3\n2014-02-14 14:40:00,7\n";
        let windows = r#"{"real/a.csv": [["2014-02-14 14:35:00.000000", "2014-02-14 14:40:00.000000"]]}"#;
        let series = read(folder(csv, windows).path()).unwrap();
        assert_eq!(series[0].values, [0.132, -1e3, 7.0]);
        assert_eq!((series[0].windows.as_slice(), series[0].a_day()), (std::slice::from_ref(&(1..3)), 288));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let csv = "timestamp,value\n2014-02-14 14:30:00,0.132\n";
        let window = r#"{"real/a.csv": [["2014-02-15 00:00:00.0", "2014-02-16 00:00:00.0"]]}"#;
        for (csv, windows, part) in [
            ("timestamp,value\n2014-02-14 14:30:00,much\n", r#"{"real/a.csv": []}"#, "line 2"),
            (csv, window, "nothing in the window"),
            (csv, r#"{"real/a.csv": [["then", "later"]]}"#, "no window"),
            (csv, r#"{"real/b.csv": []}"#, "b.csv"),
            (csv, "[]", "combined_windows.json"),
        ] {
            let error = read(folder(csv, windows).path()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
