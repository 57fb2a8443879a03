use std::sync::Arc;

use crate::authorizer::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::state::{AliasMove, State};
use crate::version::VersionInfo;
use crate::wire::Change;

use super::VersionRegistry;

/// An alias and where it points to: what [`VersionRegistry::aliases`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alias {
    /// Its name.
    pub name: String,
    /// The id of the version.
    pub version: String,
    /// Whether it is protected from being moved or removed.
    pub protected: bool,
}

/// Aliases: names such as `stable` that point to a version and can be moved.
impl VersionRegistry {
    /// The version that `alias` points to.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Store`].
    pub async fn alias(&self, alias: &str) -> Result<Arc<VersionInfo>> {
        self.refresh().await?;
        let state = self.state();
        let entry = state.aliases.get(alias).and_then(|entry| entry.to.as_deref());
        state.version(entry.ok_or_else(|| no_alias(&state, alias))?).cloned()
    }

    /// The aliases that point to a version, by name.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]; else as [`refresh`](VersionRegistry::refresh).
    pub async fn aliases(&self) -> Result<Vec<Alias>> {
        self.refresh().await?;
        let state = self.state();
        let aliases = state.aliases.iter().filter_map(|(name, entry)| {
            let version = entry.to.as_ref()?.to_string();
            Some(Alias { name: name.clone(), version, protected: entry.protected })
        });
        Ok(aliases.collect())
    }

    /// Points `alias` to the version `to`, or removes it with `None`, if it points to `expected` now: compare-and-swap.
    ///
    /// ```
    /// # use swarm_registry::{ErrorKind, ObjectVersionStore, Version, VersionRegistry};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), swarm_registry::Error> {
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// # registry.register(Version::new("v1").artifact("1")).await?;
    /// # registry.register(Version::new("v2").artifact("2")).await?;
    /// registry.move_alias("stable", None, Some("v1")).await?;
    /// registry.move_alias("stable", Some("v1"), Some("v2")).await?;
    /// let late = registry.move_alias("stable", Some("v1"), Some("v2")).await;
    /// assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] names what it points to; [`ErrorKind::Protected`]; [`ErrorKind::NotFound`];
    /// [`ErrorKind::InvalidInput`]; [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn move_alias(&self, alias: &str, expected: Option<&str>, to: Option<&str>) -> Result<()> {
        name::check("alias", alias)?;
        let moved = self.commit(Action::MoveAlias, alias, |state| {
            let entry = state.aliases.get(alias);
            let now = entry.and_then(|entry| entry.to.as_deref());
            if entry.is_some_and(|entry| entry.protected) {
                return Err(Error::new(ErrorKind::Protected, format!("the alias {alias:?} is protected")));
            }
            if now != expected {
                let shown = |id: Option<&str>| id.map_or("nothing".to_owned(), |id| format!("{id:?}"));
                let message =
                    format!("the alias {alias:?} points to {}, not {}", shown(now), shown(expected));
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let to = to.map(|id| state.version(id).map(|info| info.id.clone())).transpose()?;
            if to.as_deref() == now {
                return Ok(None);
            }
            let from = entry.and_then(|entry| entry.to.clone());
            Ok(Some(Change::AliasMoved { alias: alias.to_owned(), from, to }))
        });
        moved.await.map(drop)
    }

    /// Protects `alias`, so that it cannot be moved or removed, or ends its protection.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn protect_alias(&self, alias: &str, protected: bool) -> Result<()> {
        let done = self.commit(Action::ProtectAlias, alias, |state| match state.aliases.get(alias) {
            Some(entry) if entry.to.is_some() => Ok((entry.protected != protected)
                .then(|| Change::AliasProtected { alias: alias.to_owned(), protected })),
            _ => Err(no_alias(state, alias)),
        });
        done.await.map(drop)
    }

    /// How `alias` was moved, the earliest first; without what was compacted away.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there never was such an alias; [`ErrorKind::Store`].
    pub async fn alias_history(&self, alias: &str) -> Result<Vec<AliasMove>> {
        self.refresh().await?;
        let state = self.state();
        let entry = state.aliases.get(alias).ok_or_else(|| no_alias(&state, alias))?;
        Ok(entry.moves.clone())
    }
}

fn no_alias(state: &State, alias: &str) -> Error {
    let near = name::nearest(alias, state.aliases.keys().map(String::as_str));
    Error::new(ErrorKind::NotFound, format!("there is no alias {}{near}", name::quoted(alias)))
}
