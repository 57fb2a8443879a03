//! Plugins that become others without a change of their file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::unit::Past;
use super::{Shared, Unit};
use crate::contained::{Contained, Instance, ignored};
use crate::event::{Event, EventKind, Stage};
use crate::loader::Changes;
use crate::plugin::{Plugin, PluginError};

impl Shared {
    /// Follows what was just put in place, and nothing else of the unit.
    pub(super) fn follow(self: &Arc<Self>, unit: &Arc<Unit>, past: &mut Past, changes: Option<Changes>) {
        past.following = None;
        let Some(mut changes) = changes else { return };
        let current = self.closing.child_token();
        past.following = Some(current.clone().drop_guard());
        let (shared, unit) = (Arc::downgrade(self), unit.clone());
        self.tasks.spawn(async move {
            loop {
                let next = Contained::new(Box::pin(changes.next()));
                let (change, is_over) = match current.run_until_cancelled(next).await {
                    Some(Ok(Some(change))) => (change, false),
                    Some(Err(payload)) => (Err(PluginError::panicked(payload)), true),
                    Some(Ok(None)) | None => return,
                };
                let Some(shared) = shared.upgrade() else { return };
                shared.succeed(&unit, &current, change).await;
                if is_over {
                    return;
                }
            }
        });
    }

    async fn succeed(
        self: &Arc<Self>,
        unit: &Arc<Unit>,
        current: &CancellationToken,
        change: Result<Vec<Arc<dyn Plugin>>, PluginError>,
    ) {
        let past = self.turn(unit).await;
        let past = match past {
            Ok(past) if !current.is_cancelled() => past,
            _ => return self.let_go(change.unwrap_or_default()).await,
        };
        match change {
            Ok(instances) => {
                let instances = self.without_removed(unit, instances).await;
                if !instances.is_empty() || !self.is_removed(unit) {
                    // What is refused was told as an event, with its stage.
                    drop(self.install(unit, instances, past.current.as_ref(), None, 0).await);
                }
            }
            Err(failure) => {
                let name = unit.path.as_deref().map(super::folders::shown).unwrap_or_default();
                let kind = EventKind::Refused { stage: Stage::Load, reason: failure.to_string() };
                self.tell(Event { name: name.into(), version: None, generation: 0, kind });
            }
        }
    }

    /// Whether somebody removed all that a unit had.
    fn is_removed(&self, unit: &Arc<Unit>) -> bool {
        !unit.removed().is_empty() && self.catalogue.load().of_unit(unit).next().is_none()
    }

    /// What was removed by hand does not come back by itself: neither one of several, nor others once none is left.
    async fn without_removed(
        &self,
        unit: &Arc<Unit>,
        instances: Vec<Arc<dyn Plugin>>,
    ) -> Vec<Arc<dyn Plugin>> {
        let is_removed = self.is_removed(unit);
        let stays = |plugin: &Arc<dyn Plugin>| {
            let name =
                catch_unwind(AssertUnwindSafe(|| plugin.manifest().name().to_owned())).map_err(ignored);
            // One that panics is refused where it is put in.
            !is_removed && !name.is_ok_and(|name| unit.removed().stays(&name, 0))
        };
        let (stay, go): (Vec<_>, Vec<_>) = instances.into_iter().partition(stays);
        self.let_go(go).await;
        stay
    }

    /// Cleans up instances that nobody has heard of.
    async fn let_go(&self, instances: Vec<Arc<dyn Plugin>>) {
        for plugin in instances {
            let plugin = Instance::new(plugin);
            let cleanup = Contained::new(Box::pin(async { plugin.cleanup().await }));
            if let Ok(Err(payload)) = tokio::time::timeout(self.settings.cleanup_timeout, cleanup).await {
                ignored(payload);
            }
        }
    }
}
