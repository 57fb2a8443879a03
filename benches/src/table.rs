//! The table of targets.

use std::fmt;

/// What a row's figures are.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Seconds; less is better.
    Seconds,
    /// So many a second; more is better.
    PerSecond,
    /// A plain factor; less is better.
    Factor,
}

/// What a row must show.
#[derive(Clone, Copy)]
pub enum Target {
    /// Ours stays at or under this figure.
    AtMost(f64),
    /// Ours is at least so many times as good as the peer of this name.
    TimesAsGood(&'static str, f64),
}

/// One thing measured: ours beside its peers.
pub struct Row {
    /// What was done.
    pub what: String,
    /// What the figures are.
    pub unit: Unit,
    /// Our figure, where the crate can do it already.
    pub ours: Option<f64>,
    /// The peers' figures.
    pub peers: Vec<(&'static str, f64)>,
    /// What must hold.
    pub targets: Vec<Target>,
}

impl Row {
    /// How many times as good as `peer` ours is.
    fn times_as_good(&self, peer: f64) -> Option<f64> {
        self.ours.map(|ours| match self.unit {
            Unit::Seconds | Unit::Factor => peer / ours,
            Unit::PerSecond => ours / peer,
        })
    }

    /// Whether `target` holds; `None` if one of its figures was not measured.
    fn meets(&self, target: Target) -> Option<bool> {
        match target {
            Target::AtMost(limit) => self.ours.map(|ours| ours <= limit),
            Target::TimesAsGood(name, least) => {
                let (_, peer) = self.peers.iter().find(|(peer, _)| *peer == name)?;
                self.times_as_good(*peer).map(|ratio| ratio >= least)
            }
        }
    }

    fn verdict(&self) -> &'static str {
        let results: Vec<_> = self.targets.iter().map(|&target| self.meets(target)).collect();
        if results.contains(&Some(false)) {
            "MISSED"
        } else if results.is_empty() || results.contains(&None) {
            "-"
        } else {
            "met"
        }
    }
}

/// Displays as a Markdown table line.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = self.ours.map_or_else(|| "-".to_owned(), |ours| self.unit.show(ours));
        let peers = self.peers.iter().map(|(name, figure)| format!("{name} {}", self.unit.show(*figure)));
        let ratios = self
            .peers
            .iter()
            .filter_map(|(name, figure)| Some(format!("{name} {:.2}x", self.times_as_good(*figure)?)));
        let targets = self.targets.iter().map(|target| match target {
            Target::AtMost(limit) => format!("<= {}", self.unit.show(*limit)),
            Target::TimesAsGood(name, least) => format!("{name} >= {least}x"),
        });
        let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
        write!(
            f,
            "| {} | {ours} | {} | {} | {} | {} |",
            self.what,
            list(peers.collect()),
            list(ratios.collect()),
            list(targets.collect()),
            self.verdict(),
        )
    }
}

/// The lines above the rows.
pub const HEADER: &str = "| what | ours | peers | ratio | target | verdict |\n|---|---|---|---|---|---|";

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::Seconds => match figure {
                s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
                s if s < 1e-3 => format!("{:.2} us", s * 1e6),
                s if s < 1.0 => format!("{:.2} ms", s * 1e3),
                s => format!("{s:.2} s"),
            },
            Self::PerSecond if figure >= 1e4 => format!("{:.0}k/s", figure / 1e3),
            Self::PerSecond => format!("{figure:.0}/s"),
            Self::Factor => format!("{figure:.3}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: Unit, ours: Option<f64>, peer: f64, target: Target, expected: &str) {
        let row =
            Row { what: "row".to_owned(), unit, ours, peers: vec![("peer", peer)], targets: vec![target] };
        assert_eq!(row.verdict(), expected, "{row}");
    }

    #[test]
    fn a_target_is_met_missed_or_not_measured() {
        let twice = Target::TimesAsGood("peer", 2.0);
        check(Unit::Seconds, Some(1.0), 2.0, twice, "met");
        check(Unit::Seconds, Some(1.1), 2.0, twice, "MISSED");
        check(Unit::PerSecond, Some(2.0), 1.0, twice, "met");
        check(Unit::PerSecond, Some(1.9), 1.0, twice, "MISSED");
        check(Unit::Seconds, None, 1.0, twice, "-");
        check(Unit::Seconds, Some(1.0), 1.0, Target::TimesAsGood("absent", 1.0), "-");
        check(Unit::Factor, Some(1.05), 1.0, Target::AtMost(1.05), "met");
        check(Unit::Factor, Some(1.06), 1.0, Target::AtMost(1.05), "MISSED");
    }
}
