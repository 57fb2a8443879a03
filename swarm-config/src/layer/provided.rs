//! `figment::Provider` as a layer.

use figment::{Profile, Provider};
use serde_json::Value as Json;

use crate::doc::Doc;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// A provider without its type.
pub(crate) trait Supply: Send + Sync {
    /// The documents of its profiles, lowest first.
    fn supply(&self, limits: &Limits) -> Result<Vec<Doc>>;
}

impl<P: Provider + Send + Sync> Supply for P {
    fn supply(&self, limits: &Limits) -> Result<Vec<Doc>> {
        let about = self.metadata();
        let name = match &about.source {
            Some(source) => format!("{} ({source})", about.name),
            None => about.name.to_string(),
        };
        let failed = |error: &dyn std::fmt::Display| {
            // A provider's own text may repeat the value that it could not read.
            let _ = error;
            Error::new(ErrorKind::Provider, format!("the provider {name} failed"))
        };
        let mut data = self.data().map_err(|error| failed(&error))?;
        let chosen = self.profile().unwrap_or_default();
        let mut docs = Vec::new();
        for profile in [Profile::Default, chosen, Profile::Global] {
            if let Some(values) = data.remove(&profile) {
                let values: Json = super::to_json(&values).map_err(|error| failed(&error))?;
                docs.push(super::values(&name, &values, limits)?);
            }
        }
        Ok(docs)
    }
}
