use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::doc::{Kind, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::path::{self, Dotted};
use crate::report::{Finding, Severity};
use crate::tree::{Tree, Value};

/// A check that a schema cannot express.
///
/// Implemented by applications. It is called with the whole configuration on every load and reload, merged, with the
/// defaults of the schema filled in and `${…}` resolved, from whichever thread loads, so it must not block. A rule that panics is reported as a finding and stops nothing else. What it
/// says is shown to people: it must not repeat secrets.
///
/// ```
/// use swarm_config::{Finding, Rule, Severity, Tree};
///
/// struct PoolFits;
///
/// impl Rule for PoolFits {
///     fn name(&self) -> &str {
///         "pool-fits"
///     }
///
///     fn check(&self, config: &Tree) -> Vec<Finding> {
///         let at = |path| config.get(path).and_then(|value| value.as_u64()).unwrap_or(0);
///         match at("db.pool_size") > at("db.max_connections") {
///             true => vec![Finding::new(Severity::Error, "db.pool_size", "larger than db.max_connections")],
///             false => vec![],
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is no rule", note = "implement `name` and `check`")]
pub trait Rule: Send + Sync + 'static {
    /// The name under which findings are reported, disabled and weighed.
    fn name(&self) -> &str;

    /// Everything that is wrong. A location is added to each finding by its path.
    fn check(&self, config: &Tree) -> Vec<Finding>;
}

/// Rules that are chosen at run time.
impl<R: Rule + ?Sized> Rule for Arc<R> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn check(&self, config: &Tree) -> Vec<Finding> {
        (**self).check(config)
    }
}

impl<R: Rule + ?Sized> Rule for Box<R> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn check(&self, config: &Tree) -> Vec<Finding> {
        (**self).check(config)
    }
}

/// A [`Rule`]: values at one place name keys at another.
///
/// ```
/// use swarm_config::{ConfigValidator, References};
///
/// let validator = ConfigValidator::builder()
///     .rule(References::new("workflows.*.agent", "agents")?)
///     .rule(References::new("tasks.*.depends_on", "tasks")?.acyclic().named("order-of-tasks"))
///     .build()?;
/// # Ok::<(), swarm_config::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct References {
    from: Vec<String>,
    to: Vec<String>,
    acyclic: bool,
    name: String,
}

impl References {
    /// Texts at `from`, or in a list there, name keys of the table at `to`. `*` in `from` stands for any one key.
    ///
    /// # Errors
    ///
    /// When one of them is no path, or `to` has a `*`.
    pub fn new(from: &str, to: &str) -> Result<References> {
        let (from, keys) = (path::parse(from)?, path::parse(to)?);
        if keys.iter().any(|part| part == "*") {
            let message = format!("the path `{to}` has a `*`: references lead to one table");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(References { from, to: keys, acyclic: false, name: "references".into() })
    }

    /// Gives the rule a name of its own, under which its findings are disabled and weighed. Without one it is
    /// `references`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> References {
        self.name = name.into();
        self
    }

    /// Refuses rings: `from` lies below the entries of `to`, and no entry leads back to itself.
    #[must_use]
    pub fn acyclic(mut self) -> References {
        self.acyclic = true;
        self
    }
}

/// How many findings get a suggestion, and among how many names it is looked for.
const SUGGESTED: usize = 20;
const MOST_NEAR: usize = 1000;

impl Rule for References {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, config: &Tree) -> Vec<Finding> {
        let References { from, to, .. } = self;
        let target = config.walk(to);
        let keys = || target.into_iter().flat_map(|target| target.entries()).map(|(key, _)| key);
        let known: HashSet<&str> = keys().collect();
        let mut findings = Vec::new();
        let mut edges: HashMap<String, Vec<(String, Vec<String>)>> = HashMap::new();
        each(config.root(), from, &mut Vec::new(), &mut |path, value| {
            let Some(name) = value.as_str().filter(|_| !value.is_secret()) else { return };
            if !known.contains(name) {
                let message = format!("names `{}`, which is not in `{}`", shorten(name), Dotted(to));
                let mut finding = Finding::new(Severity::Error, "", message);
                finding.path = path.to_vec();
                // Looking for what is near costs far more than finding out that nothing is there.
                if findings.len() < SUGGESTED {
                    let near = crate::loader::nearest(name, keys().take(MOST_NEAR));
                    finding.suggestion = near.map(|near| format!("did you mean `{near}`?"));
                }
                findings.push(finding);
            }
            if path.starts_with(to)
                && let Some(entry) = path.get(to.len())
            {
                edges.entry(entry.clone()).or_default().push((name.to_owned(), path.to_vec()));
            }
        });
        if self.acyclic {
            findings.extend(rings(&edges));
        }
        findings
    }
}

