//! Which plugins have what they require.

use std::collections::HashMap;
use std::fmt;

use semver::{Version, VersionReq};

/// Another plugin that a plugin needs, with the versions that serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub(crate) name: String,
    pub(crate) version: VersionReq,
}

impl Requirement {
    /// The name of the plugin that is needed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The versions that serve.
    pub fn version(&self) -> &VersionReq {
        &self.version
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// A plugin as far as this module needs to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'c> {
    pub(crate) name: &'c str,
    pub(crate) version: &'c Version,
    pub(crate) requires: &'c [Requirement],
}

/// What becomes of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything is there. The rank is one more than the highest of what it may call.
    Met { rank: usize },
    /// Why it has to wait, in a sentence.
    Waits(String),
}

/// Judges all of them. Accepts whoever needs nothing, then whoever needs only what was accepted, until nobody is left who does.
pub(crate) fn judge(nodes: &[Node<'_>]) -> Vec<Verdict> {
    let mut needed_by: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for requirement in node.requires {
            needed_by.entry(&requirement.name).or_default().push(at);
        }
    }
    // Of names that somebody needs: most have none.
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, node) in nodes.iter().enumerate().filter(|(_, node)| needed_by.contains_key(node.name)) {
        by_name.entry(node.name).or_default().push(at);
    }
    let matching = |requirement: &Requirement| -> Vec<usize> {
        let candidates = by_name.get(&*requirement.name).map_or(&[][..], Vec::as_slice);
        candidates.iter().copied().filter(|&at| requirement.version.matches(nodes[at].version)).collect()
    };
    let mut accepted = vec![false; nodes.len()];
    let mut open: Vec<usize> = (0..nodes.len()).collect();
    while let Some(at) = open.pop() {
        let is_served = |requirement| matching(requirement).into_iter().any(|at| accepted[at]);
        if !accepted[at] && nodes[at].requires.iter().all(is_served) {
            accepted[at] = true;
            open.extend(needed_by.get(nodes[at].name).into_iter().flatten());
        }
    }
    let below = |at: usize| nodes[at].requires.iter().flat_map(matching).filter(|&at| accepted[at]).collect();
    let ranks = ranks(nodes.len(), below);
    let verdict = |at: usize| match accepted[at] {
        true => Verdict::Met { rank: ranks[at] },
        false => Verdict::Waits(why(nodes, &by_name, &accepted, at)),
    };
    (0..nodes.len()).map(verdict).collect()
}

/// Ranks each above all that it may call. Of versions that may call each other, one comes first.
fn ranks(count: usize, below: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    let mut ranks = vec![None; count];
    let mut begun = vec![false; count];
    let mut open: Vec<usize> = (0..count).collect();
    while let Some(&at) = open.last() {
        if ranks[at].is_none() && !std::mem::replace(&mut begun[at], true) {
            open.extend(below(at).into_iter().filter(|&at| !begun[at]));
            continue;
        }
        open.pop();
        if ranks[at].is_none() {
            // Those that were begun and have none are what leads here.
            ranks[at] =
                Some(below(at).into_iter().filter_map(|at| ranks[at]).max().map_or(0, |rank| rank + 1));
        }
    }
    ranks.into_iter().map(Option::unwrap_or_default).collect()
}

/// How far a reason is followed from plugin to plugin.
const HOPS_LIMIT: usize = 32;

