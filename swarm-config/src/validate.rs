use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, Uri, ValidationError};
use serde_json::Value as Json;

use crate::autofix::Remedy;
use crate::doc::{Kind, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::loader::nearest;
use crate::path::{self, Pattern};
use crate::read;
use crate::report::{Finding, Report, Severity};
use crate::shape::Shape;
use crate::source::{Origin, Source};
use crate::tree::{Ref, Tree, Value};

mod defaults;
mod guard;
mod rule;
mod view;

pub use rule::{References, Rule};

use defaults::Defaults;
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
    schema: Option<Schema>,
    rules: Vec<Arc<dyn Rule>>,
    disabled: Vec<(Pattern, Option<String>)>,
    severities: Vec<(String, Severity)>,
}

struct Schema {
    text: Json,
    compiled: jsonschema::Validator<TreeJson>,
    defaults: Defaults,
}

/// Puts a [`ConfigValidator`] together. Everything is checked by [`build`](ConfigValidatorBuilder::build).
#[derive(Default)]
pub struct ConfigValidatorBuilder {
    schema: Option<Json>,
    rules: Vec<Arc<dyn Rule>>,
    disabled: Vec<(String, Option<String>)>,
    severities: Vec<(String, Severity)>,
    retriever: Option<Retriever>,
    formats: bool,
    limits: Limits,
}

type Retrieve = dyn Fn(&str) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

#[derive(Clone)]
struct Retriever(Option<Arc<Retrieve>>);

impl jsonschema::Retrieve for Retriever {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> {
        match &self.0 {
            Some(retrieve) => retrieve(uri.as_str()),
            None => Err(format!("nothing retrieves {uri}").into()),
        }
    }
}

impl ConfigValidatorBuilder {
    /// Checks against a JSON Schema.
    #[must_use]
    pub fn schema(mut self, schema: Json) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Checks a rule too.
    #[must_use]
    pub fn rule(mut self, rule: impl Rule) -> Self {
        self.rules.push(Arc::new(rule));
        self
    }

    /// Leaves out findings at a path and below, of one keyword or rule, or of all. `*` stands for any one key.
    #[must_use]
    pub fn disable(mut self, path: impl Into<String>, rule: Option<&str>) -> Self {
        self.disabled.push((path.into(), rule.map(str::to_owned)));
        self
    }

    /// Gives the findings of a keyword such as `format`, or of a rule, another severity.
    #[must_use]
    pub fn severity(mut self, rule: impl Into<String>, severity: Severity) -> Self {
        self.severities.push((rule.into(), severity));
        self
    }

    /// Fetches documents that a `$ref` names by URI. Called while the validator is built, never later.
    #[must_use]
    pub fn retriever<F>(mut self, retrieve: F) -> Self
    where
        F: Fn(&str) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    {
        self.retriever = Some(Retriever(Some(Arc::new(retrieve))));
        self
    }

    /// Checks `format` in every draft. Without this it is checked in those that say so: up to draft 7.
    #[must_use]
    pub fn formats(mut self) -> Self {
        self.formats = true;
        self
    }

    /// Puts other limits in place of the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Compiles the schema.
    ///
    /// # Errors
    ///
    /// When the schema is not valid or not resolvable ([`ErrorKind::Schema`]), is beyond the limits, or when a path
    /// of [`disable`](Self::disable) is no path.
    pub fn build(self) -> Result<ConfigValidator> {
        let mut disabled = Vec::new();
        for (path, rule) in self.disabled {
            disabled.push((Pattern::parse(&path)?, rule));
        }
        let schema = match self.schema {
            None => None,
            Some(text) => {
                guard::check(&text, &self.limits)?;
                let mut options = jsonschema::options_for::<TreeJson>()
                    .with_retriever(self.retriever.unwrap_or(Retriever(None)))
                    .with_pattern_options(
                        PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(8 << 20),
                    );
                if self.formats {
                    options = options.should_validate_formats(true);
                }
                // The compiler recurses on what it was given, which the guard found to be shallow.
                let compiled = options.build(&text).map_err(|error| {
                    let at = error.instance_path().as_str().to_owned();
                    let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
                    Error::new(
                        ErrorKind::Schema,
                        format!("the schema is not usable{place}: {}", error.masked()),
                    )
                })?;
                Some(Schema { defaults: Defaults::new(&text), compiled, text })
            }
        };
        Ok(ConfigValidator(Arc::new(Inner {
            schema,
            rules: self.rules,
            disabled,
            severities: self.severities,
        })))
    }
}

