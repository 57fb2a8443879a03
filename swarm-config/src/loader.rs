use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{Config, State};
use crate::doc::Doc;
use crate::error::{Error, Result};
use crate::hierarchy::ConfigHierarchy;
use crate::layer::{self, Layer};
use crate::limits::Limits;
use crate::merge::MergeStrategy;
use crate::path::Pattern;
use crate::report::{Finding, Masks, Report, Severity, Weights, Wishes};
use crate::secret::SecretProvider;
use crate::section::{self, Sections};
use crate::shape::Shape;
use crate::source::Format;
use crate::tree::{Extracted, Hidden, Tree, Unknown, extract};
use crate::validate::ConfigValidator;

mod load;
mod secret;
mod unused;

pub(crate) use load::Prints;

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
    wishes: Wishes,
    literal: bool,
    #[cfg(feature = "sops")]
    keys: Option<crate::sops::AgeKeys>,
    parsed: Arc<Parsed>,
}

/// The names of the layers and their order, without what is in them.
impl fmt::Debug for ConfigLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers: Vec<_> = self.layers.iter().map(Layer::name).collect();
        let schemas = |validation: &Validation| match validation {
            Validation::File(path) => path.display().to_string(),
            Validation::Given(_) => "a validator".to_owned(),
        };
        let validators: Vec<_> = self.validators.iter().map(schemas).collect();
        let schemes: Vec<_> = self.providers.iter().map(|(scheme, _)| scheme).collect();
        f.debug_struct("ConfigLoader")
            .field("layers", &layers)
            .field("validators", &validators)
            .field("secret_providers", &schemes)
            .finish_non_exhaustive()
    }
}

/// What was made of each file last. A file whose bytes are the same is neither parsed nor compiled again.
#[derive(Default)]
struct Parsed {
    docs: Mutex<HashMap<PathBuf, Opened>>,
    validators: Mutex<HashMap<PathBuf, (Vec<u8>, ConfigValidator)>>,
}

/// A document as it is merged: decrypted, if it was encrypted.
#[derive(Clone)]
struct Opened {
    doc: Arc<Doc>,
    /// The public keys of those who decrypted it. Once they are others, they are asked again.
    #[cfg(feature = "sops")]
    keys: Option<Vec<crate::AgeRecipient>>,
}

#[derive(Clone)]
enum Validation {
    File(PathBuf),
    Given(ConfigValidator),
}

/// What was loaded, and what is kept of how.
pub(crate) struct Loaded {
    pub(crate) tree: Tree,
    /// How many of the paths of secrets the loader was given; schemas and the type tell of others, or they were found.
    named: usize,
    /// What was read for it.
    pub(crate) prints: Prints,
    /// Paths of texts, each with one that it refers to.
    references: Vec<(Vec<String>, Vec<String>)>,
    weights: Weights,
    /// Validators whose schema has nothing against it, and the steps that show it.
    pub(crate) valid: Vec<(ConfigValidator, u64)>,
    /// What nothing shows that was told of this load.
    pub(crate) masks: Masks,
}

impl Loaded {
    /// Makes more paths secret.
    fn hide(&self, paths: Vec<Pattern>) {
        let new = self.tree.hide(paths);
        if !new.is_empty() && self.masks.is_used() {
            self.masks.add(self.tree.masked(&new));
        }
    }

