use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::PatternOptions;
use serde_json::Value as Json;

use crate::autofix::Remedy;
use crate::diff::Spot;
use crate::doc::shorten;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::path::Pattern;
use crate::read;
use crate::report::{Finding, Masks, Report, Severity, Weights, Wishes};
use crate::shape::Shape;
use crate::source::{Origin, Source};
use crate::tree::Tree;

mod defaults;
mod found;
mod guard;
mod marks;
mod parts;
mod rule;
mod schema;
mod view;

pub use rule::{References, Rule};

use defaults::Defaults;
pub(crate) use found::meant_as_boolean;
use found::{Found, nearest_value};
use guard::Cost;
use parts::Parts;
#[cfg(not(feature = "testing"))]
use schema::Documents;
#[cfg(feature = "testing")]
pub(crate) use schema::Documents;
use schema::{Retrieve, Retriever};
pub(crate) use schema::{Schema, Step};
use view::{TreeJson, View};

/// Checks configurations against a JSON Schema and rules, and says everything that is wrong at once.
///
/// All drafts from 4 to 2020-12 are understood. Nothing is fetched: a `$ref` to another document goes to the
/// [retriever](ConfigValidatorBuilder::retriever), or is an error. Patterns are matched in linear time, so
/// look-around and back-references in them are refused when the schema is compiled.
///
/// ```
/// use serde_json::json;
/// use swarm_config::{Color, ConfigValidator, Format, Limits, Tree};
///
/// let validator = ConfigValidator::new(json!({
///     "properties": { "port": { "type": "integer" } },
///     "required": ["host"],
/// }))?;
/// let tree = Tree::parse("app.toml", Format::Toml, "port = 'http'", &Limits::default())?;
/// let report = validator.validate(&tree)?;
/// assert_eq!(report.findings().len(), 2);
/// print!("{}", report.render(Color::Auto));
/// # Ok::<(), swarm_config::Error>(())
/// ```
#[derive(Clone)]
pub struct ConfigValidator(Arc<Inner>);

struct Inner {
    schema: Option<Compiled>,
    rules: Vec<Arc<dyn Rule>>,
    weights: Weights,
    limits: Limits,
}

/// The names of its rules.
impl fmt::Debug for ConfigValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("ConfigValidator", self.0.schema.is_some(), &self.0.rules, f)
    }
}

impl fmt::Debug for ConfigValidatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("ConfigValidatorBuilder", self.schema.is_some(), &self.rules, f)
    }
}

