use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use swarm_plugin::testing::conformance;
use swarm_plugin::{CallContext, FnPlugin, Manifest, Plugin, PluginError};

use crate::tool::{Tool, plain};

#[tokio::test]
async fn our_own_plugins_keep_the_contract() {
    let report = conformance::check(async || Ok(plain("tool", "1.0.0")), Value::Null).await;
    assert!(report.is_ok() && report.kept().len() == 7, "{report}");
    let report = conformance::check(async || Ok(Tool::new("tool", "1.0.0")), Value::Null).await;
    assert!(report.is_ok(), "{report}");
    // Chosen at run time, with all that it does.
    let chosen = async || Ok(Arc::new(Tool::new("tool", "1.0.0")) as Arc<dyn Plugin>);
    let report = conformance::check(chosen, Value::Null).await;
    assert!(report.is_ok(), "{report}");
    let blocking = || {
        let manifest = Manifest::builder("tool", "1.0.0").build()?;
        Ok(FnPlugin::blocking(manifest, |params: Value, _| Ok(params)))
    };
    let report = conformance::check(async || blocking(), json!({"a": 1})).await;
    assert!(report.is_ok(), "{report}");
}

/// Exports another state each time, and takes none over.
struct Careless(Manifest, std::sync::atomic::AtomicU64);

#[async_trait]
impl Plugin for Careless {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    async fn execute(&self, _params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        match self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Ok(json!("once")),
            _ => Err(PluginError::new("no more than once")),
        }
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        Ok(Some(self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst).into()))
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        Err(PluginError::new("nothing to give back"))
    }
}

#[tokio::test]
async fn the_kit_names_what_a_plugin_does_wrong() {
    let make = || {
        let manifest = Manifest::builder("careless", "1.0.0").build()?;
        Ok(Careless(manifest, 0.into()))
    };
    let report = conformance::check(async || make(), Value::Null).await;
    let broken: Vec<&str> = report.broken().iter().map(|broken| broken.rule).collect();
    assert_eq!(
        broken,
        [
            "it answers calls at the same time",
            "it answers after a call was dropped",
            "it exports its state more than once",
            "it takes over the state of its like",
            "it is cleaned up in time, also unused",
        ],
        "{report}"
    );
}
