//! The contract of [`SecretProvider`] as a list of checks.
//!
//! ```
//! use std::collections::BTreeMap;
//! use swarm_config::Secret;
//! use swarm_config::testing::conformance;
//!
//! let provider = BTreeMap::from([
//!     ("db#password".to_owned(), Secret::new("hunter2".to_owned())),
//!     ("api".to_owned(), Secret::new("token".to_owned())),
//! ]);
//! let report = conformance::check(&provider, &[("db#password", "hunter2"), ("api", "token")], "nope");
//! assert!(report.is_ok(), "{report}");
//! ```

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::secret::{SecretError, SecretProvider};

/// What [`check`] found.
#[derive(Debug, Clone, Default)]
#[must_use = "a report that nobody looks at proves nothing"]
pub struct Report {
    kept: Vec<&'static str>,
    broken: Vec<BrokenRule>,
}

/// A rule of the contract that a provider does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenRule {
    /// The rule, as a sentence that is true of a provider that keeps it.
    pub rule: &'static str,
    /// What the provider did instead. References are named, values are not.
    pub why: String,
}

impl Report {
    /// Whether every rule is kept.
    pub fn is_ok(&self) -> bool {
        self.broken.is_empty()
    }

    /// The rules that are kept.
    pub fn kept(&self) -> &[&'static str] {
        &self.kept
    }

    /// The rules that are not.
    pub fn broken(&self) -> &[BrokenRule] {
        &self.broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kept.len() + self.broken.len();
        write!(f, "{} of {all} rules are kept", self.kept.len())?;
        for BrokenRule { rule, why } in &self.broken {
            write!(f, "\n- not kept: {rule}: {why}")?;
        }
        Ok(())
    }
}

/// Checks a provider that holds the secrets of `known`, reference and value, and none called `missing`.
///
/// Two known secrets or more, with different values, let it find answers that are mixed up.
pub fn check(provider: &dyn SecretProvider, known: &[(&str, &str)], missing: &str) -> Report {
    let subject = Subject { provider, known, missing };
    let rules = [
        ("a reference is answered with its secret, and again with the same", subject.answers()),
        ("a reference that nothing is known of is answered with `NotFound`", subject.misses()),
        ("a reference with more at its end is another one", subject.distinguishes()),
        ("odd references are answered, with an error", subject.survives()),
        ("an error changes nothing for those who ask later", subject.answers()),
        ("threads that ask at once get each its own secret", subject.is_shared()),
    ];
    let mut report = Report::default();
    for (rule, kept) in rules {
        match kept {
            Ok(()) => report.kept.push(rule),
            Err(why) => report.broken.push(BrokenRule { rule, why }),
        }
    }
    report
}

struct Subject<'s> {
    provider: &'s dyn SecretProvider,
    known: &'s [(&'s str, &'s str)],
    missing: &'s str,
}

impl Subject<'_> {
    /// The error that a reference is answered with, nothing for a secret.
    fn error(&self, reference: &str) -> Result<Option<SecretError>, String> {
        catch_unwind(AssertUnwindSafe(|| self.provider.get(reference).err()))
            .map_err(|_| format!("{reference:?} made it panic"))
    }

    fn answer(&self, reference: &str, value: &str) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| self.provider.get(reference))) {
            Ok(Ok(secret)) if secret.expose() == value => Ok(()),
            Ok(Ok(_)) => Err(format!("{reference:?} was answered with another value")),
            Ok(Err(error)) => Err(format!("{reference:?}: {error}")),
            Err(_) => Err(format!("{reference:?} made it panic")),
        }
    }

    fn answers(&self) -> Result<(), String> {
        let mut twice = self.known.iter().chain(self.known);
        twice.try_for_each(|(reference, value)| self.answer(reference, value))
    }

    fn misses(&self) -> Result<(), String> {
        match self.error(self.missing)? {
            Some(SecretError::NotFound) => Ok(()),
            Some(error) => Err(format!("{:?} was answered with: {error}", self.missing)),
            None => Err(format!("{:?} was answered with a secret", self.missing)),
        }
    }

    fn distinguishes(&self) -> Result<(), String> {
        for (reference, _) in self.known {
            let longer = format!("{reference}-and-more");
            if self.error(&longer)?.is_none() {
                return Err(format!("{longer:?} was answered with a secret"));
            }
        }
        Ok(())
    }

    fn survives(&self) -> Result<(), String> {
        let long = "x".repeat(100_000);
        for odd in
            ["", "#", "##", "/", "..", "../../x", "a\0b", "\u{feff}", "%2e%2e", "?a=b", " ", "\n", &long]
        {
            if self.error(odd)?.is_none() {
                return Err(format!("{:?} was answered with a secret", crate::doc::shorten(odd)));
            }
        }
        Ok(())
    }

    fn is_shared(&self) -> Result<(), String> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| self.answers())).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or(Err("a thread panicked".into())))
        })
    }
}