fn debug(name: &str, has_schema: bool, rules: &[Arc<dyn Rule>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let rules: Vec<&str> = rules.iter().map(|rule| rule.name()).collect();
    f.debug_struct(name).field("has_schema", &has_schema).field("rules", &rules).finish_non_exhaustive()
}

/// What was made of a schema.
struct Compiled {
    validator: jsonschema::Validator<TreeJson>,
    defaults: Defaults,
    parts: Parts,
    /// Which keys it knows, and which of them hold secrets.
    shape: Shape,
    secrets: Vec<Pattern>,
    cost: Cost,
}

/// Puts a [`ConfigValidator`] together. Everything is checked by [`build`](ConfigValidatorBuilder::build).
#[derive(Default)]
pub struct ConfigValidatorBuilder {
    schema: Option<Given>,
    rules: Vec<Arc<dyn Rule>>,
    wishes: Wishes,
    retriever: Option<Arc<Retrieve>>,
    formats: bool,
    limits: Limits,
}

/// Where a schema comes from.
enum Given {
    Value(Json),
    File(PathBuf),
}

impl ConfigValidatorBuilder {
    /// Checks against a JSON Schema. Of several schemas the last that is given holds.
    #[must_use]
    pub fn schema(mut self, schema: Json) -> Self {
        self.schema = Some(Given::Value(schema));
        self
    }

    /// Checks against a schema in a JSON, YAML or TOML file, which [`build`](Self::build) reads. Unlike that of
    /// [`ConfigLoader::schema_file`](crate::ConfigLoader::schema_file), it is not read again on a reload.
    #[must_use]
    pub fn schema_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.schema = Some(Given::File(path.into()));
        self
    }

    /// Checks against the schema of a Rust type, whose defaults are those of `serde(default)`: a loader fills them in, where
    /// rules and [`explain`](crate::Config::explain) see them. `serde(deny_unknown_fields)` refuses keys that are misspelt.
    #[cfg(feature = "schemars")]
    #[cfg_attr(docsrs, doc(cfg(feature = "schemars")))]
    #[must_use]
    pub fn schema_of<T: schemars::JsonSchema>(self) -> Self {
        self.schema(schemars::schema_for!(T).to_value())
    }

    /// Checks a rule too.
    #[must_use]
    pub fn rule(mut self, rule: impl Rule) -> Self {
        self.rules.push(Arc::new(rule));
        self
    }

    /// Leaves out findings at a path and below, of one keyword or rule, or of all. `*` stands for any one key. What a loader
    /// finds itself, and what its other validators find, is for [`ConfigLoader::disable`](crate::ConfigLoader::disable).
    #[must_use]
    pub fn disable(mut self, path: impl Into<String>, rule: Option<&str>) -> Self {
        self.wishes.disabled.push((path.into(), rule.map(str::to_owned)));
        self
    }

    /// Gives the findings of a keyword such as `format`, or of a rule, another severity.
    #[must_use]
    pub fn severity(mut self, rule: impl Into<String>, severity: Severity) -> Self {
        self.wishes.severities.push((rule.into(), severity));
        self
    }

    /// Fetches documents that a `$ref` names by URI. Called while the validator is built, never later. Where the schema
    /// has no `$id`, `common.json` is asked for as `json-schema:///common.json`.
    #[must_use]
    pub fn retriever<F>(mut self, retrieve: F) -> Self
    where
        F: Fn(&str) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    {
        self.retriever = Some(Arc::new(retrieve));
        self
    }

    /// Checks `format` in every draft. Without this it is checked in those that say so: up to draft 7.
    #[must_use]
    pub fn formats(mut self) -> Self {
        self.formats = true;
        self
    }

    /// Puts other limits in place of the default ones. A loader's own hold wherever it validates.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Compiles the schema.
    ///
    /// # Errors
    ///
    /// When the file of a schema cannot be read, when the schema is not valid or not resolvable
    /// ([`ErrorKind::Schema`]), is beyond the limits, or when a path of [`disable`](Self::disable) is no path.
    pub fn build(self) -> Result<ConfigValidator> {
        let weights = self.wishes.weights()?;
        let limits = &self.limits;
        let schema = self.schema.map(|schema| match schema {
            Given::Value(schema) => Ok(schema),
            Given::File(path) => schema_in(&path, read::bytes_of(&path, limits)?, limits),
        });
        let compile = |text: Json| Compiled::new(&text, self.retriever, self.formats, limits);
        let schema = schema.transpose()?.map(compile).transpose()?;
        Ok(ConfigValidator(Arc::new(Inner { schema, rules: self.rules, weights, limits: self.limits })))
    }
}