    /// Makes secret what a type that was read showed to be so and did not say before.
    pub(crate) fn hide_found(&self, found: Hidden) {
        let mut paths = found.paths;
        // Where somebody has named paths below, those are what is secret there.
        let known = self.tree.secrets();
        let is_named = |whole: &Pattern| known[..self.named].iter().any(|known| whole.covers(&known.0));
        paths.extend(found.below.into_iter().filter(|whole| !is_named(whole)));
        paths.retain(|path| !known.contains(path));
        // What refers to them holds them by now.
        let mut at = 0;
        while let Some(path) = paths.get(at).cloned() {
            at += 1;
            let leads = |(text, target): &(Vec<String>, Vec<String>)| path.seen_through(text, target);
            let new: HashSet<Pattern> = self.references.iter().filter_map(leads).collect();
            let new = new.into_iter().filter(|new| !known.contains(new) && !paths.contains(new));
            paths.extend(new.collect::<Vec<_>>());
        }
        drop(known);
        self.hide(paths);
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

    /// Adds the usual layers of a folder: the base, and an environment over it, as in `("config", "production")`.
    #[must_use]
    pub fn hierarchy(self, hierarchy: impl Into<ConfigHierarchy>) -> ConfigLoader {
        self.layer(Layer::Hierarchy(hierarchy.into()))
    }

    /// Adds values made in code, such as the defaults of a struct or what a command line gave. `name` stands in locations.
    ///
    /// A field that is `None` is not given, and leaves the layers below their say; what is written as `null`, as `()`
    /// and `serde_json::Value::Null` are, deletes the key.
    #[must_use]
    pub fn values(self, name: impl Into<String>, values: &impl Serialize) -> ConfigLoader {
        let values = layer::given(values).map(Arc::new);
        self.layer(Layer::Values { name: name.into(), values })
    }

    /// Adds the environment variables of the process that begin with `prefix` and an underscore, which may be given with
    /// it. The case of the prefix does not matter: `app` takes `APP_PORT` too.
    ///
    /// `APP_DB_POOL_SIZE` sets `db.pool_size` because the schema, the type that is loaded or another layer has that
    /// key; nothing is guessed from underscores. Where two keys could be meant, loading fails and names both. A
    /// variable that no key is known for is a [warning](crate::Snapshot::warnings). Two underscores go from a table to any key of it:
    /// `APP_LABELS__TEAM` sets `labels.team`. Where the schema or the type names keys, `labels` must be one of them or
    /// stand in another layer. A list is given with commas, or as JSON.
    /// One that is not UTF-8 is an error.
    ///
    /// With the empty prefix, `DATABASE_URL` sets `database.url`. Then only variables for which a key is known are
    /// taken, as most are for somebody else; mind that a key `path` or `home` is one that every process has a variable
    /// for.
    #[must_use]
    pub fn env(self, prefix: impl Into<String>) -> ConfigLoader {
        self.layer(Layer::Environment { prefix: bare(prefix.into()), variables: None })
    }

    /// Adds environment variables from a list in place of the process's.
    #[must_use]
    pub fn env_from<K: Into<String>, V: Into<String>>(
        self,
        prefix: impl Into<String>,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> ConfigLoader {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.layer(Layer::Environment { prefix: bare(prefix.into()), variables: Some(variables) })
    }

    /// Adds one value as a command line gives it: `db.pool_size=3`. It is read as what the key is known to be, or else
    /// as JSON, or else as a text; `db.pool_size=null` deletes the key.
    #[must_use]
    pub fn set(self, assignment: impl Into<String>) -> ConfigLoader {
        self.layer(Layer::Override(assignment.into()))
    }

    /// Adds what a figment provider supplies: its default profile, its own, and the global one over both.
    #[cfg(feature = "figment")]
    #[cfg_attr(docsrs, doc(cfg(feature = "figment")))]
    #[must_use]
    pub fn figment(self, provider: impl figment::Provider + Send + Sync + 'static) -> ConfigLoader {
        self.layer(Layer::Provider(Arc::new(provider)))
    }

    /// Adds a source that a test changes.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    #[must_use]
    pub fn fake(self, source: &crate::testing::FakeSource) -> ConfigLoader {
        self.layer(Layer::Fake(source.clone()))
    }

    /// Gives the key at a path a strategy for merging. `*` stands for any one key. A path that nobody knows is told, as
    /// for [`secret`](ConfigLoader::secret).
    #[must_use]
    pub fn merge_with(mut self, path: impl Into<String>, strategy: MergeStrategy) -> ConfigLoader {
        self.strategies.push((path.into(), strategy));
        self
    }

    /// Marks a path as secret: what stands there, and below, is shown nowhere. `*` stands for any one key. A path at
    /// which there is nothing, and that schema and type do not know, is told as a warning.
    #[must_use]
    pub fn secret(mut self, path: impl Into<String>) -> ConfigLoader {
        self.secrets.push(path.into());
        self
    }

    /// Validates against a JSON Schema in a file, and fills the defaults that it has. The file is watched, and read again
    /// on a reload. Where it needs a retriever or rules beside it, give [`validator`](ConfigLoader::validator) one with
    /// [`ConfigValidatorBuilder::schema_file`](crate::ConfigValidatorBuilder::schema_file).
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

    /// Makes errors of keys that the loaded type does not have, and of environment variables that no key is known for:
    /// the [`severity`](ConfigLoader::severity) of `unknown-key` and `unknown-variable`. `$schema` at the root, by which
    /// editors find a schema, is no such key. Of a struct with `serde(flatten)` and of an enum with `serde(tag)` or
    /// `serde(untagged)` serde does not say which keys it passes over: a schema with `additionalProperties` does.
    #[must_use]
    pub fn deny_unknown_keys(self) -> ConfigLoader {
        self.severity("unknown-key", Severity::Error).severity("unknown-variable", Severity::Error)
    }

    /// Gives findings another severity: those of the loader itself, which are `unknown-key`, `unknown-variable` and
    /// `unused-pattern`, and those of a keyword or rule of any validator. What is given last holds.
    #[must_use]
    pub fn severity(mut self, rule: impl Into<String>, severity: Severity) -> ConfigLoader {
        self.wishes.severities.push((rule.into(), severity));
        self
    }

    /// Leaves out findings at a path and below, of one keyword or rule, or of all. `*` stands for any one key. Of the
    /// loader's own `unknown-variable` and `unused-pattern` are at the root, whose path is empty.
    #[must_use]
    pub fn disable(mut self, path: impl Into<String>, rule: Option<&str>) -> ConfigLoader {
        self.wishes.disabled.push((path.into(), rule.map(str::to_owned)));
        self
    }

    /// Leaves `${…}` in texts as it stands.
    #[must_use]
    pub fn without_interpolation(mut self) -> ConfigLoader {
        self.literal = true;
        self
    }

    /// Loads, validates and makes a `T`. [`Snapshot::warnings`](crate::Snapshot::warnings) has what is no error; the log
    /// is told of it too, and after a reload if it is not what it was told before.
    ///
    /// Files are read and [providers of secrets](ConfigLoader::secret_provider) asked on the thread that calls: in
    /// asynchronous code, within tokio's `spawn_blocking` or the like.
    ///
    /// # Errors
    ///
    /// The first error of reading or merging, or every finding of schemas and rules at once
    /// ([`ErrorKind::Invalid`](crate::ErrorKind::Invalid)), or the path and place of a value that is not of the type of `T`.
    pub fn load<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Config<T>> {
        Config::open(self.clone())
    }

    /// Loads and validates without a type, on the thread that calls. [`Tree::warnings`] has what is no error.
    ///
    /// # Errors
    ///
    /// As [`load`](ConfigLoader::load), but for the type.
    pub fn load_tree(&self) -> Result<Tree> {
        let (loaded, report) = self.read(Shape::default(), Vec::new(), None, &mut Prints::new())?;
        report.log(&Report::NOTHING);
        let _ = loaded.tree.report.set(report);
        Ok(loaded.tree)
    }

    /// Loads and makes a `T`. Sections that are the same as before stay what they are. `prints` gets what was read, in
    /// case of an error too.
    pub(crate) fn typed<T: DeserializeOwned>(
        &self,
        before: Option<(&Loaded, Arc<Sections>)>,
        prints: &mut Prints,
    ) -> Result<State<T>> {
        let (shape, secrets) = Shape::of_type::<T>();
        let (before, sections) = before.unzip();
        let (mut loaded, mut report) = self.read(shape, secrets, before, prints)?;
        loaded.prints = prints.clone();
        let loaded = Arc::new(loaded);
        let (made, sections) = section::on(&loaded, sections, || extract::<T>(loaded.tree.root()));
        let Extracted { value, unknown, secrets } = made?;
        loaded.hide_found(secrets);
        for unknown in unknown {
            let Unknown { path, place, known } = unknown;
            // By which editors find the schema.
            if path == ["$schema"] {
                continue;
            }
            let finding = Finding::of("unknown-key", Severity::Warning, path, "").at(place);
            let Some(mut finding) = loaded.weights.weighed(finding) else { continue };
            // Words and suggestions take time, and there may be very many.
            if report.has_room(finding.severity, self.limits.findings) {
                let key = finding.path.last().map(String::as_str).unwrap_or_default();
                finding.message = format!("the key `{}` is known to nobody", crate::doc::shorten(key));
                let near = nearest(key, known.iter().copied());
                finding.suggestion = near.map(|near| format!("did you mean `{near}`?"));
            }
            report.push(finding, self.limits.findings);
        }
        report.mask(&loaded.tree, &loaded.tree.secrets(), &loaded.masks);
        if !report.is_ok() {
            return Err(Error::invalid(report));
        }
        let _ = loaded.tree.report.set(report);
        Ok(State { value, loaded, sections: Arc::new(sections) })
    }
}

/// A prefix without the underscore that is between it and a name; figment's prefixes have it.
fn bare(prefix: String) -> String {
    prefix.strip_suffix('_').map(str::to_owned).unwrap_or(prefix)
}

/// Comparing takes as long as both lengths multiplied, and nobody mistypes a longer name.
const NEAR: usize = 64;

/// The one of `known` that a misspelt key may stand for. Long ones stand for nothing.
pub(crate) fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let letters = key.chars().take(NEAR + 1).count();
    if letters > NEAR {
        return None;
    }
    let most = 2.min(letters / 3).max(1);
    let key = key.to_lowercase();
    let known = known.filter(|known| known.chars().take(NEAR + 3).count().abs_diff(letters) <= most);
    let distance = |known: &str| strsim::damerau_levenshtein(&key, &known.to_lowercase());
    let (distance, near) = known.map(|known| (distance(known), known)).min()?;
    (distance <= most).then_some(near)
}
