//! The contract of [`Plugin`] as a list of checks.
//!
//! ```
//! use serde_json::{Value, json};
//! use swarm_plugin::testing::conformance;
//! use swarm_plugin::{FnPlugin, Manifest};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let make = || {
//!     let manifest = Manifest::builder("echo", "1.0.0").build()?;
//!     Ok(FnPlugin::new(manifest, |params: Value, _cx| async move { Ok(params) }))
//! };
//! let report = conformance::check(async || make(), json!({"text": "hi"})).await;
//! assert!(report.is_ok(), "{report}");
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture, join_all};
use serde_json::Value;

use crate::call::CallOptions;
use crate::discovery::Found;
use crate::error::ErrorKind;
use crate::loader::Loader;
use crate::manager::PluginManager;
use crate::plugin::{Plugin, PluginError};

/// What [`check`] found.
#[derive(Debug, Clone, Default)]
#[must_use = "a report that nobody looks at proves nothing"]
pub struct Report {
    kept: Vec<&'static str>,
    broken: Vec<BrokenRule>,
}

/// A rule of the contract that a plugin does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenRule {
    /// The rule, as a sentence that is true of a plugin that keeps it.
    pub rule: &'static str,
    /// What the plugin did instead.
    pub why: String,
}

impl Report {
    /// Whether every rule is kept.
    pub fn is_ok(&self) -> bool {
        self.broken.is_empty()
    }

    /// The rules that are kept.
    pub fn kept(&self) -> &[&'static str] {
        &self.kept
    }

    /// The rules that are not.
    pub fn broken(&self) -> &[BrokenRule] {
        &self.broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kept.len() + self.broken.len();
        write!(f, "{} of {all} rules are kept", self.kept.len())?;
        for BrokenRule { rule, why } in &self.broken {
            write!(f, "\n- not kept: {rule}: {why}")?;
        }
        Ok(())
    }
}

/// Checks a plugin with instances that `make` makes, each for one rule, and parameters with which a call succeeds.
///
/// A plugin whose calls have effects has them some dozen times.
pub async fn check<P: Plugin>(make: impl AsyncFn() -> Result<P, PluginError>, params: Value) -> Report {
    let rules: [(&'static str, LocalBoxFuture<'_, Result<(), String>>); 7] = [
        ("its manifest is always the same", manifest(&make).boxed_local()),
        ("it passes its check and answers", answers(&make, &params).boxed_local()),
        ("it answers calls at the same time", at_once(&make, &params).boxed_local()),
        ("it answers after a call was dropped", after_a_drop(&make, &params).boxed_local()),
        ("it exports its state more than once", exports(&make).boxed_local()),
        ("it takes over the state of its like", takes_over(&make, &params).boxed_local()),
        ("it is cleaned up in time, also unused", cleans_up(&make).boxed_local()),
    ];
    let mut report = Report::default();
    for (rule, kept) in rules {
        match kept.await {
            Ok(()) => report.kept.push(rule),
            Err(why) => report.broken.push(BrokenRule { rule, why }),
        }
    }
    report
}

/// Checks the plugin of this name of a file or folder, in whatever language it is written: what a loader makes of it.
///
/// ```no_run
/// # use std::path::Path;
/// use swarm_plugin::testing::conformance;
/// use swarm_plugin::{Loader, PluginDiscovery};
///
/// # async fn words(loader: &dyn Loader, store: &Path) -> Result<(), Box<dyn std::error::Error>> {
/// let (found, unusable) = PluginDiscovery::new().folder("tools/plugins").scan(store)?;
/// assert!(unusable.is_empty(), "{unusable:?}");
/// let params = serde_json::json!({"text": "a b"});
/// let report = conformance::check_file(loader, &found[0], "words", params).await;
/// assert!(report.is_ok(), "{report}");
/// # Ok(())
/// # }
/// ```
pub async fn check_file(loader: &dyn Loader, found: &Found, name: &str, params: Value) -> Report {
    let make = async || {
        let made = loader.load(found).await?.plugins;
        let names: Vec<String> = made.iter().map(|plugin| plugin.manifest().name().to_owned()).collect();
        let named = made.into_iter().find(|plugin| plugin.manifest().name() == name);
        named.ok_or_else(|| PluginError::new(format_args!("it has {names:?}, and no {name:?}")))
    };
    check(make, params).await
}