impl ConfigValidator {
    /// A validator for one schema, with the default limits.
    ///
    /// # Errors
    ///
    /// As [`ConfigValidatorBuilder::build`].
    pub fn new(schema: Json) -> Result<ConfigValidator> {
        ConfigValidator::builder().schema(schema).build()
    }

    /// A validator that is put together from parts.
    pub fn builder() -> ConfigValidatorBuilder {
        ConfigValidatorBuilder::default()
    }

    /// A validator for a schema in a JSON, YAML or TOML file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and as [`ConfigValidatorBuilder::build`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<ConfigValidator> {
        let limits = Limits::default();
        ConfigValidator::from_bytes(path.as_ref(), read::bytes_of(path.as_ref(), &limits)?, &limits)
    }

    /// A validator for the schema of a Rust type.
    ///
    /// # Errors
    ///
    /// As [`ConfigValidatorBuilder::build`].
    #[cfg(feature = "schemars")]
    #[cfg_attr(docsrs, doc(cfg(feature = "schemars")))]
    pub fn for_type<T: schemars::JsonSchema>() -> Result<ConfigValidator> {
        ConfigValidator::new(schemars::schema_for!(T).to_value())
    }

    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<ConfigValidator> {
        let source = Source::from_bytes(Origin::File(path.to_owned()), bytes, limits)?;
        let schema = Tree::of(Arc::new(read::read(source, read::format_of(path)?, limits)?)).to_json();
        ConfigValidator::builder().schema(schema).limits(limits.clone()).build()
    }

    /// Everything that schema and rules have against a tree.
    ///
    /// # Errors
    ///
    /// When the check could not be finished within the limits. What is wrong with the tree is no error.
    pub fn validate(&self, tree: &Tree) -> Result<Report> {
        self.check(tree, &[], &self.secrets(), &Limits::default())
    }

    pub(crate) fn shape(&self) -> Shape {
        self.0.schema.as_ref().map(|schema| Shape::of_schema(&schema.text)).unwrap_or_default()
    }

    /// The paths that the schema marks as `writeOnly`, or as a `password` by format.
    pub(crate) fn secrets(&self) -> Vec<Pattern> {
        let mut found = Vec::new();
        if let Some(schema) = &self.0.schema {
            let refs = guard::Refs::new(&schema.text);
            secrets(&refs, &schema.text, &mut Vec::new(), &mut found);
        }
        found
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

    pub(crate) fn fill_defaults(&self, tree: &mut Tree) -> Result<Option<Arc<Source>>> {
        match &self.0.schema {
            Some(schema) => schema.defaults.fill(tree, &Limits::default()),
            None => Ok(None),
        }
    }

    pub(crate) fn check(
        &self,
        tree: &Tree,
        layers: &[Ref],
        secrets: &[Pattern],
        limits: &Limits,
    ) -> Result<Report> {
        let mut report = Report::default();
        let masked = masked(tree, layers, secrets);
        let mut add = |mut finding: Finding| {
            let off = |(pattern, rule): &(Pattern, Option<String>)| {
                pattern.covers(&finding.path) && rule.as_ref().is_none_or(|rule| *rule == finding.rule)
            };
            if self.0.disabled.iter().any(off) {
                return;
            }
            if let Some((_, severity)) =
                self.0.severities.iter().rev().find(|(rule, _)| *rule == finding.rule)
            {
                finding.severity = *severity;
            }
            if report.findings.len() >= limits.findings {
                report.unlisted += usize::from(finding.severity >= Severity::Error);
                return;
            }
            finding.masked = masked.clone();
            report.findings.push(finding);
        };
        if let Some(schema) = &self.0.schema {
            let root = View::Value(tree.root());
            let values: usize = tree.docs.iter().map(|doc| doc.len()).sum();
            let steps = limits.steps.saturating_add(values as u64 * 64);
            let refused =
                || Error::new(ErrorKind::Limit, format!("validation takes more than {steps} steps"));
            let valid = view::within(steps, || schema.compiled.is_valid(root));
            if !valid.ok_or_else(refused)? {
                // Errors are made one by one, and an end is put to them: a file can be wrong in a million places.
                let most = limits.findings.saturating_mul(4).saturating_add(16);
                let shape = self.shape();
                let errors = view::within(steps, || {
                    let errors = schema.compiled.iter_errors(root).take(most);
                    errors.map(|error| findings(tree, &shape, &error)).collect::<Result<Vec<_>>>()
                });
                let errors = errors.ok_or_else(refused)??;
                if errors.is_empty() {
                    return Err(Error::new(
                        ErrorKind::Schema,
                        "the schema refuses the configuration without a reason",
                    ));
                }
                errors.into_iter().flatten().for_each(&mut add);
            }
        }
        for rule in &self.0.rules {
            for mut finding in rule::contained(&**rule, tree) {
                finding.place = finding.place.or_else(|| Some(nearest_value(tree, &finding.path).place()));
                add(finding);
            }
        }
        let order = |finding: &Finding| {
            finding.place.as_ref().map(|(source, span)| (layer_of(tree, source), span.start))
        };
        report.findings.sort_by_key(order);
        Ok(report)
    }
}

