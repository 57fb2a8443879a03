//! Letting versions go: drained, cut off where they take too long, cleaned up.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::lease::Loaded;

/// How long calls that were cut off may take to notice.
const GRACE: Duration = Duration::from_secs(1);

impl Shared {
    /// Waits for the calls under way, cuts off what takes too long, and cleans up.
    pub(super) async fn retire(&self, loaded: Arc<Loaded>) {
        let in_time = loaded.idle(self.settings.drain_timeout).await;
        if !in_time {
            loaded.stop.cancel();
            loaded.idle(GRACE).await;
        }
        self.tell(loaded.event(EventKind::Drained { cut_off: !in_time }));
        self.clean(&loaded).await;
    }

    pub(super) async fn clean(&self, loaded: &Loaded) {
        let outcome = loaded.cleanup(self.settings.cleanup_timeout).await;
        let failure = outcome.err().map(|failure| failure.to_string());
        self.tell(loaded.event(EventKind::CleanedUp { failure }));
    }

    pub(super) async fn remove(self: &Arc<Self>, name: &str) -> Result<()> {
        let (shared, name) = (self.clone(), name.to_owned());
        self.to_the_end(async move {
            let removed = shared.edit(|catalogue| {
                catalogue.entry_mut(&name)?;
                let removed = catalogue.remove(|slot| slot.loaded.manifest.name() == name);
                for slot in &removed {
                    slot.unit.removed().insert(&name);
                }
                Ok(removed)
            })?;
            if removed.is_empty() {
                return Err(Error::new(ErrorKind::NotFound, "was removed before").of_plugin(&name));
            }
            let retired = removed.into_iter().map(|slot| {
                shared.tell(slot.event(EventKind::Retired));
                slot.loaded
            });
            join_all(retired.map(|loaded| shared.retire(loaded))).await;
            Ok(())
        })
        .await
    }

    pub(super) async fn shutdown(self: &Arc<Self>) {
        self.closing.cancel();
        let shared = self.clone();
        let ended = self.tasks.spawn(async move {
            shared.edit(|catalogue| {
                catalogue.closed = true;
                Ok(())
            })?;
            // Whoever requires another goes before it, and may call it until then.
            loop {
                let highest = shared.catalogue.load().slots().map(|slot| slot.rank).max();
                let Some(rank) = highest else { break };
                let removed = shared.change(|catalogue| Ok(catalogue.remove(|slot| slot.rank == rank)))?;
                let retired = removed.into_iter().map(|slot| {
                    shared.tell(slot.event(EventKind::Retired));
                    slot.loaded
                });
                join_all(retired.map(|loaded| shared.retire(loaded))).await;
            }
            shared.closed.cancel();
            Ok::<(), Error>(())
        });
        // Fails only where it was shut down before.
        let _ = ended.await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
