//! Where secrets come from: providers by scheme, and the keys of encrypted files.

use std::env::VarError;
use std::sync::Arc;

use super::{ConfigLoader, Opened};
use crate::doc::Doc;
use crate::error::Result;
#[cfg(not(feature = "sops"))]
use crate::error::{Error, ErrorKind};
use crate::layer::Layer;
use crate::secret::{self, Secret, SecretError, SecretProvider};
use crate::source::Format;
#[cfg(not(feature = "sops"))]
use crate::tree::Tree;

impl ConfigLoader {
    /// Asks a provider for references such as `${vault:app/db#password}` in texts, `vault` being the scheme.
    ///
    /// Each reference is asked for once a load, on the thread that loads, and again by each reload; see
    /// [`SecretProvider`]. What it stands for is secret: it is shown nowhere, [`explain`](crate::Config::explain) has the
    /// reference in its place. `env` is there without being added: the variables of
    /// [`env_from`](ConfigLoader::env_from), or the process's.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use swarm_config::{ConfigLoader, Format, Secret};
    ///
    /// // A map is a provider: of what was fetched ahead, by asynchronous code for example.
    /// let fetched = BTreeMap::from([("db#password".to_owned(), Secret::new("hunter2".to_owned()))]);
    /// let config = ConfigLoader::new()
    ///     .text("app.toml", Format::Toml, "url = 'postgres://app:${vault:db#password}@db'")
    ///     .secret_provider("vault", fetched)
    ///     .load::<BTreeMap<String, String>>()?;
    /// assert_eq!(config.get()["url"], "postgres://app:hunter2@db");
    /// # Ok::<(), swarm_config::Error>(())
    /// ```
    #[must_use]
    pub fn secret_provider(
        mut self,
        scheme: impl Into<String>,
        provider: impl SecretProvider,
    ) -> ConfigLoader {
        self.providers.push((scheme.into(), Arc::new(provider)));
        self
    }

    /// Decrypts files that are encrypted with SOPS with these keys.
    ///
    /// Any file or text is decrypted that `sops` has encrypted, and its MAC is checked; what was encrypted is secret.
    /// Without this call the keys are those that `sops` finds, looked for again by each load and reload: see
    /// [`AgeKeys::from_env`](crate::AgeKeys::from_env).
    #[cfg(feature = "sops")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sops")))]
    #[must_use]
    pub fn age_keys(mut self, keys: crate::AgeKeys) -> ConfigLoader {
        self.keys = Some(keys);
        self.parsed = Arc::default();
        self
    }

    /// Asks who provides a scheme. `None` where nobody does.
    pub(super) fn ask(&self, scheme: &str, reference: &str) -> Option<Result<Secret<String>, SecretError>> {
        match self.providers.iter().rev().find(|(known, _)| known == scheme) {
            Some((_, provider)) => Some(secret::contained(&**provider, reference)),
            None if scheme == "env" => Some(self.variable(reference).map(Secret::new)),
            None => None,
        }
    }

    /// The schemes that somebody provides.
    pub(super) fn schemes(&self) -> Vec<&str> {
        let mut schemes: Vec<&str> = self.providers.iter().map(|(scheme, _)| scheme.as_str()).collect();
        schemes.push("env");
        schemes.sort_unstable();
        schemes.dedup();
        schemes
    }

    fn variable(&self, name: &str) -> Result<String, SecretError> {
        let given = self.layers.iter().rev().find_map(|layer| match layer {
            Layer::Environment { variables: Some(variables), .. } => Some(variables),
            _ => None,
        });
        match given {
            Some(variables) => {
                let found = variables.iter().rev().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone()).ok_or(SecretError::NotFound)
            }
            None => std::env::var(name).map_err(|error| match error {
                VarError::NotPresent => SecretError::NotFound,
                VarError::NotUnicode(_) => SecretError::Unusable("it is not UTF-8"),
            }),
        }
    }

    /// A document, decrypted if it was encrypted with SOPS.
    #[cfg(feature = "sops")]
    pub(super) fn opened(&self, doc: Arc<Doc>, format: Format) -> Result<Opened> {
        let Some(file) = crate::sops::SopsFile::of_doc(&doc, format, &self.limits) else {
            return Ok(Opened { doc, keys: None });
        };
        let (file, keys) = (file?, self.keys_now()?);
        Ok(Opened { doc: Arc::new(file.open_doc(&keys)?), keys: Some(keys.recipients()) })
    }

    /// Whether it is opened with the keys that there are now: with those that are gone nothing opens, kept or not.
    #[cfg(feature = "sops")]
    pub(super) fn still_opens(&self, opened: &Opened) -> bool {
        opened.keys.as_ref().is_none_or(|keys| self.keys_now().is_ok_and(|now| now.recipients() == *keys))
    }

    #[cfg(feature = "sops")]
    fn keys_now(&self) -> Result<crate::AgeKeys> {
        self.keys.clone().map_or_else(crate::AgeKeys::from_env, Ok)
    }

    #[cfg(not(feature = "sops"))]
    pub(super) fn opened(&self, doc: Arc<Doc>, format: Format) -> Result<Opened> {
        if !secret::is_sealed(Tree::of(doc.clone()).root(), format) {
            return Ok(Opened { doc });
        }
        // Ciphertext is no configuration.
        let error = Error::new(ErrorKind::Secret, "encrypted with SOPS, which the feature `sops` reads");
        Err(error.at(&doc.source, 0..0).without_frame())
    }

    #[cfg(not(feature = "sops"))]
    pub(super) fn still_opens(&self, _: &Opened) -> bool {
        true
    }
}