/// Follows what is missing until it is not there at all, or comes round.
fn why(nodes: &[Node<'_>], by_name: &HashMap<&str, Vec<usize>>, accepted: &[bool], from: usize) -> String {
    let mut path = vec![from];
    loop {
        let node = nodes[path[path.len() - 1]];
        let mut absent = Vec::new();
        let mut next = None;
        for requirement in node.requires {
            let candidates = by_name.get(&*requirement.name).map_or(&[][..], Vec::as_slice);
            let mut matching =
                candidates.iter().filter(|&&at| requirement.version.matches(nodes[at].version)).peekable();
            if matching.peek().is_none() {
                absent.push(match candidates.first() {
                    Some(&at) => format!("{requirement} (there is {})", nodes[at].version),
                    None => requirement.to_string(),
                });
            } else if matching.clone().all(|&at| !accepted[at]) {
                next = next.or_else(|| matching.next().copied());
            }
        }
        if !absent.is_empty() {
            let who = if path.len() == 1 { String::new() } else { format!("{} ", node.name) };
            return format!("{who}requires {}, which is not here", absent.join(" and "));
        }
        // One of the two is the case, or the plugin would have been accepted.
        let Some(next) = next else { return "requires what is not here".into() };
        if let Some(at) = path.iter().position(|&seen| seen == next) {
            let cycle: Vec<&str> = path[at..].iter().chain([&next]).map(|&at| nodes[at].name).collect();
            return format!("requires itself: {}", cycle.join(" -> "));
        }
        if path.len() == HOPS_LIMIT {
            return format!("requires {}, which waits itself", nodes[path[1]].name);
        }
        path.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a 1.0.0: b ^1, c *` a line.
    fn judged(text: &str) -> Vec<String> {
        let parsed: Vec<(String, Version, Vec<Requirement>)> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (head, requires) = line.split_once(':').unwrap();
                let (name, version) = head.split_once(' ').unwrap();
                let requires =
                    requires.split(',').map(str::trim).filter(|text| !text.is_empty()).map(|text| {
                        let (name, version) = text.split_once(' ').unwrap();
                        Requirement { name: name.into(), version: version.parse().unwrap() }
                    });
                (name.into(), version.parse().unwrap(), requires.collect())
            })
            .collect();
        let nodes: Vec<Node<'_>> =
            parsed.iter().map(|(name, version, requires)| Node { name, version, requires }).collect();
        judge(&nodes)
            .into_iter()
            .map(|verdict| match verdict {
                Verdict::Met { rank } => rank.to_string(),
                Verdict::Waits(why) => why,
            })
            .collect()
    }

    #[test]
    fn requirements_are_met_by_any_version_in_range() {
        assert_eq!(judged("a 1.0.0: b ^1\n b 2.0.0:\n b 1.4.0: c *\n c 0.1.0:"), ["2", "0", "1", "0"]);
    }

    #[test]
    fn a_plugin_ranks_above_every_version_that_it_may_call() {
        let lines = ["a 1.0.0: b ^1", "b 1.0.0:", "b 1.1.0: c *", "c 1.0.0: d *", "d 1.0.0:"];
        let expected = ["3", "0", "2", "1", "0"];
        for turn in 0..lines.len() {
            let (mut lines, mut expected) = (lines, expected);
            lines.rotate_left(turn);
            expected.rotate_left(turn);
            assert_eq!(judged(&lines.join("\n")), expected);
        }
        // Each has what it requires without the other's newer version.
        assert_eq!(judged("a 1.0.0: b *\n b 1.0.0:\n b 1.1.0: a *").len(), 3);
    }

    #[test]
    fn what_is_missing_is_named_also_from_afar() {
        assert_eq!(
            judged("a 1.0.0: b ^1\n b 1.0.0: c ^2, d *\n c 1.9.0:"),
            [
                "b requires c ^2 (there is 1.9.0) and d *, which is not here",
                "requires c ^2 (there is 1.9.0) and d *, which is not here",
                "0"
            ]
        );
    }

    #[test]
    fn cycles_are_shown_and_hold_up_nobody_else() {
        let seen = judged("a 1.0.0: b *\n b 1.0.0: c *\n c 1.0.0: b *\n d 1.0.0: \n e 1.0.0: e *");
        assert_eq!(
            seen,
            [
                "requires itself: b -> c -> b",
                "requires itself: b -> c -> b",
                "requires itself: c -> b -> c",
                "0",
                "requires itself: e -> e"
            ]
        );
    }

    #[test]
    fn ten_thousand_in_a_row_are_judged_at_once() {
        let text: String = (0..10_000).map(|at| format!("p{at} 1.0.0: p{} *\n", at + 1)).collect::<String>()
            + "p10000 1.0.0:";
        assert_eq!(judged(&text)[0], "10000");
    }
}
