use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use crate::autofix::Remedy;
use crate::frame::{Color, Frame};
use crate::loader::nearest;
use crate::path::{Dotted, Pattern, pointer};
use crate::source::{Location, Source};
use crate::tree::Tree;

mod weights;

pub(crate) use weights::{Weights, Wishes};

/// How grave a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Told, and loaded all the same.
    Warning,
    /// The configuration is not loaded.
    Error,
}

impl Severity {
    fn label(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Bytes of sources that nothing shows. One for all that is told of a load: a [`Section`](crate::Section) that is read
/// later may show that there are more.
#[derive(Clone, Default)]
pub(crate) struct Masks(Arc<RwLock<Vec<(Arc<Source>, Range<usize>)>>>);

impl Masks {
    pub(crate) fn add(&self, places: Vec<(Arc<Source>, Range<usize>)>) {
        let mut masked = self.0.write().unwrap_or_else(PoisonError::into_inner);
        masked.extend(places);
        masked.sort_by_key(|(source, span)| (Arc::as_ptr(source), span.start, span.end));
        masked.dedup_by(|(one, a), (two, b)| Arc::ptr_eq(one, two) && a == b);
    }

    /// Whether there is something that was told.
    pub(crate) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Those of one source.
    pub(crate) fn of(&self, source: &Arc<Source>) -> Vec<Range<usize>> {
        let masked = self.0.read().unwrap_or_else(PoisonError::into_inner);
        masked.iter().filter(|(other, _)| Arc::ptr_eq(source, other)).map(|(_, span)| span.clone()).collect()
    }

    fn has(&self, place: &(Arc<Source>, Range<usize>)) -> bool {
        let masked = self.0.read().unwrap_or_else(PoisonError::into_inner);
        masked.iter().any(|(source, span)| Arc::ptr_eq(source, &place.0) && *span == place.1)
    }
}

/// One thing that a schema or a rule has against a configuration.
#[derive(Clone)]
pub struct Finding {
    pub(crate) severity: Severity,
    pub(crate) rule: String,
    pub(crate) path: Vec<String>,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    pub(crate) place: Option<(Arc<Source>, Range<usize>)>,
    pub(crate) remedy: Option<Remedy>,
    /// The message and no suggestion, if what is at the place turns out to be secret: the message shows it.
    pub(crate) veiled: Option<String>,
    pub(crate) masked: Masks,
}

impl Finding {
    /// What somebody's rule found at a path such as `db.pool_size`. The location is looked up.
    pub fn new(severity: Severity, path: &str, message: impl Into<String>) -> Finding {
        let path = crate::path::parse(path).unwrap_or_else(|_| vec![path.to_owned()]);
        Finding::of("", severity, path, message)
    }

    pub(crate) fn of(
        rule: impl Into<String>,
        severity: Severity,
        path: Vec<String>,
        message: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            rule: rule.into(),
            path,
            message: message.into(),
            suggestion: None,
            place: None,
            remedy: None,
            veiled: None,
            masked: Masks::default(),
        }
    }

    pub(crate) fn at(mut self, place: (Arc<Source>, Range<usize>)) -> Finding {
        self.place = Some(place);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Finding {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// How grave it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The keyword of the schema, such as `minimum`, or the name of the rule.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What is wrong, without path and location.
    pub fn message(&self) -> &str {
        self.veil().unwrap_or(&self.message)
    }

    /// What to do about it.
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref().filter(|_| self.veil().is_none())
    }

    /// The message for a log, which cannot be veiled later.
    fn logged(&self) -> &str {
        self.veiled.as_deref().unwrap_or(&self.message)
    }

    fn veil(&self) -> Option<&str> {
        let veiled = self.veiled.as_deref()?;
        self.place.as_ref().is_some_and(|place| self.masked.has(place)).then_some(veiled)
    }

    /// The key, as in `db.pool_size`; empty for the whole.
    pub fn path(&self) -> String {
        Dotted(&self.path).to_string()
    }

    /// The key as a JSON pointer.
    pub fn pointer(&self) -> String {
        pointer(&self.path)
    }

    /// The place.
    pub fn location(&self) -> Option<Location> {
        let (source, span) = self.place.as_ref()?;
        Some(source.location(span.start))
    }

    fn text(&self) -> String {
        match self.path.is_empty() {
            true => self.message().to_owned(),
            false => format!("{}: {}", Dotted(&self.path), self.message()),
        }
    }

    /// The finding with the lines it is about.
    pub fn render(&self, color: Color) -> String {
        let masked = self.place.as_ref().map(|(source, _)| self.masked.of(source)).unwrap_or_default();
        Frame {
            label: self.severity.label(),
            message: &self.text(),
            at: self.place.as_ref().map(|(source, span)| (&**source, span.clone())),
            show: true,
            masked: &masked,
            notes: &self.suggestion().iter().map(|text| format!("help: {text}")).collect::<Vec<_>>(),
        }
        .render(color)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = self.location() {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.text())?;
        match self.suggestion() {
            Some(suggestion) => write!(f, " ({suggestion})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finding")
            .field("severity", &self.severity)
            .field("rule", &self.rule)
            .field("path", &self.path())
            .field("message", &self.message())
            .field("suggestion", &self.suggestion())
            .field("location", &self.location().map(|location| location.to_string()))
            .finish()
    }
}

/// Everything that is wrong with a configuration, in the order of the files.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub(crate) findings: Vec<Finding>,
    /// How many were left out.
    pub(crate) more_errors: usize,
    more_warnings: usize,
}

impl Report {
    pub(crate) const NOTHING: Report = Report { findings: Vec::new(), more_errors: 0, more_warnings: 0 };

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many findings, warnings too, were left out for the [limit](crate::Limits::findings).
    pub fn unlisted(&self) -> usize {
        self.more_errors + self.more_warnings
    }

    /// Lists a finding if there are fewer than `most`, or else counts it. An error takes the place of a warning.
    pub(crate) fn push(&mut self, finding: Finding, most: usize) {
        let is_error = finding.severity >= Severity::Error;
        if self.findings.len() < most {
            self.findings.push(finding);
        } else if let Some(at) = self.yielding(finding.severity) {
            self.findings.remove(at);
            self.findings.push(finding);
            self.more_warnings += 1;
        } else if is_error {
            self.more_errors += 1;
        } else {
            self.more_warnings += 1;
        }
    }

    /// Adds what another one has.
    pub(crate) fn append(&mut self, other: Report, most: usize) {
        other.findings.into_iter().for_each(|finding| self.push(finding, most));
        self.more_errors += other.more_errors;
        self.more_warnings += other.more_warnings;
    }

    /// Whether one of this severity is listed if it is added.
    pub(crate) fn has_room(&self, severity: Severity, most: usize) -> bool {
        self.findings.len() < most || self.yielding(severity).is_some()
    }

    /// The warning that goes where there is no room for an error. Once there is none, there never is one again.
    fn yielding(&self, severity: Severity) -> Option<usize> {
        let may_yield = severity >= Severity::Error && self.more_errors == 0;
        let warning = |finding: &Finding| finding.severity < Severity::Error;
        if may_yield { self.findings.iter().rposition(warning) } else { None }
    }

    /// Whether nothing is an error.
    pub fn is_ok(&self) -> bool {
        self.more_errors == 0 && self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }

    /// Marks what its frames do not show: what is secret, and what stands under a key that a secret one may be misspelt
    /// as.
    pub(crate) fn mask(&mut self, tree: &Tree, secrets: &[Pattern], masks: &Masks) {
        if self.findings.is_empty() {
            return;
        }
        let mut patterns = secrets.to_vec();
        for finding in &self.findings {
            let path = &finding.path;
            if secrets.iter().any(|secret| secret.resembles(path)) {
                patterns.push(Pattern(path.clone()));
            }
            // Of the keys beside one that is missing too.
            let Some(table) = tree.walk(path).filter(|_| finding.rule == "required") else { continue };
            let missing = secrets.iter().filter_map(|secret| secret.part_in(path));
            let missing: BTreeSet<&str> = missing.filter(|key| table.get(key).is_none()).collect();
            let near = |key: &str| nearest(key, missing.iter().copied()).is_some();
            let beside = table.entries().filter(|(key, _)| !missing.is_empty() && near(key));
            patterns.extend(
                beside.map(|(key, _)| Pattern(path.iter().cloned().chain([key.to_owned()]).collect())),
            );
        }
        masks.add(tree.masked(&patterns));
        self.findings.iter_mut().for_each(|finding| finding.masked = masks.clone());
    }

    /// Tells the log of warnings: nobody may look at them. What is logged cannot be veiled later, so no value is.
    /// Warnings are told once: not if they are those that were logged `before`, wherever they stand by now.
    pub(crate) fn log(&self, before: &Report) {
        if self.findings.is_empty() && self.unlisted() == 0 {
            return;
        }
        let said = |report: &Report| {
            let findings = report.findings.iter();
            let all: Vec<_> =
                findings.map(|one| (one.rule.clone(), one.path.clone(), one.logged().to_owned())).collect();
            (all, report.unlisted())
        };
        if said(self) == said(before) {
            return;
        }
        let line = |finding: &Finding| {
            let at = finding.location().map(|location| format!("{location}: ")).unwrap_or_default();
            let path =
                if finding.path.is_empty() { String::new() } else { format!("{}: ", Dotted(&finding.path)) };
            format!("\n{at}{path}{}", finding.logged())
        };
        let warnings = self.findings.len() + self.unlisted();
        let lines: String = self.findings.iter().map(line).collect();
        tracing::warn!(warnings, "the configuration was loaded with warnings{lines}");
    }

    /// All findings with the lines they are about.
    pub fn render(&self, color: Color) -> String {
        let mut out: String =
            self.findings.iter().map(|finding| finding.render(color)).collect::<Vec<_>>().join("\n");
        if self.unlisted() > 0 {
            out.push_str(&format!("\nand {} more\n", self.unlisted()));
        }
        out
    }
}

/// One line a finding.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.findings.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {finding}", finding.severity.label())?;
        }
        match self.unlisted() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}
