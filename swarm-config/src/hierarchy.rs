use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::loader::nearest;
use crate::source::Format;

/// Layers from a folder: a base, the environment over it, and local changes over both.
///
/// A layer `production` is a file `production.toml` (or `.yaml`, `.yml`, `.json`), or a folder `production` of such
/// files, merged in the order of their names. With the feature `sops` they may be encrypted: as
/// `production/secrets.yaml` beside `production/app.toml`, or `production/secrets.sops.yaml`. Directly in the folder
/// `production.sops.yaml` is no layer, for its name is not `production`. From the bottom:
///
/// 1. `base`, if it is there;
/// 2. the parents of the environment, the furthest first;
/// 3. the environment, which must be there: a misspelt one is an error, not a base without overlay;
/// 4. `local`, then `<environment>.local`, if they are there. Keep those out of version control.
///
/// ```no_run
/// use swarm_config::{ConfigHierarchy, ConfigLoader};
///
/// let layers = ConfigHierarchy::new("config", "staging").parent("staging", "production");
/// let tree = ConfigLoader::new().hierarchy(layers).load_tree()?;
/// # Ok::<(), swarm_config::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConfigHierarchy {
    folder: PathBuf,
    environment: String,
    parents: Vec<(String, String)>,
}

/// A folder and an environment without parents.
impl<F: Into<PathBuf>, E: Into<String>> From<(F, E)> for ConfigHierarchy {
    fn from((folder, environment): (F, E)) -> Self {
        ConfigHierarchy::new(folder, environment)
    }
}

impl ConfigHierarchy {
    /// Layers from `folder` for an environment such as `production`.
    pub fn new(folder: impl Into<PathBuf>, environment: impl Into<String>) -> ConfigHierarchy {
        ConfigHierarchy { folder: folder.into(), environment: environment.into(), parents: Vec::new() }
    }

    /// Puts the layers of `parent` under those of `environment`, which must be there: with a misspelt one, the right one
    /// would be loaded without its parent. A folder that holds only some of the environments, as one that is mounted
    /// may, is given the parents of those.
    #[must_use]
    pub fn parent(mut self, environment: impl Into<String>, parent: impl Into<String>) -> ConfigHierarchy {
        self.parents.push((environment.into(), parent.into()));
        self
    }

    /// Folders in which a layer may appear.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let below = entries(&self.folder)
            .unwrap_or_default()
            .into_iter()
            .filter(|path| path.is_dir() && !hidden(path));
        std::iter::once(self.folder.clone()).chain(below).collect()
    }

    /// The files of all layers, lowest first.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut chain = vec![self.environment.clone()];
        while let Some((_, parent)) = self.parents.iter().rev().find(|(child, _)| Some(child) == chain.last())
        {
            if chain.contains(parent) {
                let message = format!("the environment `{parent}` is its own parent");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            chain.push(parent.clone());
        }
        for (child, _) in &self.parents {
            if *child != self.environment && self.layer(child)?.is_empty() {
                return Err(self.missing(child));
            }
        }
        let mut files = self.layer("base")?;
        for name in chain.iter().rev() {
            let layer = self.layer(name)?;
            if layer.is_empty() {
                return Err(self.missing(name));
            }
            files.extend(layer);
        }
        files.extend(self.layer("local")?);
        files.extend(self.layer(&format!("{}.local", self.environment))?);
        Ok(files)
    }

    fn layer(&self, name: &str) -> Result<Vec<PathBuf>> {
        if name.is_empty() || name.contains(['/', '\\']) || name == "." || name == ".." {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("`{name}` is no name for an environment"),
            ));
        }
        let files: Vec<PathBuf> = EXTENSIONS
            .iter()
            .map(|extension| self.folder.join(format!("{name}.{extension}")))
            .filter(|path| path.is_file())
            .collect();
        let folder = self.folder.join(name);
        match (files.as_slice(), folder.is_dir()) {
            ([_], false) => Ok(files),
            ([], true) => {
                let mut files: Vec<PathBuf> = entries(&folder)?
                    .into_iter()
                    .filter(|path| Format::of_path(path).is_some() && path.is_file() && !hidden(path))
                    .collect();
                files.sort();
                Ok(files)
            }
            ([], false) => Ok(Vec::new()),
            ([one, two, ..], _) => Err(twice(name, one, two)),
            ([one], true) => Err(twice(name, one, &folder)),
        }
    }

    fn missing(&self, name: &str) -> Error {
        let mut there: Vec<String> = entries(&self.folder)
            .unwrap_or_default()
            .iter()
            .filter(|path| !hidden(path))
            .filter_map(|path| match path.is_dir() {
                true => path.file_name(),
                false => path.file_stem().filter(|_| is_layer(path)),
            })
            .filter_map(|name| Some(name.to_str()?.to_owned()))
            .filter(|name| name != "base" && name != "local")
            .filter(|name| !BESIDE.iter().any(|kind| name.ends_with(kind)))
            .collect();
        there.sort();
        let near = nearest(name, there.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let message = format!("no environment `{name}` in {}; there is {there}{near}", self.folder.display());
        Error::new(ErrorKind::NotFound, message)
    }
}

/// What a file is called that is a layer by itself. dotenv files often stand beside one, for somebody else.
const EXTENSIONS: [&str; 4] = ["toml", "yaml", "yml", "json"];

/// How names end that are not of an environment: local changes, and what rules of `sops` encrypt.
const BESIDE: [&str; 3] = [".local", ".sops", ".enc"];

fn is_layer(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

/// Editors and Kubernetes keep files of their own beside the real ones.
fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
    });
    read.map_err(|error| Error::io("read the folder", folder, error))
}

fn twice(name: &str, one: &Path, two: &Path) -> Error {
    let message = format!("the layer `{name}` is there twice: {} and {}", one.display(), two.display());
    Error::new(ErrorKind::InvalidInput, message)
}