/// Calls `found` for each text that a pattern names, and for those in a list there.
fn each(
    value: Value<'_>,
    pattern: &[String],
    path: &mut Vec<String>,
    found: &mut dyn FnMut(&[String], Value<'_>),
) {
    let Some((part, rest)) = pattern.split_first() else {
        match value.kind() {
            Kind::Array => {
                for (position, item) in value.items().enumerate() {
                    path.push(position.to_string());
                    found(path, item);
                    path.pop();
                }
            }
            _ => found(path, value),
        }
        return;
    };
    let mut below = |key: &str, child: Value<'_>| {
        path.push(key.to_owned());
        each(child, rest, path, found);
        path.pop();
    };
    if part == "*" {
        value.entries().for_each(|(key, child)| below(key, child));
        value.items().enumerate().for_each(|(position, item)| below(&position.to_string(), item));
    } else if let Some(child) = value.child(part) {
        below(part, child);
    }
}

/// One finding for each ring, at the reference that closes it.
fn rings(edges: &HashMap<String, Vec<(String, Vec<String>)>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Nothing for an entry that was left, and for one on the way its place there.
    let mut seen: HashMap<&str, Option<usize>> = HashMap::new();
    let mut names: Vec<&String> = edges.keys().collect();
    names.sort();
    for start in names {
        // The way from `start`, with how many of each entry's references were followed.
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        if seen.contains_key(start.as_str()) {
            continue;
        }
        seen.insert(start, Some(0));
        while let Some((entry, next)) = way.last_mut() {
            let (entry, at) = (*entry, *next);
            *next += 1;
            match edges.get(entry).and_then(|edges| edges.get(at)) {
                None => {
                    seen.insert(entry, None);
                    way.pop();
                }
                Some((to, path)) => match seen.get(to.as_str()) {
                    Some(None) => {}
                    Some(Some(from)) => {
                        let message = format!("leads back to itself: {}", ring(&way[*from..]));
                        let mut finding = Finding::new(Severity::Error, "", message);
                        finding.path = path.clone();
                        findings.push(finding);
                    }
                    None => {
                        seen.insert(to, Some(way.len()));
                        way.push((to, 0));
                    }
                },
            }
        }
    }
    findings
}

/// How many entries of a ring are named.
const NAMED: usize = 8;

/// A ring in words: each finding takes as little as any other, however long its ring.
fn ring(way: &[(&str, usize)]) -> String {
    let named = |way: &[(&str, usize)]| way.iter().map(|(entry, _)| shorten(entry)).collect::<Vec<_>>();
    let mut names = match way.len().checked_sub(NAMED) {
        None | Some(0) => named(way),
        Some(more) => {
            let mut names = named(&way[..NAMED / 2]);
            names.push(format!("({more} more)"));
            names.extend(named(&way[way.len() - NAMED / 2..]));
            names
        }
    };
    names.extend(way.first().map(|(entry, _)| shorten(entry)));
    names.join(" -> ")
}

/// A finding in place of what a rule that panicked would have said.
pub(super) fn contained(rule: &dyn Rule, config: &Tree) -> Vec<Finding> {
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut findings = rule.check(config);
        for finding in &mut findings {
            if finding.rule.is_empty() {
                finding.rule = rule.name().to_owned();
            }
        }
        findings
    }));
    checked.unwrap_or_else(|_| {
        let name = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rule.name().to_owned()));
        let name = name.unwrap_or_else(|_| "a rule".into());
        let mut finding = Finding::new(Severity::Error, "", format!("the rule `{name}` panicked"));
        finding.rule = name;
        vec![finding]
    })
}
