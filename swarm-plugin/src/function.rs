use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::call::{self, CallContext};
use crate::manifest::Manifest;
use crate::plugin::{Plugin, PluginError};

type Outcome = Result<Value, PluginError>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A function as a [`Plugin`]: parameters come as a type of yours, and the result is whatever serialises.
///
/// ```
/// use serde_json::json;
/// use swarm_plugin::{FnPlugin, Manifest, PluginManager};
///
/// #[derive(serde::Deserialize)]
/// struct Words { text: String }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manifest = Manifest::builder("words", "1.0.0").required("text", json!({"type": "string"})).build()?;
/// let words = FnPlugin::new(manifest, |params: Words, _cx| async move {
///     Ok(params.text.split_whitespace().count())
/// });
/// let plugins = PluginManager::new();
/// plugins.register(words).await?;
/// assert_eq!(plugins.call("words", json!({"text": "two words"})).await?, json!(2));
/// # Ok(())
/// # }
/// ```
pub struct FnPlugin {
    manifest: Manifest,
    run: Box<dyn Fn(Value, &CallContext) -> Running + Send + Sync>,
}

impl FnPlugin {
    /// A plugin of an async function.
    pub fn new<P, R, F, Fut>(manifest: Manifest, function: F) -> FnPlugin
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        F: Fn(P, CallContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, PluginError>> + Send + 'static,
    {
        let run = move |params: Value, cx: &CallContext| -> Running {
            let running = read(params).map(|params| function(params, cx.clone()));
            Box::pin(async move { write(running?.await?) })
        };
        FnPlugin { manifest, run: Box::new(run) }
    }

    /// A plugin of a function that blocks or computes for long. It runs on the runtime's pool of blocking threads.
    ///
    /// It cannot be stopped from outside: a caller who gives up has an answer at once, but the thread goes on until the
    /// function sees [`CallContext::is_cancelled`] and returns. Until then the call counts as under way, also for how many run at
    /// the same time.
    pub fn blocking<P, R, F>(manifest: Manifest, function: F) -> FnPlugin
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        F: Fn(P, &CallContext) -> Result<R, PluginError> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        let run = move |params: Value, cx: &CallContext| -> Running {
            let (cx, guard) = cx.detached();
            let function = function.clone();
            Box::pin(async move {
                let _cancels_when_dropped = guard;
                call::blocking(move || write(function(read(params)?, &cx)?)).await?
            })
        };
        FnPlugin { manifest, run: Box::new(run) }
    }
}

fn read<P: DeserializeOwned>(params: Value) -> Result<P, PluginError> {
    // The message of serde quotes the value, which may be a secret.
    serde_json::from_value(params).map_err(|_| {
        PluginError::new(format_args!("the parameters do not fit {}", std::any::type_name::<P>()))
    })
}

fn write<R: Serialize>(result: R) -> Outcome {
    serde_json::to_value(result)
        .map_err(|error| PluginError::new(format_args!("the result cannot be written as JSON: {error}")))
}

impl Plugin for FnPlugin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    // As `async_trait` would write it, without its box around ours.
    fn execute<'s, 'c, 'f>(
        &'s self,
        params: Value,
        cx: &'c CallContext,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'f>>
    where
        's: 'f,
        'c: 'f,
        Self: 'f,
    {
        (self.run)(params, cx)
    }
}