fn layer_of(tree: &Tree, source: &Arc<Source>) -> usize {
    tree.docs.iter().position(|doc| Arc::ptr_eq(&doc.source, source)).unwrap_or(usize::MAX)
}

/// Where secrets stand in the sources, in every layer.
fn masked(tree: &Tree, layers: &[Ref], secrets: &[Pattern]) -> Arc<[(Arc<Source>, Range<usize>)]> {
    let mut found = Vec::new();
    for root in layers.iter().copied().chain([tree.root]) {
        for pattern in secrets {
            tree.value(root).matching(&pattern.0, &mut |value| {
                value.each(&mut |value| {
                    if !matches!(value.kind(), Kind::Array | Kind::Object) {
                        found.push(value.place());
                    }
                })
            });
        }
    }
    tree.root().each(&mut |value| {
        if !tree.docs.is_empty() && value.node().is_some_and(crate::doc::Node::is_secret) {
            found.push(value.place());
        }
    });
    found.into()
}

fn secrets<'s>(refs: &guard::Refs<'s>, schema: &'s Json, path: &mut Vec<String>, found: &mut Vec<Pattern>) {
    if path.len() > 16 {
        return;
    }
    if schema["writeOnly"] == true || schema["format"] == "password" {
        found.push(Pattern(path.clone()));
        return;
    }
    for (key, field) in schema["properties"].as_object().into_iter().flatten() {
        path.push(key.clone());
        secrets(refs, field, path, found);
        path.pop();
    }
    for keyword in ["additionalProperties", "items"] {
        if let Some(below) = schema.get(keyword).filter(|below| below.is_object()) {
            path.push("*".into());
            secrets(refs, below, path, found);
            path.pop();
        }
    }
    if found.len() < 10_000 {
        for part in refs.in_place(schema, true) {
            secrets(refs, part, path, found);
        }
    }
}

/// The value at a path, or what is there on the way to it.
fn nearest_value<'t>(tree: &'t Tree, path: &[String]) -> Value<'t> {
    let mut value = tree.root();
    for part in path {
        match value.child(part) {
            Some(child) => value = child,
            None => break,
        }
    }
    value
}

