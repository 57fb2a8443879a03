//! The order in which a configuration is loaded, and what is kept from one load to the next.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, Hash};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::{ConfigLoader, Loaded, Opened, Parsed, Validation};
use crate::diff::spots;
use crate::doc::{Doc, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::ConfigHierarchy;
use crate::interpolate::Asked;
use crate::layer::{self, Known, Layer, Strange};
use crate::merge::{self, Strategies};
use crate::path::Pattern;
use crate::read;
use crate::report::{Finding, Report, Severity};
use crate::shape::Shape;
use crate::source::{Format, Origin, Source};
use crate::tree::Tree;
use crate::validate::{ConfigValidator, Since};

/// What files hold, or why they cannot be read: a hash each, the same for the same content within this process. A file
/// that was read twice and was not the same has two.
pub(crate) type Prints = BTreeSet<(PathBuf, u64)>;

fn print(content: &impl Hash) -> u64 {
    static STATE: std::sync::LazyLock<foldhash::quality::RandomState> =
        std::sync::LazyLock::new(Default::default);
    STATE.hash_one(content)
}

/// The files of a hierarchy. What is wrong with it counts as its content.
fn files_of(hierarchy: &ConfigHierarchy, prints: &mut Prints) -> Result<Vec<PathBuf>> {
    let files = hierarchy.files();
    if let Err(error) = &files {
        prints.extend(
            hierarchy.folders().into_iter().take(1).map(|folder| (folder, print(&error.to_string()))),
        );
    }
    files
}

#[cfg(feature = "testing")]
fn fake(source: &crate::testing::FakeSource, prints: &mut Prints) -> Result<String> {
    let text = source.read();
    prints.insert((PathBuf::from(&*source.name), print(&text.as_deref().map_err(Error::kind))));
    text
}

fn unknown(strange: Strange) -> Finding {
    let message = format!("no key is known for {}", shorten(&strange.variable));
    let finding = Finding::of("unknown-variable", Severity::Warning, Vec::new(), message).at(strange.place);
    Finding { suggestion: strange.nearest.map(|near| format!("did you mean {near}?")), ..finding }
}

impl ConfigLoader {
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

    /// What all files that are read hold by now.
    pub(crate) fn prints(&self) -> Prints {
        let mut prints = Prints::new();
        for layer in &self.layers {
            match layer {
                Layer::Hierarchy(hierarchy) => drop(files_of(hierarchy, &mut prints)),
                #[cfg(feature = "testing")]
                Layer::Fake(source) => drop(fake(source, &mut prints)),
                _ => {}
            }
        }
        for path in self.watched().0 {
            let _ = self.bytes_at(&path, &mut prints);
        }
        prints
    }

    /// The same loader, which shares nothing that it keeps from one load to the next.
    pub(crate) fn apart(mut self) -> ConfigLoader {
        let Parsed { docs, validators } = &*self.parsed;
        let docs = docs.lock().unwrap_or_else(PoisonError::into_inner).clone().into();
        let validators = validators.lock().unwrap_or_else(PoisonError::into_inner).clone().into();
        self.parsed = Arc::new(Parsed { docs, validators });
        self
    }

    /// Forgets what was made of files that are not among `files`.
    fn forget_but(&self, files: &HashSet<&Path>) {
        let Parsed { docs, validators } = &*self.parsed;
        let is_kept = |path: &PathBuf| files.contains(&**path);
        docs.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| is_kept(path));
        validators.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| is_kept(path));
    }

    fn patterns(&self) -> Result<(Strategies, Vec<Pattern>)> {
        let mut strategies = Strategies::default();
        for (path, strategy) in &self.strategies {
            strategies.0.push((Pattern::parse(path)?, strategy.clone()));
        }
        let secrets = self.secrets.iter().map(|path| Pattern::parse(path)).collect::<Result<_>>()?;
        Ok((strategies, secrets))
    }

    /// Loads and validates. `typed` is what the type that is loaded has, and which of its paths are secret. What is the same
    /// as `before` is not validated again. `prints` gets what was read, in case of an error too.
    pub(crate) fn read(
        &self,
        typed: Shape,
        paths: Vec<Pattern>,
        before: Option<&Loaded>,
        prints: &mut Prints,
    ) -> Result<(Loaded, Report)> {
        let loaded = self.read_all(typed, paths, before, prints);
        match &loaded {
            Ok(_) => self.forget_but(&prints.iter().map(|(path, _)| &**path).collect()),
            // What comes after the error was not read, and is to be known when all is well again.
            Err(_) => self.forget_but(&self.watched().0.iter().map(|path| &**path).collect()),
        }
        loaded
    }

    fn read_all(
        &self,
        typed: Shape,
        paths: Vec<Pattern>,
        before: Option<&Loaded>,
        prints: &mut Prints,
    ) -> Result<(Loaded, Report)> {
        let (strategies, mut secrets) = self.patterns()?;
        let named = secrets.len();
        secrets.extend(paths);
        let mut validators = Vec::new();
        for validation in &self.validators {
            validators.push(match validation {
                Validation::Given(validator) => validator.clone(),
                Validation::File(path) => self.validator_at(path, prints)?,
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
                layer => docs.extend(self.early(layer, &secrets, prints)?.into_iter().map(Some)),
            }
        }
        let mut strange = Vec::new();
        let shapes = validators.iter().rev().map(ConfigValidator::shape).chain([&typed]).collect();
        let stated = Known::of_shapes(shapes);
        let trees: Vec<Tree> = match late.is_empty() {
            true => Vec::new(),
            false => docs.iter().flatten().map(|doc| Tree::of(doc.clone())).collect(),
        };
        let known = stated.and(trees.iter().map(Tree::root));
        for (at, layer) in late {
            let doc = match layer {
                Layer::Environment { prefix, variables } => {
                    let own;
                    let variables = match variables {
                        Some(variables) => &variables[..],
                        None => {
                            own = layer::of_process(prefix, &known)?;
                            &own
                        }
                    };
                    let (doc, unknown) = layer::environment(prefix, variables, &known, &self.limits)?;
                    strange.extend(unknown);
                    doc
                }
                Layer::Override(text) => layer::overridden(text, &known, &self.limits)?,
                _ => continue,
            };
            docs[at] = Some(Arc::new(doc));
        }
        let docs: Vec<Arc<Doc>> = docs.into_iter().flatten().collect();
        // A variable that a reference asks for is known, though no key is.
        let asked_for = |name: &str| {
            let asks = |end: char| docs.iter().any(|doc| doc.mentions(&format!("${{env:{name}{end}")));
            !self.literal && (asks('}') || asks(':'))
        };
        strange.retain(|strange| !asked_for(&strange.variable));
        let mut loaded = self.merged(docs, strategies, secrets, named)?;
        let fill = |loaded: &mut Loaded| -> Result<bool> {
            let tree = &mut loaded.tree;
            let known = tree.origins.defaults.len();
            for validator in &validators {
                let defaults = validator.fill_defaults(tree, &self.limits)?;
                tree.origins.defaults.extend(defaults);
            }
            tree.mark_secrets();
            Ok(tree.origins.defaults.len() > known)
        };
        fill(&mut loaded)?;
        if !self.literal {
            let ask = |scheme: &str, reference: &str| self.ask(scheme, reference);
            let mut asked = Asked::new(&ask, self.schemes());
            let mut resolve = |loaded: &mut Loaded, since| -> Result<()> {
                let tree = &mut loaded.tree;
                let resolved = crate::interpolate::resolve(tree, since, &stated, &mut asked, &self.limits)?;
                loaded.references.extend(resolved.references);
                loaded.hide(resolved.secrets.into_iter().map(Pattern).collect());
                Ok(())
            };
            resolve(&mut loaded, 0)?;
            // What stands for a table has the defaults of its own place, which may refer to something again.
            let since = loaded.tree.docs.len();
            if !loaded.tree.templates.is_empty() && fill(&mut loaded)? {
                resolve(&mut loaded, since)?;
            }
        }
        let mut report = Report::default();
        let strange = strange.into_iter().map(unknown);
        let told = strange.chain(self.unused(&loaded, &stated));
        let told = told.filter_map(|finding| loaded.weights.weighed(finding));
        told.for_each(|finding| report.push(finding, self.limits.findings));
        let before = before.filter(|before| !before.valid.is_empty());
        let spots = before.map(|before| spots(&before.tree, &loaded.tree)).unwrap_or_default();
        let mut valid = Vec::new();
        for validator in &validators {
            let known = before.and_then(|before| before.valid.iter().find(|(known, _)| validator.is(known)));
            let since = known.map(|(_, steps)| Since { spots: &spots, steps: *steps });
            let (checked, passed) = validator.check(&loaded.tree, &self.limits, &loaded.weights, since)?;
            report.append(checked, self.limits.findings);
            valid.extend(passed.map(|steps| (validator.clone(), steps)));
        }
        report.mask(&loaded.tree, &loaded.tree.secrets(), &loaded.masks);
        if !report.is_ok() {
            return Err(Error::invalid(report));
        }
        loaded.valid = valid;
        Ok((loaded, report))
    }

    fn merged(
        &self,
        docs: Vec<Arc<Doc>>,
        strategies: Strategies,
        secrets: Vec<Pattern>,
        named: usize,
    ) -> Result<Loaded> {
        let mut docs = docs.into_iter();
        let first = match docs.next() {
            Some(doc) => doc,
            None => Arc::new(layer::values("nothing", &serde_json::json!({}), &self.limits)?),
        };
        let mut tree = Tree::of(first);
        docs.for_each(|doc| tree.add_layer(doc));
        for layer in &tree.origins.layers {
            let value = tree.value(*layer);
            if value.kind() != crate::Kind::Object {
                let (source, span) = value.place();
                let message = format!("a configuration is a table, not {}", value.kind().article());
                return Err(Error::new(ErrorKind::Type, message).at(&source, span).without_frame());
            }
        }
        merge::merge(&mut tree, strategies);
        tree.origins.interpolated = !self.literal;
        tree.name_secrets(secrets);
        let (prints, references, valid, masks) = Default::default();
        let weights = self.wishes.weights()?;
        Ok(Loaded { tree, named, prints, references, weights, valid, masks })
    }

    /// Documents of a layer that needs nothing of the others.
    fn early(&self, layer: &Layer, secrets: &[Pattern], prints: &mut Prints) -> Result<Vec<Arc<Doc>>> {
        let limits = &self.limits;
        // A file that cannot be read has no paths, so none of its lines is shown where there are secrets.
        let hide = |error: Error| if secrets.is_empty() { error } else { error.hiding_lines() };
        Ok(match layer {
            Layer::File { path, required } => match self.file_at(path, prints) {
                Ok(doc) => vec![doc],
                Err(error) if !required && error.kind() == ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(hide(error)),
            },
            Layer::Hierarchy(hierarchy) => {
                let files = files_of(hierarchy, prints)?;
                files.iter().map(|path| self.file_at(path, prints).map_err(hide)).collect::<Result<_>>()?
            }
            Layer::Text { name, format, text } => {
                let doc = read::text(name, *format, text.as_bytes(), limits).map_err(hide)?;
                vec![self.opened(Arc::new(doc), *format)?.doc]
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
                let text = fake(source, prints)?;
                let doc = read::text(&source.name, source.format, text.as_bytes(), limits).map_err(hide)?;
                vec![self.opened(Arc::new(doc), source.format)?.doc]
            }
            #[cfg(feature = "figment")]
            Layer::Provider(provider) => {
                let supplied =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| provider.supply(limits)));
                let docs = supplied.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Provider, "a figment provider panicked"))
                })?;
                docs.into_iter().map(Arc::new).collect()
            }
            Layer::Environment { .. } | Layer::Override(_) => Vec::new(),
        })
    }

    fn bytes_at(&self, path: &Path, prints: &mut Prints) -> Result<Vec<u8>> {
        let bytes = read::bytes_of(path, &self.limits);
        prints.insert((path.to_owned(), print(&bytes.as_deref().map_err(Error::kind))));
        bytes
    }

    fn file_at(&self, path: &Path, prints: &mut Prints) -> Result<Arc<Doc>> {
        let format = read::format_of(path)?;
        let bytes = self.bytes_at(path, prints)?;
        let parsed = || self.parsed.docs.lock().unwrap_or_else(PoisonError::into_inner);
        // The bytes themselves are compared: neither times nor hashes can be wrong about them.
        let known = parsed().get(path).cloned();
        let is_same = |known: &&Opened| known.doc.source.text.as_bytes() == bytes && self.still_opens(known);
        if let Some(known) = known.as_ref().filter(is_same) {
            return Ok(known.doc.clone());
        }
        let source = Source::from_bytes(Origin::File(path.to_owned()), bytes, &self.limits)?;
        let amended = known.filter(|_| format == Format::Json);
        let amended = amended.and_then(|known| read::json::amend(&known.doc, &source, &self.limits));
        let doc = amended.map_or_else(|| read::read(source, format, &self.limits), Ok)?;
        let opened = self.opened(Arc::new(doc), format)?;
        let doc = opened.doc.clone();
        parsed().insert(path.to_owned(), opened);
        Ok(doc)
    }

    /// The validator for a schema file, compiled once for the same content.
    fn validator_at(&self, path: &Path, prints: &mut Prints) -> Result<ConfigValidator> {
        let bytes = self.bytes_at(path, prints)?;
        let compiled = || self.parsed.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = compiled().get(path).filter(|(known, _)| *known == bytes) {
            return Ok(known.clone());
        }
        let validator = ConfigValidator::from_bytes(path, bytes.clone(), &self.limits)?;
        compiled().insert(path.to_owned(), (bytes, validator.clone()));
        Ok(validator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_gone_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: usize| folder.path().join(format!("prod/{file}.toml"));
        std::fs::create_dir(folder.path().join("prod")).unwrap();
        std::fs::write(at(0), "a = 1").unwrap();
        let loader = ConfigLoader::new().hierarchy((folder.path(), "prod"));
        let config = loader.load::<serde_json::Value>().unwrap();
        for file in 1..5 {
            std::fs::rename(at(file - 1), at(file)).unwrap();
            config.reload().unwrap();
        }
        let docs = |loader: &ConfigLoader| -> Vec<PathBuf> {
            loader.parsed.docs.lock().unwrap().keys().cloned().collect()
        };
        assert_eq!(docs(&config.shared.loader), [at(4)]);
        // Two that were made of one loader do not make each other forget.
        assert_eq!(docs(&loader), [at(0)]);
    }

    #[test]
    fn what_a_reload_does_not_change_is_not_validated_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("a.json");
        let text = |changed: usize, value: &str| {
            let one = |at: usize| {
                format!("\"k{at}\": {{\"n\": {}, \"m\": 1}}", if at == changed { value } else { "1" })
            };
            format!("{{\"t\": {{{}}}}}", (0..500).map(one).collect::<Vec<_>>().join(","))
        };
        let field = |schema| serde_json::json!({"properties": {"n": schema}, "required": ["n"]});
        let integer = serde_json::json!({"type": "integer"});
        let both = serde_json::json!({"n": integer, "m": integer});
        let all = serde_json::json!({"anyOf": [{"additionalProperties": field(integer.clone())}]});
        for (schema, is_partial) in [
            (serde_json::json!({"additionalProperties": field(integer.clone())}), true),
            (
                serde_json::json!({"additionalProperties": field(serde_json::json!({"anyOf": [integer]}))}),
                true,
            ),
            // Where the validator looks for required keys while it goes through a table.
            (serde_json::json!({"additionalProperties": {"properties": both, "required": ["n", "m"]}}), true),
            (
                serde_json::json!({"additionalProperties": {
                    "properties": both, "additionalProperties": false, "required": ["m"],
                }}),
                true,
            ),
            (all, false),
        ] {
            std::fs::write(&at, text(0, "1")).unwrap();
            let validator = ConfigValidator::new(serde_json::json!({"properties": {"t": schema}})).unwrap();
            let config =
                ConfigLoader::new().file(&at).validator(validator).load::<serde_json::Value>().unwrap();
            let steps = || config.shared.loaded().valid[0].1;
            let whole = steps();
            std::fs::write(&at, text(250, "1234")).unwrap();
            config.reload().unwrap();
            assert_eq!(steps() > whole && steps() < whole + 20, is_partial, "{whole} {}", steps());
            std::fs::write(&at, text(251, "\"no\"")).unwrap();
            let error = config.reload().unwrap_err();
            let paths: Vec<_> = error.report().unwrap().findings().iter().map(|found| found.path()).collect();
            assert!(paths.iter().all(|path| path.starts_with("t")) && paths.len() == 1, "{paths:?}");
            assert_eq!(config.get()["t"]["k250"]["n"], 1234);
        }
    }

    /// A trace of 1,000 reloads of 40 files: half of them find one file changed, to a text of the same size with the same
    /// time of change, which is what a cache that trusts either gets wrong.
    #[test]
    fn what_is_kept_of_files_is_mostly_of_use_and_never_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let mut loader = ConfigLoader::new();
        let paths: Vec<PathBuf> = (0..40).map(|file| folder.path().join(format!("{file}.toml"))).collect();
        let time = std::time::SystemTime::UNIX_EPOCH;
        let write = |file: usize, value: usize| {
            std::fs::write(&paths[file], format!("f{file} = {value}.5")).unwrap();
            std::fs::File::options().write(true).open(&paths[file]).unwrap().set_modified(time).unwrap();
        };
        let mut values = vec![100_000; paths.len()];
        for (file, path) in paths.iter().enumerate() {
            write(file, values[file]);
            loader = loader.file(path);
        }
        let config = loader.load::<std::collections::BTreeMap<String, f64>>().unwrap();
        let docs = || config.shared.loader.parsed.docs.lock().unwrap().clone();
        let (mut asked, mut kept) = (0, 0);
        for reload in 0..1000 {
            if reload % 2 == 0 {
                let file = reload / 2 * 7919 % paths.len();
                values[file] += 1;
                write(file, values[file]);
            }
            let before = docs();
            config.reload().unwrap();
            asked += paths.len();
            kept += docs().iter().filter(|(path, now)| Arc::ptr_eq(&now.doc, &before[*path].doc)).count();
            let now = config.get();
            assert!((0..paths.len()).all(|file| now[&format!("f{file}")] == values[file] as f64 + 0.5));
        }
        assert_eq!((asked, kept), (40_000, 39_500));
    }
}
