//! Plugins that become others without a change of their file.

use std::sync::Arc;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Past, Shared, Unit};
use crate::discovery::Changes;
use crate::event::{Event, EventKind, Stage};
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
            while let Some(Some(change)) = current.run_until_cancelled(changes.next()).await {
                let Some(shared) = shared.upgrade() else { return };
                shared.succeed(&unit, &current, change).await;
            }
        });
    }

    async fn succeed(
        self: &Arc<Self>,
        unit: &Arc<Unit>,
        current: &CancellationToken,
        change: Result<Vec<Arc<dyn Plugin>>, PluginError>,
    ) {
        let past = unit.turn.lock().await;
        if current.is_cancelled() {
            return;
        }
        match change {
            // What is refused was told as an event, with its stage.
            Ok(instances) => drop(self.install(unit, instances, past.current.as_ref(), None).await),
            Err(failure) => {
                let name = unit.path.as_deref().map(super::folders::shown).unwrap_or_default();
                let kind = EventKind::Refused { stage: Stage::Load, reason: failure.to_string() };
                self.tell(Event { name: name.into(), version: None, generation: 0, kind });
            }
        }
    }
}