async fn made<P: Plugin>(make: &impl AsyncFn() -> Result<P, PluginError>) -> Result<P, String> {
    make().await.map_err(|error| format!("it cannot be made: {error}"))
}

async fn hosted<P: Plugin>(
    make: &impl AsyncFn() -> Result<P, PluginError>,
) -> Result<(PluginManager, String), String> {
    let plugin = made(make).await?;
    let name = plugin.manifest().name().to_owned();
    let plugins = PluginManager::new();
    plugins.register(plugin).await.map_err(said)?;
    Ok((plugins, name))
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}

async fn manifest<P: Plugin>(make: &impl AsyncFn() -> Result<P, PluginError>) -> Result<(), String> {
    let plugin = made(make).await?;
    let seen = || {
        let manifest = plugin.manifest();
        (manifest.name().to_owned(), manifest.version().clone(), manifest.parameters().clone())
    };
    let first = seen();
    let same = (0..8).all(|_| seen() == first);
    // Judged by a rule of its own.
    let _ = plugin.cleanup().await;
    if same { Ok(()) } else { Err("name, version or parameters changed from one look to the next".into()) }
}

async fn answers<P: Plugin>(
    make: &impl AsyncFn() -> Result<P, PluginError>,
    params: &Value,
) -> Result<(), String> {
    let (plugins, name) = hosted(make).await?;
    plugins.call(&name, params.clone()).await.map_err(said)?;
    plugins.shutdown().await;
    Ok(())
}

async fn at_once<P: Plugin>(
    make: &impl AsyncFn() -> Result<P, PluginError>,
    params: &Value,
) -> Result<(), String> {
    const CALLS: usize = 8;
    let (plugins, name) = hosted(make).await?;
    for outcome in join_all((0..CALLS).map(|_| plugins.call(&name, params.clone()))).await {
        outcome.map_err(said)?;
    }
    plugins.shutdown().await;
    Ok(())
}

async fn after_a_drop<P: Plugin>(
    make: &impl AsyncFn() -> Result<P, PluginError>,
    params: &Value,
) -> Result<(), String> {
    let (plugins, name) = hosted(make).await?;
    for _ in 0..4 {
        let _ = plugins.call(&name, params.clone()).now_or_never();
    }
    let soon = CallOptions::new().timeout(Duration::from_nanos(1));
    match plugins.call_with(&name, params.clone(), soon).await {
        Err(error) if error.kind() != ErrorKind::TimedOut => return Err(said(error)),
        _ => {}
    }
    plugins.call(&name, params.clone()).await.map_err(said)?;
    plugins.shutdown().await;
    Ok(())
}

async fn exports<P: Plugin>(make: &impl AsyncFn() -> Result<P, PluginError>) -> Result<(), String> {
    let plugin = made(make).await?;
    plugin.check().await.map_err(said)?;
    let first = plugin.export_state().await.map_err(said)?;
    let again = plugin.export_state().await.map_err(said)?;
    let _ = plugin.cleanup().await;
    if first == again {
        Ok(())
    } else {
        Err("the second export differs, though nothing was called between".into())
    }
}

async fn takes_over<P: Plugin>(
    make: &impl AsyncFn() -> Result<P, PluginError>,
    params: &Value,
) -> Result<(), String> {
    let (plugins, name) = hosted(make).await?;
    plugins.call(&name, params.clone()).await.map_err(said)?;
    plugins.reload(&name, made(make).await?).await.map_err(said)?;
    plugins.call(&name, params.clone()).await.map_err(said)?;
    plugins.shutdown().await;
    Ok(())
}

async fn cleans_up<P: Plugin>(make: &impl AsyncFn() -> Result<P, PluginError>) -> Result<(), String> {
    const LONGEST: Duration = Duration::from_secs(5);
    let plugin = made(make).await?;
    match tokio::time::timeout(LONGEST, plugin.cleanup()).await {
        Ok(outcome) => outcome.map_err(said),
        Err(_) => Err(format!("its cleanup takes longer than {LONGEST:?}")),
    }
}