/// What one error of the schema says, which is several findings where it names several keys.
fn findings(tree: &Tree, shape: &Shape, error: &ValidationError<'_>) -> Result<Vec<Finding>> {
    let path = path::parse_pointer(error.instance_path().as_str());
    let value = nearest_value(tree, &path);
    let keyword = error.kind().keyword().to_owned();
    let make = |message: String, suggestion: Option<String>| Finding {
        severity: Severity::Error,
        rule: keyword.clone(),
        path: path.clone(),
        message,
        suggestion,
        place: Some(value.place()),
        remedy: None,
        masked: Arc::new([]),
    };
    let one = |message: String, suggestion| Ok(vec![make(message, suggestion)]);
    match error.kind() {
        ValidationErrorKind::BacktrackLimitExceeded { .. }
        | ValidationErrorKind::RegexEngineFailure { .. } => {
            Err(Error::new(ErrorKind::Limit, "a pattern of the schema takes too long to match")
                .in_path(path::Dotted(&path)))
        }
        ValidationErrorKind::Referencing(_) => {
            Err(Error::new(ErrorKind::Schema, "a reference of the schema cannot be resolved"))
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known: Vec<&str> = shape
                .walk(&path)
                .into_iter()
                .flat_map(|shape| shape.fields.keys())
                .map(String::as_str)
                .collect();
            let each = unexpected.iter().map(|key| {
                let close = nearest(key, known.iter().copied());
                let near = close.map(|near| format!("did you mean `{near}`?"));
                let mut finding = make(format!("the key `{}` is not allowed here", shorten(key)), near);
                finding.path.push(key.clone());
                finding.remedy = close.map(|near| Remedy::Rename(near.to_owned()));
                finding.place = value.get(key).map(Value::key_place).or(finding.place);
                finding
            });
            Ok(each.collect())
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let mut finding = make(format!("the key `{key}` is missing"), None);
            let default = shape.walk(&path).and_then(|shape| shape.fields.get(key)?.default.clone());
            finding.remedy = default.map(|default| Remedy::Add(key.to_owned(), default));
            Ok(vec![finding])
        }
        ValidationErrorKind::Type { kind } => {
            let expected = match kind {
                TypeKind::Single(kind) => named(&kind.to_string()),
                TypeKind::Multiple(kinds) => {
                    kinds.iter().map(|kind| named(&kind.to_string())).collect::<Vec<_>>().join(" or ")
                }
            };
            let message = format!("expected {expected}, found {}", value.kind().article());
            let (suggestion, new) = retyped(value, &expected).unzip();
            let mut finding = make(message, suggestion);
            finding.remedy = new.map(Remedy::Replace);
            Ok(vec![finding])
        }
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().cloned().unwrap_or_default();
            let text = value.as_str().filter(|_| !value.is_secret());
            let near = text.and_then(|text| nearest(text, options.iter().filter_map(Json::as_str)));
            let shown: Vec<String> =
                options.iter().take(12).map(|option| shorten(&option.to_string())).collect();
            let more = if options.len() > shown.len() { ", …" } else { "" };
            let message = format!("{} is not one of {}{more}", shown_value(value), shown.join(", "));
            let mut finding = make(message, near.map(|near| format!("did you mean `{near}`?")));
            // Only the case may be guessed at: another spelling may be another thing.
            let mut same = options
                .iter()
                .filter_map(Json::as_str)
                .filter(|option| text.is_some_and(|text| option.to_lowercase() == text.to_lowercase()));
            finding.remedy =
                same.next().filter(|_| same.next().is_none()).map(|text| Remedy::Replace(text.into()));
            Ok(vec![finding])
        }
        ValidationErrorKind::Pattern { pattern } => {
            one(format!("{} does not match the pattern {}", shown_value(value), shorten(pattern)), None)
        }
        ValidationErrorKind::Format { format } => {
            one(format!("{} is not a valid {format}", shown_value(value)), None)
        }
        ValidationErrorKind::FalseSchema => one("nothing is allowed here".into(), None),
        ValidationErrorKind::PropertyNames { error } => {
            let key = error.instance().as_str().unwrap_or_default().to_owned();
            let mut finding =
                make(format!("the key `{}` is not a name that is allowed here", shorten(&key)), None);
            finding.place = value.get(&key).map(Value::key_place).or(finding.place);
            Ok(vec![finding])
        }
        _ => {
            let shown = shown_value(value);
            one(error.masked_with(shown.as_str()).to_string(), None)
        }
    }
}

fn named(kind: &str) -> String {
    match kind.trim_matches('"') {
        "null" => "null".into(),
        "boolean" => "a boolean".into(),
        "integer" => "an integer".into(),
        "number" => "a number".into(),
        "string" => "a string".into(),
        "array" => "an array".into(),
        "object" => "a table".into(),
        other => other.to_owned(),
    }
}

/// A value for a message: its text if it is short and no secret.
fn shown_value(value: Value<'_>) -> String {
    match value.kind() {
        _ if value.is_secret() => "the value".into(),
        Kind::Array | Kind::Object => "the value".into(),
        _ => shorten(&value.to_json().to_string()),
    }
}

/// What to do about a text that stands where another kind belongs: in words, and the value to write.
fn retyped(value: Value<'_>, expected: &str) -> Option<(String, Json)> {
    let text = value.as_str().filter(|_| !value.is_secret())?;
    let number = || serde_json::from_str::<Json>(text).ok().filter(Json::is_number);
    match expected {
        "a number" => Some(("remove the quotes".into(), number()?)),
        "an integer" => Some(("remove the quotes".into(), number().filter(|number| !number.is_f64())?)),
        "a boolean" => {
            let written = match text.to_ascii_lowercase().as_str() {
                "true" => (true, "without quotes"),
                "false" => (false, "without quotes"),
                "yes" | "on" | "y" => (true, "this is a text since YAML 1.2"),
                "no" | "off" | "n" => (false, "this is a text since YAML 1.2"),
                _ => return None,
            };
            Some((format!("write {}: {}", written.0, written.1), written.0.into()))
        }
        _ => None,
    }
}