/// The schema that the bytes of a file hold.
fn schema_in(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<Json> {
    let source = Source::from_bytes(Origin::File(path.to_owned()), bytes, limits)?;
    let doc = read::read(source, read::format_of(path)?, limits)?;
    Ok(Tree::of(Arc::new(doc)).to_json())
}

/// Patterns match in linear time, and take little memory.
fn patterns() -> PatternOptions<jsonschema::Regex> {
    PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(8 << 20)
}

impl Compiled {
    fn new(text: &Json, retrieve: Option<Arc<Retrieve>>, formats: bool, limits: &Limits) -> Result<Compiled> {
        let depth = guard::deep(text, 0, limits)?;
        let retriever = Retriever::new(retrieve, limits);
        let documents = Documents::fetch(text, &retriever)?;
        let schema = Schema::resolve(&documents, limits)?;
        let cost = guard::check(&schema, depth, limits)?;
        let mut options =
            jsonschema::options_for::<TreeJson>().with_retriever(retriever).with_pattern_options(patterns());
        if formats {
            options = options.should_validate_formats(true);
        }
        // The compiler recurses on what it was given, which the guard found to be shallow.
        let validator = options.build(text).map_err(|error| {
            let at = error.instance_path().as_str().to_owned();
            let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
            Error::new(ErrorKind::Schema, format!("the schema is not usable{place}: {}", error.masked()))
        })?;
        // The compiler took it, but what it marks as secret behind that reference would be shown.
        if let Some(reference) = schema.lost() {
            let message = format!("the schema is not usable: `{}` leads nowhere", shorten(reference));
            return Err(Error::new(ErrorKind::Schema, message));
        }
        Ok(Compiled {
            validator,
            defaults: Defaults::new(&schema)?,
            parts: Parts::new(&schema),
            shape: Shape::of_schema(&schema),
            secrets: marks::secrets(&schema)?,
            cost,
        })
    }
}

impl ConfigValidator {
    /// A validator that is put together from parts.
    pub fn builder() -> ConfigValidatorBuilder {
        ConfigValidatorBuilder::default()
    }

    /// A validator for one schema, and nothing else: `builder().schema(schema).build()`.
    ///
    /// # Errors
    ///
    /// As [`ConfigValidatorBuilder::build`].
    pub fn new(schema: Json) -> Result<ConfigValidator> {
        ConfigValidator::builder().schema(schema).build()
    }

    /// A validator for a schema in a file, and nothing else: `builder().schema_file(path).build()`.
    ///
    /// # Errors
    ///
    /// As [`ConfigValidatorBuilder::build`].
    pub fn from_file(path: impl Into<PathBuf>) -> Result<ConfigValidator> {
        ConfigValidator::builder().schema_file(path).build()
    }

    /// A validator for the schema of a Rust type, and nothing else: `builder().schema_of::<T>().build()`.
    ///
    /// # Errors
    ///
    /// As [`ConfigValidatorBuilder::build`].
    #[cfg(feature = "schemars")]
    #[cfg_attr(docsrs, doc(cfg(feature = "schemars")))]
    pub fn for_type<T: schemars::JsonSchema>() -> Result<ConfigValidator> {
        ConfigValidator::builder().schema_of::<T>().build()
    }

    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<ConfigValidator> {
        let schema = schema_in(path, bytes, limits)?;
        ConfigValidator::builder().schema(schema).limits(limits.clone()).build()
    }

    /// Everything that schema and rules have against a tree, as it stands.
    ///
    /// Defaults are not filled and `${…}` is not resolved, so a text that a loader takes may be refused here: what a
    /// service is going to load is checked by [`ConfigLoader::load_tree`](crate::ConfigLoader::load_tree), with all of its layers.
    ///
    /// # Errors
    ///
    /// When the check could not be finished within the limits. What is wrong with the tree is no error.
    pub fn validate(&self, tree: &Tree) -> Result<Report> {
        let (mut report, _) = self.check(tree, &self.0.limits, &Weights::default(), None)?;
        report.mask(tree, self.secrets(), &Masks::default());
        Ok(report)
    }

    pub(crate) fn shape(&self) -> &Shape {
        static NONE: Shape = Shape::NOTHING;
        self.0.schema.as_ref().map_or(&NONE, |schema| &schema.shape)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The paths that the schema marks as `writeOnly`, or as a `password` by format.
    pub(crate) fn secrets(&self) -> &[Pattern] {
        self.0.schema.as_ref().map_or(&[], |schema| &schema.secrets)
    }

    /// Keys of a tree that the schema has another name for.
    pub(crate) fn renamed(&self, tree: &Tree) -> Vec<(Vec<String>, Remedy)> {
        let mut found = Vec::new();
        self.shape().each(&mut Vec::new(), &mut |path, shape| {
            if let Some(name) = &shape.renamed
                && tree.walk(path).is_some()
            {
                found.push((path.to_vec(), Remedy::Rename(name.clone())));
            }
        });
        found
    }

    pub(crate) fn fill_defaults(&self, tree: &mut Tree, limits: &Limits) -> Result<Option<Arc<Source>>> {
        match &self.0.schema {
            Some(schema) => schema.defaults.fill(tree, limits),
            None => Ok(None),
        }
    }

    /// Refuses a schema that is beyond the limits of who loads with it.
    pub(crate) fn within(&self, limits: &Limits) -> Result<()> {
        self.0.schema.as_ref().map_or(Ok(()), |schema| schema.cost.within(limits))
    }

    /// Whether both are one validator.
    pub(crate) fn is(&self, other: &ConfigValidator) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// As [`validate`](ConfigValidator::validate), but for what its frames must not show, and how many steps show at most
    /// that the schema has nothing against the tree, if it has not: that is of use for the tree after it. `over` is what
    /// a loader wants of all findings.
    pub(crate) fn check(
        &self,
        tree: &Tree,
        limits: &Limits,
        over: &Weights,
        since: Option<Since<'_>>,
    ) -> Result<(Report, Option<u64>)> {
        let mut passed = None;
        let mut report = Report::default();
        if let Some(schema) = &self.0.schema {
            let root = View::Value(tree.root());
            let steps = limits.steps_for(tree);
            let refused =
                || Error::new(ErrorKind::Limit, format!("validation takes more than {steps} steps"));
            passed = schema.passes(tree, steps, since).ok_or_else(refused)?;
            if passed.is_none() {
                let weigh = |rule: &str, path: &[String]| {
                    let severity = self.0.weights.severity(rule, path, Severity::Error)?;
                    over.severity(rule, path, severity)
                };
                // Errors are made one by one, and an end is put to them: a file can be wrong in a million places. Those that
                // are not wanted, or are warnings, do not count: after them there may be one that refuses the load.
                let most = limits.findings.saturating_mul(4).saturating_add(16);
                let found = view::within(steps, || {
                    let mut found = Found::new(tree, &schema.shape, &weigh, limits.findings);
                    let mut any = false;
                    for error in schema.validator.iter_errors(root) {
                        any = true;
                        if found.errors >= most {
                            found.report.more_errors += 1;
                            break;
                        }
                        found.add(&error)?;
                    }
                    Ok((found.report, any))
                });
                let (found, any) = found.ok_or_else(refused)?.0?;
                if !any {
                    return Err(Error::new(
                        ErrorKind::Schema,
                        "the schema refuses the configuration without a reason",
                    ));
                }
                report = found;
            }
        }
        for rule in &self.0.rules {
            for mut finding in rule::contained(&**rule, tree) {
                finding.place = finding.place.or_else(|| Some(nearest_value(tree, &finding.path).place()));
                let weighed = self.0.weights.weighed(finding).and_then(|finding| over.weighed(finding));
                weighed.into_iter().for_each(|finding| report.push(finding, limits.findings));
            }
        }
        let order = |finding: &Finding| {
            finding.place.as_ref().map(|(source, span)| (layer_of(tree, source), span.start))
        };
        report.findings.sort_by_key(order);
        Ok((report, passed))
    }
}

/// A tree that the schema had nothing against, as it is known from one that came after it.
#[derive(Clone, Copy)]
pub(crate) struct Since<'t> {
    /// What changed.
    pub(crate) spots: &'t [Spot<'t>],
    /// The steps that showed it.
    pub(crate) steps: u64,
}

impl Compiled {
    /// Whether a tree is valid, and then how many steps show it at most. `None` if they are too many.
    fn passes(&self, tree: &Tree, most: u64, since: Option<Since<'_>>) -> Option<Option<u64>> {
        if let Some(Since { spots, steps }) = since
            && let Some(open) = self.parts.open(tree, spots)
        {
            // The whole takes no more than it took before and this: so a reload refuses what a load would.
            let left = most.saturating_sub(steps);
            let valid = view::within(left, || self.validator.is_valid(View::of(tree, &open)));
            // What is not valid is looked at whole, if only for what it says.
            if let Some((true, taken)) = valid {
                return Some(Some(steps + taken));
            }
        }
        let (valid, taken) = view::within(most, || self.validator.is_valid(View::Value(tree.root())))?;
        Some(valid.then_some(taken))
    }
}

fn layer_of(tree: &Tree, source: &Arc<Source>) -> usize {
    tree.docs.iter().position(|doc| Arc::ptr_eq(&doc.source, source)).unwrap_or(usize::MAX)
}
