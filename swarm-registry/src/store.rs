//! Where a registry is kept: the trait, and the store that comes with the crate.

mod object;

pub use object::ObjectVersionStore;
pub(crate) use object::sync_parent;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// Keeps named objects, and lets only one caller make each.
///
/// Implemented by [`ObjectVersionStore`] over memory, a folder and any object store, and by you for any other place;
/// the conformance kit (feature `testing`) tells whether an implementation keeps the contract:
///
/// - Names are path-like: `log/…`, `snapshots/…`, `artifacts/…`, of `a-z 0-9 . - /`.
/// - An object is there whole or not at all, for every reader, also after a crash in the middle of a write.
/// - Of any number of [`create`](VersionStore::create)s of one name, in any number of processes, one answers `true`.
/// - What was acknowledged is seen by every call that begins later, and is as durable as the store promises.
/// - An error means that the outcome is not known. The registry looks afterwards.
/// - Methods may be cancelled at any await, which leaves the outcome unknown too, and called at the same time.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::{Mutex, MutexGuard, PoisonError};
///
/// use async_trait::async_trait; // the trait is one of async_trait's
/// use bytes::Bytes;
/// use swarm_registry::{Result, VersionRegistry, VersionStore};
///
/// #[derive(Default)]
/// struct Shelf(Mutex<BTreeMap<String, Bytes>>); // a table of a database, for example
///
/// #[async_trait]
/// impl VersionStore for Shelf {
///     async fn get(&self, name: &str) -> Result<Option<Bytes>> {
///         Ok(self.objects().get(name).cloned())
///     }
///
///     async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
///         let mut objects = self.objects(); // INSERT … ON CONFLICT DO NOTHING
///         let free = !objects.contains_key(name);
///         if free {
///             objects.insert(name.to_owned(), bytes);
///         }
///         Ok(free)
///     }
///
///     async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
///         self.objects().insert(name.to_owned(), bytes);
///         Ok(())
///     }
///
///     async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
///         let inside = |name: &&String| name.starts_with(&format!("{folder}/")) && name.as_str() > after;
///         Ok(self.objects().keys().filter(inside).cloned().collect())
///     }
///
///     async fn delete(&self, name: &str) -> Result<()> {
///         self.objects().remove(name);
///         Ok(())
///     }
/// }
///
/// impl Shelf {
///     fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
///         self.0.lock().unwrap_or_else(PoisonError::into_inner)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let registry = VersionRegistry::with_store(Shelf::default()).await?;
/// # registry.verify().await.map(drop)
/// # }
/// ```
///
/// A store that cannot answer says so with [`Error::store`](crate::Error::store), to which `because` adds the cause.
#[diagnostic::on_unimplemented(
    note = "any `object_store::ObjectStore` is one inside `ObjectVersionStore::new`"
)]
#[async_trait]
pub trait VersionStore: Send + Sync + 'static {
    /// Answers the object, or `None` where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store).
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Makes the object if there is none of this name, and answers whether it did: put-if-absent.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store); the object may have been made all the same.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool>;

    /// Makes or replaces the object.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store); the object may have been replaced all the same.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<()>;

    /// The names of the objects in `folder`, such as `log`, that come after `after` in the order of their bytes, ascending;
    /// all of them where that is empty. No object need have the name `after`. A log names every record that there ever
    /// was, and the registry asks only for those that it does not know.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store).
    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>>;

    /// Removes the object. One that does not exist is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store).
    async fn delete(&self, name: &str) -> Result<()>;

    /// The names of what writes left behind that were killed more than an hour ago by the store's own clock, each the name of
    /// the object that was to be written, `#` and more: [`delete`](VersionStore::delete) takes them.
    ///
    /// For stores that write beside the place and move what is whole. Others leave nothing, which is the default.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store).
    async fn leftovers(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Several registries may share a store, and one that was chosen at run time is an `Arc<dyn VersionStore>`.
#[async_trait]
impl<S: VersionStore + ?Sized> VersionStore for Arc<S> {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        (**self).get(name).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        (**self).create(name, bytes).await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        (**self).put(name, bytes).await
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        (**self).list(folder, after).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        (**self).delete(name).await
    }

    async fn leftovers(&self) -> Result<Vec<String>> {
        (**self).leftovers().await
    }
}
