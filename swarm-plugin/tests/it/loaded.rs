//! What a loader made, as the conformance kit wants it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use swarm_plugin::{CallContext, Manifest, Plugin, PluginError};

pub(crate) struct Loaded(pub(crate) Arc<dyn Plugin>);

#[async_trait]
impl Plugin for Loaded {
    fn manifest(&self) -> &Manifest {
        self.0.manifest()
    }

    async fn execute(&self, params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        self.0.execute(params, cx).await
    }

    async fn check(&self) -> Result<(), PluginError> {
        self.0.check().await
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        self.0.export_state().await
    }

    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        self.0.import_state(state).await
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        self.0.cleanup().await
    }
}
