use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{Config, State};
use crate::doc::Doc;
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::ConfigHierarchy;
use crate::interpolate::Asked;
use crate::layer::{self, Layer, Strange};
use crate::limits::Limits;
use crate::merge::{self, MergeStrategy, Strategies};
use crate::path::Pattern;
use crate::read;
use crate::report::{Finding, Report, Severity};
use crate::secret::SecretProvider;
use crate::section::{self, Sections};
use crate::shape::Shape;
use crate::source::{Format, Origin, Source};
use crate::tree::{Extracted, Ref, Tree, Unknown, extract};
use crate::validate::ConfigValidator;

mod secret;

/// Says where a configuration comes from, and loads it.
///
/// Layers given later win over layers given earlier. Nothing is read before [`load`](ConfigLoader::load).
///
/// ```
/// use swarm_config::{ConfigLoader, Format};
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     db: Db,
/// }
/// #[derive(serde::Deserialize)]
/// struct Db {
///     pool_size: u32,
/// }
///
/// let config = ConfigLoader::new()
///     .text("base.toml", Format::Toml, "[db]\npool_size = 5")
///     .env_from("APP", [("APP_DB_POOL_SIZE", "20")])
///     .load::<Settings>()?;
/// assert_eq!(config.get().db.pool_size, 20);
/// # Ok::<(), swarm_config::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ConfigLoader {
    layers: Vec<Layer>,
    limits: Limits,
    strategies: Vec<(String, MergeStrategy)>,
    secrets: Vec<String>,
    validators: Vec<Validation>,
    /// By scheme, the last that fits being asked.
    providers: Vec<(String, Arc<dyn SecretProvider>)>,
    strict: bool,
    literal: bool,
    #[cfg(feature = "sops")]
    keys: Option<crate::sops::AgeKeys>,
    parsed: Arc<Parsed>,
}

/// What was made of each file last. A file whose bytes are the same is neither parsed nor compiled again.
#[derive(Default)]
struct Parsed {
    docs: Mutex<HashMap<PathBuf, Arc<Doc>>>,
    validators: Mutex<HashMap<PathBuf, (Vec<u8>, ConfigValidator)>>,
}

#[derive(Clone)]
enum Validation {
    File(PathBuf),
    Given(ConfigValidator),
}

/// What was loaded, and what is needed to explain it.
pub(crate) struct Loaded {
    pub(crate) tree: Tree,
    /// The root of each layer, lowest first.
    pub(crate) layers: Vec<Ref>,
    pub(crate) strategies: Strategies,
    pub(crate) secrets: Vec<Pattern>,
    /// Those that showed only when the type was read.
    late_secrets: OnceLock<Vec<Pattern>>,
    /// Whether `${…}` stands for something.
    pub(crate) interpolated: bool,
    /// Where values come from that no layer sets.
    pub(crate) defaults: Option<Arc<Source>>,
    /// Warnings.
    pub(crate) report: Report,
}

impl Loaded {
    /// Marks more paths as secret.
    fn hide(&mut self, paths: Vec<Pattern>) {
        let new = self.unknown_of(paths);
        if !new.is_empty() {
            self.tree.mark_secrets(&self.layers, &new);
            self.secrets.extend(new);
        }
    }

    /// Marks what the type that was read showed to be secret and did not say before, as in the variants of an enum.
    fn hide_late(&self, paths: Vec<Pattern>) {
        let new = self.unknown_of(paths);
        if !new.is_empty() {
            self.tree.mark_late_secrets(&self.layers, &new);
            self.late_secrets.get_or_init(|| new);
        }
    }

    fn unknown_of(&self, paths: Vec<Pattern>) -> Vec<Pattern> {
        paths.into_iter().filter(|path| !self.secrets.contains(path)).collect()
    }

    /// Whether what stands at a path is secret, whatever layer it stands in.
    pub(crate) fn hides(&self, path: &[String]) -> bool {
        self.secrets
            .iter()
            .chain(self.late_secrets.get().into_iter().flatten())
            .any(|known| known.covers(path))
    }
}

impl ConfigLoader {
    /// A loader without layers.
    pub fn new() -> ConfigLoader {
        ConfigLoader::default()
    }

    fn layer(mut self, layer: Layer) -> ConfigLoader {
        self.layers.push(layer);
        self
    }

