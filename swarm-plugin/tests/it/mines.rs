//! Plugins that panic where something of theirs is dropped.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use async_trait::async_trait;
use serde_json::{Value, json};
use swarm_plugin::{CallContext, ErrorKind, Manifest, Plugin, PluginError, PluginManager};

use crate::tool::Seen;

struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        panic!("stepped on");
    }
}

/// Hangs on a mine in one part of its life, or has one itself.
struct Mined {
    manifest: Manifest,
    fault: &'static str,
    seen: Arc<Seen>,
    _mine: Option<Mine>,
}

impl Mined {
    fn new(name: &str, requires: &[&str], fault: &'static str) -> Mined {
        let mut manifest = Manifest::builder(name, "1.0.0");
        for name in requires {
            manifest = manifest.requires(*name, "*");
        }
        let _mine = (fault == "itself").then(|| Mine);
        Mined { manifest: manifest.build().unwrap(), fault, seen: Arc::default(), _mine }
    }

    async fn part(&self, name: &str) {
        if self.fault == name {
            let _mine = Mine;
            pending::<()>().await;
        }
    }
}

#[async_trait]
impl Plugin for Mined {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, _params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        std::panic::panic_any(Mine)
    }

    async fn check(&self) -> Result<(), PluginError> {
        self.part("check").await;
        Ok(())
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        self.seen.cleaned.fetch_add(1, SeqCst);
        self.part("cleanup").await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_panics_where_it_is_dropped_keeps_no_other_from_its_cleanup() {
    for fault in ["cleanup", "itself"] {
        let plugins = PluginManager::new();
        let below = Mined::new("below", &[], "");
        let seen = below.seen.clone();
        plugins.register(below).await.unwrap();
        // Cleaned up before what it requires.
        plugins.register(Mined::new("above", &["below"], fault)).await.unwrap();
        plugins.shutdown().await;
        assert_eq!(seen.cleaned.load(SeqCst), 1, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_where_it_is_dropped_is_a_check_that_failed() {
    let plugins = PluginManager::new();
    let mined = Mined::new("tool", &[], "check");
    let seen = mined.seen.clone();
    let error = plugins.register(mined).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(seen.cleaned.load(SeqCst), 1);
}

#[tokio::test]
async fn what_a_call_panics_with_may_panic_itself() {
    let plugins = PluginManager::new();
    plugins.register(Mined::new("tool", &[], "")).await.unwrap();
    for _ in 0..2 {
        let error = plugins.call("tool", json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
    }
}
