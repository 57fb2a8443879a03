//! A plugin that tells what is done to it, and fails where it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use swarm_plugin::{CallContext, Event, EventKind, FnPlugin, Manifest, ManifestBuilder, Plugin, PluginError};
use tokio::sync::Semaphore;

/// How often each part of a plugin's life was run, by instance.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) executed: AtomicUsize,
    pub(crate) cleaned: AtomicUsize,
    /// What was asked of it after its cleanup, or went on meanwhile.
    pub(crate) late: AtomicUsize,
}

/// A counter with state. `{"wait": true}` makes a call wait for a permit of `gate`.
pub(crate) struct Tool {
    manifest: Manifest,
    pub(crate) seen: Arc<Seen>,
    pub(crate) gate: Arc<Semaphore>,
    count: AtomicU64,
    fault: &'static str,
}

impl Tool {
    pub(crate) fn new(name: &str, version: &str) -> Tool {
        Tool::of(Manifest::builder(name, version))
    }

    pub(crate) fn of(manifest: ManifestBuilder) -> Tool {
        let manifest = manifest
            .optional("wait", json!({"type": "boolean"}))
            .optional("text", json!({"type": "string"}))
            .build()
            .unwrap();
        let (seen, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
        Tool { manifest, seen, gate, count: AtomicU64::new(0), fault: "" }
    }

    /// Fails in this part of its life; with `panic `, `hang ` or nothing before.
    pub(crate) fn failing(mut self, fault: &'static str) -> Tool {
        self.fault = fault;
        self
    }

    async fn part(&self, name: &str) -> Result<(), PluginError> {
        if name != "cleanup" {
            self.seen.late.fetch_add(self.seen.cleaned.load(SeqCst), SeqCst);
        }
        match self.fault.split_once(' ') {
            Some(("panic", part)) if part == name => panic!("no {name} today"),
            Some(("hang", part)) if part == name => std::future::pending().await,
            None if self.fault == name => Err(PluginError::new(format!("no {name} today"))),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Plugin for Tool {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        self.seen.executed.fetch_add(1, SeqCst);
        self.part("execute").await?;
        if params["wait"] == true {
            self.gate.acquire().await?.forget();
        }
        self.seen.late.fetch_add(self.seen.cleaned.load(SeqCst), SeqCst);
        let count = self.count.fetch_add(1, SeqCst) + 1;
        Ok(json!({"version": self.manifest.version().to_string(), "count": count}))
    }

    async fn check(&self) -> Result<(), PluginError> {
        self.part("check").await
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        self.part("export").await?;
        Ok(Some(json!(self.count.load(SeqCst))))
    }

    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        self.part("import").await?;
        self.count.store(state.as_u64().ok_or_else(|| PluginError::new("not a count"))?, SeqCst);
        Ok(())
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        self.seen.cleaned.fetch_add(1, SeqCst);
        self.part("cleanup").await
    }
}

/// A plugin without state that answers its version.
pub(crate) fn plain(name: &str, version: &str) -> FnPlugin {
    requiring(name, version, &[])
}

pub(crate) fn requiring(name: &str, version: &str, requires: &[(&str, &str)]) -> FnPlugin {
    let mut manifest = Manifest::builder(name, version);
    for (name, range) in requires {
        manifest = manifest.requires(*name, *range);
    }
    let answer = version.to_owned();
    FnPlugin::new(manifest.build().unwrap(), move |_: Value, _cx| {
        let answer = answer.clone();
        async move { Ok(answer) }
    })
}

/// The next event that is told of this version.
pub(crate) async fn next(events: &mut (impl Stream<Item = Event> + Unpin), version: &str) -> EventKind {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap().unwrap();
        if event.version.is_some_and(|seen| seen.to_string() == version) {
            return event.kind;
        }
    }
}

/// The events that were told already, as `version kind`.
pub(crate) async fn told(events: &mut (impl Stream<Item = Event> + Unpin)) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
        let version = event.version.map(|version| version.to_string()).unwrap_or_default();
        let kind = format!("{:?}", event.kind);
        let kind = kind.split([' ', '{', '(']).next().unwrap().to_owned();
        told.push(format!("{version} {kind}").trim().to_owned());
    }
    told
}