    /// Adds a file, whose extension names its format. It must be there.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> ConfigLoader {
        self.layer(Layer::File { path: path.into(), required: true })
    }

    /// Adds a file that may be missing.
    #[must_use]
    pub fn optional_file(self, path: impl Into<PathBuf>) -> ConfigLoader {
        self.layer(Layer::File { path: path.into(), required: false })
    }

    /// Adds a text. `name` stands in locations.
    #[must_use]
    pub fn text(self, name: impl Into<String>, format: Format, text: impl Into<String>) -> ConfigLoader {
        self.layer(Layer::Text { name: name.into(), format, text: text.into().into() })
    }

    /// Adds the usual layers of a folder: the base, and an environment such as `production` over it.
    #[must_use]
    pub fn hierarchy(self, folder: impl Into<PathBuf>, environment: impl Into<String>) -> ConfigLoader {
        self.layers(ConfigHierarchy::new(folder, environment))
    }

    /// Adds the layers of a hierarchy.
    #[must_use]
    pub fn layers(self, hierarchy: ConfigHierarchy) -> ConfigLoader {
        self.layer(Layer::Hierarchy(hierarchy))
    }

    /// Adds values made in code, such as the defaults of a struct. `name` stands in locations.
    #[must_use]
    pub fn values(self, name: impl Into<String>, values: &impl Serialize) -> ConfigLoader {
        let values = layer::to_json(values).map(Arc::new);
        self.layer(Layer::Values { name: name.into(), values })
    }

    /// Adds the environment variables of the process that begin with `prefix` and an underscore.
    ///
    /// `APP_DB_POOL_SIZE` sets `db.pool_size` because the schema, the type that is loaded or another layer has that
    /// key; nothing is guessed from underscores. Where two keys could be meant, loading fails and names both. A
    /// variable that no key is known for is told as a warning. Two underscores go from a table to any key of it:
    /// `APP_LABELS__TEAM` sets `labels.team`. A list is given with commas, or as JSON.
    #[must_use]
    pub fn env(self, prefix: impl Into<String>) -> ConfigLoader {
        self.layer(Layer::Environment { prefix: prefix.into(), variables: None })
    }

    /// Adds environment variables from a list in place of the process's.
    #[must_use]
    pub fn env_from<K: Into<String>, V: Into<String>>(
        self,
        prefix: impl Into<String>,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> ConfigLoader {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.layer(Layer::Environment { prefix: prefix.into(), variables: Some(variables) })
    }

    /// Adds one value as a command line gives it: `db.pool_size=3`.
    #[must_use]
    pub fn set(self, assignment: impl Into<String>) -> ConfigLoader {
        self.layer(Layer::Override(assignment.into()))
    }

    /// Adds what a figment provider supplies: its default profile, its own, and the global one over both.
    #[cfg(feature = "figment")]
    #[cfg_attr(docsrs, doc(cfg(feature = "figment")))]
    #[must_use]
    pub fn provider(self, provider: impl figment::Provider + Send + Sync + 'static) -> ConfigLoader {
        self.layer(Layer::Provider(Arc::new(provider)))
    }

    /// Adds a source that a test changes.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    #[must_use]
    pub fn fake(self, source: &crate::testing::FakeSource) -> ConfigLoader {
        self.layer(Layer::Fake(source.clone()))
    }

    /// Gives the key at a path a strategy for merging. `*` stands for any one key.
    #[must_use]
    pub fn merge(mut self, path: impl Into<String>, strategy: MergeStrategy) -> ConfigLoader {
        self.strategies.push((path.into(), strategy));
        self
    }

    /// Marks a path as secret: what stands there, and below, is shown nowhere. `*` stands for any one key.
    #[must_use]
    pub fn secret(mut self, path: impl Into<String>) -> ConfigLoader {
        self.secrets.push(path.into());
        self
    }

    /// Validates against a JSON Schema in a file, and fills the defaults that it has.
    #[must_use]
    pub fn schema_file(mut self, path: impl Into<PathBuf>) -> ConfigLoader {
        self.validators.push(Validation::File(path.into()));
        self
    }

    /// Validates with schemas and rules, and fills the defaults of the schemas.
    #[must_use]
    pub fn validator(mut self, validator: ConfigValidator) -> ConfigLoader {
        self.validators.push(Validation::Given(validator));
        self
    }

    /// Puts other limits in place of the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> ConfigLoader {
        self.limits = limits;
        self.parsed = Arc::default();
        self
    }

    /// Makes errors of keys that the loaded type does not have, and of environment variables that no key is known for.
    #[must_use]
    pub fn deny_unknown_keys(mut self) -> ConfigLoader {
        self.strict = true;
        self
    }

    /// Leaves `${…}` in texts as it stands.
    #[must_use]
    pub fn without_interpolation(mut self) -> ConfigLoader {
        self.literal = true;
        self
    }

    /// Loads, validates and makes a `T`.
    ///
    /// # Errors
    ///
    /// The first error of reading or merging, or every finding of schemas and rules at once
    /// ([`ErrorKind::Invalid`]), or the path and place of a value that is not of the type of `T`.
    pub fn load<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Config<T>> {
        Config::open(self.clone())
    }

    /// Loads and validates without a type.
    ///
    /// # Errors
    ///
    /// As [`load`](ConfigLoader::load), but for the type.
    pub fn tree(&self) -> Result<Tree> {
        self.read(Shape::default(), Vec::new()).map(|loaded| loaded.tree)
    }

    /// Loads and makes a `T`. Sections that are the same as `before` stay what they are.
    pub(crate) fn typed<T: DeserializeOwned>(&self, before: Option<Arc<Sections>>) -> Result<State<T>> {
        let (shape, secrets) = Shape::of_type::<T>();
        let mut loaded = self.read(shape, secrets)?;
        let mut report = std::mem::take(&mut loaded.report);
        let loaded = Arc::new(loaded);
        let (made, sections) = section::on(&loaded, before, || extract::<T>(loaded.tree.root()));
        let Extracted { value, unknown, secrets } = made?;
        loaded.hide_late(secrets);
        for unknown in unknown {
            // Each has a suggestion, which takes time to find.
            match report.findings.len() < self.limits.findings {
                true => report.findings.push(self.unknown(unknown)),
                false => report.unlisted += usize::from(self.strict),
            }
        }
        match report.is_ok() {
            true => Ok(State { value, loaded, report, sections: Arc::new(sections) }),
            false => Err(Error::invalid(report)),
        }
    }

    fn severity(&self) -> Severity {
        if self.strict { Severity::Error } else { Severity::Warning }
    }

    fn unknown(&self, unknown: Unknown) -> Finding {
        let Unknown { path, place, known } = unknown;
        let key = path.last().map(String::as_str).unwrap_or_default();
        let suggestion = nearest(key, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        Finding {
            severity: self.severity(),
            rule: "unknown-key".into(),
            message: format!("the key `{}` is known to nobody", crate::doc::shorten(key)),
            suggestion,
            path,
            place: Some(place),
            remedy: None,
            masked: Arc::new([]),
        }
    }

    /// Files that are read, and folders in which more may appear.
    pub(crate) fn watched(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut files = Vec::new();
        let mut folders = Vec::new();
        for layer in &self.layers {
            match layer {
                Layer::File { path, .. } => files.push(path.clone()),
                Layer::Hierarchy(hierarchy) => {
                    folders.extend(hierarchy.folders());
                    files.extend(hierarchy.files().unwrap_or_default());
                }
                _ => {}
            }
        }
        for validation in &self.validators {
            if let Validation::File(path) = validation {
                files.push(path.clone());
            }
        }
        (files, folders)
    }

    /// A hash of all files that are read: the same for the same content, within this process.
    pub(crate) fn fingerprint(&self) -> u64 {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        static STATE: std::sync::LazyLock<foldhash::quality::RandomState> =
            std::sync::LazyLock::new(Default::default);
        let mut hasher = STATE.build_hasher();
        for path in self.watched().0 {
            path.hash(&mut hasher);
            match read::bytes_of(&path, &self.limits) {
                Ok(bytes) => bytes.hash(&mut hasher),
                Err(error) => error.kind().hash(&mut hasher),
            }
        }
        #[cfg(feature = "testing")]
        for layer in &self.layers {
            if let Layer::Fake(source) = layer {
                source.read().map_err(|error| error.kind()).hash(&mut hasher);
            }
        }
        hasher.finish().max(1)
    }

    fn patterns(&self) -> Result<(Strategies, Vec<Pattern>)> {
        let mut strategies = Strategies::default();
        for (path, strategy) in &self.strategies {
            strategies.0.push((Pattern::parse(path)?, strategy.clone()));
        }
        let secrets = self.secrets.iter().map(|path| Pattern::parse(path)).collect::<Result<_>>()?;
        Ok((strategies, secrets))
    }

    /// Loads and validates. `typed` is what the type that is loaded has, and which of its paths are secret.
    pub(crate) fn read(&self, typed: Shape, paths: Vec<Pattern>) -> Result<Loaded> {
        let (strategies, mut secrets) = self.patterns()?;
        secrets.extend(paths);
        let mut validators = Vec::new();
        for validation in &self.validators {
            validators.push(match validation {
                Validation::Given(validator) => validator.clone(),
                Validation::File(path) => self.validator_at(path)?,
            });
        }
        for validator in &validators {
            validator.within(&self.limits)?;
            secrets.extend_from_slice(validator.secrets());
        }
        let mut docs: Vec<Option<Arc<Doc>>> = Vec::new();
        let mut late = Vec::new();
        for layer in &self.layers {
            match layer {
                Layer::Environment { .. } | Layer::Override(_) => {
                    late.push((docs.len(), layer));
                    docs.push(None);
                }
                layer => docs.extend(self.early(layer, &secrets)?.into_iter().map(Some)),
            }
        }
        let mut strange = Vec::new();
        let mut shape = Shape::default();
        if !late.is_empty() || !self.literal && docs.iter().flatten().any(|doc| doc.mentions("${")) {
            for validator in validators.iter().rev() {
                shape.learn(validator.shape().clone());
            }
            shape.learn(typed);
        }
        if !late.is_empty() {
            for doc in docs.iter().flatten() {
                shape.learn(Shape::of_value(Tree::of(doc.clone()).root()));
            }
        }
        for (at, layer) in late {
            let doc = match layer {
                Layer::Environment { prefix, variables } => {
                    let own: Vec<_>;
                    let variables = match variables {
                        Some(variables) => &variables[..],
                        None => {
                            // A variable that is not text cannot be one of ours.
                            own = std::env::vars_os()
                                .filter_map(|(name, value)| {
                                    Some((name.into_string().ok()?, value.into_string().ok()?))
                                })
                                .collect();
                            &own
                        }
                    };
                    let (doc, unknown) = layer::environment(prefix, variables, &shape, &self.limits)?;
                    strange.extend(unknown);
                    doc
                }
                Layer::Override(text) => layer::overridden(text, &shape, &self.limits)?,
                _ => continue,
            };
            docs[at] = Some(Arc::new(doc));
        }
        let docs: Vec<Arc<Doc>> = docs.into_iter().flatten().collect();
        let mut loaded = self.merged(docs, strategies, secrets)?;
        for strange in strange {
            loaded.report.findings.push(self.strange(strange));
        }
        for validator in &validators {
            loaded.defaults = validator.fill_defaults(&mut loaded.tree, &self.limits)?.or(loaded.defaults);
        }
        loaded.tree.mark_secrets(&loaded.layers, &loaded.secrets);
        if !self.literal {
            let ask = |scheme: &str, reference: &str| self.ask(scheme, reference);
            let asked = Asked::new(&ask, self.schemes());
            let reached = crate::interpolate::resolve(&mut loaded.tree, &shape, asked, &self.limits)?;
            loaded.hide(reached.into_iter().map(Pattern).collect());
        }
        for validator in &validators {
            let report = validator.check(&loaded.tree, &loaded.layers, &loaded.secrets, &self.limits)?;
            loaded.report.findings.extend(report.findings);
            loaded.report.unlisted += report.unlisted;
        }
        match loaded.report.is_ok() {
            true => Ok(loaded),
            false => Err(Error::invalid(loaded.report)),
        }
    }

    fn merged(&self, docs: Vec<Arc<Doc>>, strategies: Strategies, secrets: Vec<Pattern>) -> Result<Loaded> {
        let mut docs = docs.into_iter();
        let first = match docs.next() {
            Some(doc) => doc,
            None => Arc::new(layer::values("nothing", &serde_json::json!({}), &self.limits)?),
        };
        let mut tree = Tree::of(first);
        let mut layers = vec![tree.root];
        layers.extend(docs.map(|doc| tree.add_doc(doc)));
        for layer in &layers {
            let value = tree.value(*layer);
            if value.kind() != crate::Kind::Object {
                let (source, span) = value.place();
                let message = format!("a configuration is a table, not {}", value.kind().article());
                return Err(Error::new(ErrorKind::Type, message).at(&source, span).without_frame());
            }
        }
        merge::merge(&mut tree, &layers, &strategies)?;
        let interpolated = !self.literal;
        let (late_secrets, defaults, report) = (OnceLock::new(), None, Report::default());
        Ok(Loaded { tree, layers, strategies, secrets, late_secrets, interpolated, defaults, report })
    }

    fn strange(&self, strange: Strange) -> Finding {
        Finding {
            severity: self.severity(),
            rule: "unknown-variable".into(),
            path: Vec::new(),
            message: format!("no key is known for {}", strange.variable),
            suggestion: strange.nearest.map(|near| format!("did you mean {near}?")),
            place: Some(strange.place),
            remedy: None,
            masked: Arc::new([]),
        }
    }

    /// Documents of a layer that needs nothing of the others.
    fn early(&self, layer: &Layer, secrets: &[Pattern]) -> Result<Vec<Arc<Doc>>> {
        let limits = &self.limits;
        // A file that cannot be read has no paths, so none of its lines is shown where there are secrets.
        let hide = |error: Error| if secrets.is_empty() { error } else { error.without_frame() };
        Ok(match layer {
            Layer::File { path, required } => match self.file_at(path) {
                Ok(doc) => vec![doc],
                Err(error) if !required && error.kind() == ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(hide(error)),
            },
            Layer::Hierarchy(hierarchy) => {
                let files = hierarchy.files()?;
                files.iter().map(|path| self.file_at(path).map_err(hide)).collect::<Result<_>>()?
            }
            Layer::Text { name, format, text } => {
                let doc = read::text(name, *format, text.as_bytes(), limits).map_err(hide)?;
                vec![self.opened(Arc::new(doc), *format)?]
            }
            Layer::Values { name, values } => match values {
                Ok(values) => vec![Arc::new(layer::values(name, values, limits)?)],
                Err(message) => {
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        format!("{name} cannot be values: {message}"),
                    ));
                }
            },
            #[cfg(feature = "testing")]
            Layer::Fake(source) => {
                let text = source.read()?;
                vec![Arc::new(
                    read::text(&source.name, source.format, text.as_bytes(), limits).map_err(hide)?,
                )]
            }
            #[cfg(feature = "figment")]
            Layer::Provider(provider) => provider.supply(limits)?.into_iter().map(Arc::new).collect(),
            Layer::Environment { .. } | Layer::Override(_) => Vec::new(),
        })
    }

    fn file_at(&self, path: &Path) -> Result<Arc<Doc>> {
        let format = read::format_of(path)?;
        let bytes = read::bytes_of(path, &self.limits)?;
        let parsed = || self.parsed.docs.lock().unwrap_or_else(PoisonError::into_inner);
        // The bytes themselves are compared: neither times nor hashes can be wrong about them.
        if let Some(known) = parsed().get(path).filter(|known| known.source.text.as_bytes() == bytes) {
            return Ok(known.clone());
        }
        let source = Source::from_bytes(Origin::File(path.to_owned()), bytes, &self.limits)?;
        let doc = self.opened(Arc::new(read::read(source, format, &self.limits)?), format)?;
        parsed().insert(path.to_owned(), doc.clone());
        Ok(doc)
    }

    /// The validator for a schema file, compiled once for the same content.
    fn validator_at(&self, path: &Path) -> Result<ConfigValidator> {
        let bytes = read::bytes_of(path, &self.limits)?;
        let compiled = || self.parsed.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = compiled().get(path).filter(|(known, _)| *known == bytes) {
            return Ok(known.clone());
        }
        let validator = ConfigValidator::from_bytes(path, bytes.clone(), &self.limits)?;
        compiled().insert(path.to_owned(), (bytes, validator.clone()));
        Ok(validator)
    }
}

/// The one of `known` that a misspelt key may stand for.
pub(crate) fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let letters = key.chars().count();
    let most = 2.min(letters / 3).max(1);
    let key = key.to_lowercase();
    let known = known.filter(|known| known.chars().count().abs_diff(letters) <= most);
    let distance = |known: &str| strsim::damerau_levenshtein(&key, &known.to_lowercase());
    let (distance, near) = known.map(|known| (distance(known), known)).min()?;
    (distance <= most).then_some(near)
}
