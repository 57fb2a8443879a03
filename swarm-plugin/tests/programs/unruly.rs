//! A counter in Rust that does what it is told to, as a library.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};
use swarm_plugin::{CallContext, Manifest, Plugin, PluginError, Progress};

struct Unruly {
    manifest: Manifest,
    count: AtomicU64,
    /// Where it waits for a file before it is cleaned up.
    ends: OnceLock<PathBuf>,
}

#[async_trait::async_trait]
impl Plugin for Unruly {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        match params["do"].as_str() {
            Some("fail") => Err(PluginError::temporary("no luck")),
            Some("panic") => panic!("oh no"),
            Some("sleep") => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Ok(Value::Null)
            }
            Some("loop") => {
                while !cx.is_cancelled() {
                    std::hint::spin_loop();
                }
                Ok(json!("noticed"))
            }
            Some("compute") => {
                tokio::task::yield_now().await;
                cx.progress(Progress { done: 0.0, total: None, message: None });
                while !cx.is_cancelled() {
                    std::hint::spin_loop();
                }
                Ok(json!("noticed"))
            }
            Some("nap") => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(json!("rested"))
            }
            Some("stay") => {
                self.ends.get_or_init(|| params["path"].as_str().unwrap_or_default().into());
                Ok(Value::Null)
            }
            Some("spawn") => Ok(tokio::spawn(async { 7 }).await?.into()),
            Some("progress") => {
                cx.progress(Progress { done: 1.0, total: None, message: Some("half".into()) });
                Ok(json!(cx.remaining() <= Duration::from_secs(30)))
            }
            Some("call") => Ok(cx.call("other", Value::Null).await?),
            _ => Ok(json!({ "count": self.count.fetch_add(1, SeqCst) + 1 })),
        }
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        Ok(Some(self.count.load(SeqCst).into()))
    }

    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        self.count.store(state.as_u64().ok_or_else(|| PluginError::new("not a count"))?, SeqCst);
        Ok(())
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        let Some(path) = self.ends.get() else { return Ok(()) };
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(std::fs::rename(path, path.with_extension("cleaned"))?)
    }
}

swarm_plugin::native_plugin!(|| -> Result<Unruly, swarm_plugin::Error> {
    let manifest = Manifest::builder("unruly_rust", "1.0.100000")
        .optional("do", json!({"type": "string"}))
        .optional("path", json!({"type": "string"}))
        .timeout(Duration::from_secs(20))
        .concurrency(16)
        .build()?;
    Ok(Unruly { manifest, count: AtomicU64::new(0), ends: OnceLock::new() })
});
