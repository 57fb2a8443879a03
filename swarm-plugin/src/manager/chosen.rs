//! Calls of the very instance that was looked at.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument;

use super::{PluginManager, shut_down};
use crate::call::{self, CallOptions};
use crate::catalogue::Serving;
use crate::error::Result;
use crate::info::PluginInfo;
use crate::lease::Lease;

impl PluginManager {
    /// The right to call the instance that was told of. `None` where a call by name gets another by now: a version says too
    /// little, since a range of versions knows nothing of build metadata, and a file may change without its version.
    ///
    /// # Errors
    /// Those of a call that waits for the state to be handed over, and [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub(crate) async fn lease(
        &self,
        info: &PluginInfo,
        options: &CallOptions,
        begun: Instant,
    ) -> Result<Option<Arc<Lease>>> {
        let name = info.manifest.name();
        let (token, timeout) = {
            let catalogue = self.shared.catalogue.load();
            if catalogue.closed {
                return Err(shut_down());
            }
            let chosen =
                catalogue.entry(name).filter(|entry| !entry.disabled).and_then(|entry| entry.chosen());
            match chosen.filter(|slot| slot.loaded.generation == info.generation) {
                None => return Ok(None),
                Some(slot) => match &slot.serving {
                    Serving::Live(lease) => return Ok(Some(lease.clone())),
                    Serving::Held(token) => (token.clone(), options.timeout.unwrap_or(slot.loaded.timeout)),
                },
            }
        };
        let lease = self.shared.held(name, token, options, begun, timeout).await?;
        Ok((lease.loaded.generation == info.generation).then_some(lease))
    }

    /// Calls what the lease is of.
    pub(crate) async fn call_leased(
        &self,
        lease: Arc<Lease>,
        params: Value,
        options: CallOptions,
        begun: Instant,
    ) -> Result<Value> {
        let manifest = &lease.loaded.manifest;
        let span = tracing::debug_span!("plugin", name = manifest.name(), version = %manifest.version());
        call::run(lease, params, options, begun).instrument(span).await
    }
}
