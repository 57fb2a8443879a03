mod cache;
mod guests;
mod hostile;
mod reloads;
mod sandbox;

use std::time::Duration;

use serde_json::{Value, json};
use swarm_plugin::testing::{PluginFolder, conformance};
use swarm_plugin::{
    CallOptions, ErrorKind, PluginDiscovery, PluginManager, PluginManagerBuilder, WasmLoader,
};

pub(crate) const ASKS: &str = include_str!("../guests/asks.wat");
const UNRULY: &str = include_str!("../guests/unruly.wat");

/// What a component in `guests` says of itself, and what else varies.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) parameters: String,
    pub(crate) tool: &'static str,
    pub(crate) describe: &'static str,
    pub(crate) stateful: bool,
    pub(crate) save: &'static str,
    pub(crate) cleanup: &'static str,
}

impl Guest {
    pub(crate) fn new(version: &str) -> Guest {
        Guest {
            name: "unruly".into(),
            version: version.into(),
            parameters: json!({"type": "object", "required": ["do"]}).to_string(),
            tool: "swarm:plugin/tool@0.1.0",
            describe: "",
            stateful: false,
            save: "",
            cleanup: "",
        }
    }

    pub(crate) fn stateful(version: &str) -> Guest {
        Guest { stateful: true, ..Guest::new(version) }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let texts = [&self.name, &self.version, "Does what it is told", &self.parameters];
        let (mut about, mut at) = (String::new(), 1024_u32);
        for text in texts {
            for number in [at, u32::try_from(text.len()).unwrap()] {
                about.extend(number.to_le_bytes().map(|byte| format!("\\{byte:02x}")));
            }
            at += u32::try_from(text.len()).unwrap();
        }
        let texts: String = texts.concat().bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let lifecycle = match self.stateful {
            true => "(export \"swarm:plugin/lifecycle@0.1.0\" (instance $lifecycle))",
            false => "",
        };
        let text = UNRULY
            .replace("<about>", &about)
            .replace("<texts>", &texts)
            .replace("<tool>", self.tool)
            .replace("<lifecycle>", lifecycle)
            .replace("<describe>", self.describe)
            .replace("<save>", self.save)
            .replace("<cleanup>", self.cleanup);
        wat::parse_str(text).unwrap()
    }
}

fn builder(folder: &PluginFolder, loader: WasmLoader) -> PluginManagerBuilder {
    PluginManager::builder().folder(folder.path()).settle(Duration::ZERO).loader(loader)
}

async fn unruly(guest: &Guest, loader: WasmLoader) -> (PluginFolder, PluginManager) {
    let folder = PluginFolder::new().unwrap();
    folder.program("unruly.wasm", guest.bytes()).unwrap();
    let plugins = builder(&folder, loader).start().await.unwrap();
    assert_eq!(plugins.list().len(), 1);
    (folder, plugins)
}

async fn told(plugins: &PluginManager, what: &str) -> Result<Value, swarm_plugin::Error> {
    plugins.call("unruly", json!({ "do": what })).await
}

#[tokio::test]
async fn a_component_in_the_folder_is_a_plugin() {
    // A loader need not be given.
    let folder = PluginFolder::new().unwrap();
    let guest = Guest::new("1.2.0");
    let path = folder.program("unruly.wasm", guest.bytes()).unwrap();
    let plugins =
        PluginManager::builder().folder(folder.path()).settle(Duration::ZERO).start().await.unwrap();
    let info = plugins.get("unruly").unwrap();
    assert_eq!((info.kind(), info.path()), (Some("wasm"), Some(&*path)));
    assert_eq!(info.digest(), Some(swarm_plugin::Digest::of(guest.bytes())));
    assert_eq!(info.manifest().version().to_string(), "1.2.0");
    assert_eq!(info.manifest().description(), "Does what it is told");

    let params = json!({"do": "echo", "text": "grün"});
    assert_eq!(plugins.call("unruly", params.clone()).await.unwrap(), params);
    let error = plugins.call("unruly", json!({"text": 1})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParams);
    let error = told(&plugins, "fail").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Failed, false));
    assert_eq!(error.failure().unwrap().message(), "no luck");
    assert!(told(&plugins, "retry").await.unwrap_err().is_retryable());

    let (heard, hears) = std::sync::mpsc::channel();
    let options = CallOptions::new().on_progress(move |progress| heard.send(progress).unwrap());
    plugins.call_with("unruly", json!({"do": "progress"}), options).await.unwrap();
    let progress = hears.try_recv().unwrap();
    assert_eq!((progress.done, progress.total), (1.0, Some(2.0)));
    assert_eq!(progress.message.as_deref(), Some("half way"));
    plugins.shutdown().await;
}

#[tokio::test]
async fn instances_are_used_again_or_fresh_as_the_host_says() {
    let (_folder, plugins) = unruly(&Guest::new("1.0.0"), WasmLoader::new()).await;
    for count in 1..=3 {
        assert_eq!(told(&plugins, "count").await.unwrap(), count);
    }
    plugins.shutdown().await;
    let (_folder, plugins) = unruly(&Guest::new("1.0.0"), WasmLoader::new().warm(0)).await;
    for _ in 0..3 {
        assert_eq!(told(&plugins, "count").await.unwrap(), 1);
    }
    plugins.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_calls_than_instances_wait_for_one_another() {
    let folder = PluginFolder::new().unwrap();
    folder.program("unruly.wasm", Guest::new("1.0.0").bytes()).unwrap();
    folder.program("other.wasm", Guest { name: "other".into(), ..Guest::new("1.0.0") }.bytes()).unwrap();
    // Each was loaded with an instance, and the next call needs that of the other one.
    let plugins = builder(&folder, WasmLoader::new().instances(2)).start().await.unwrap();
    let calls = (0..100).map(|at| {
        let (plugins, name) = (plugins.clone(), ["unruly", "other"][at % 2]);
        tokio::spawn(async move { plugins.call(name, json!({"do": "echo"})).await })
    });
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap().unwrap();
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn instances_that_nobody_uses_are_dropped_while_others_run() {
    let folder = PluginFolder::new().unwrap();
    folder.program("unruly.wasm", Guest::new("1.0.0").bytes()).unwrap();
    folder.program("other.wasm", Guest { name: "other".into(), ..Guest::new("1.0.0") }.bytes()).unwrap();
    let loader = WasmLoader::new().idle(Duration::from_millis(1));
    let plugins = builder(&folder, loader).start().await.unwrap();
    assert_eq!(told(&plugins, "count").await.unwrap(), 1);
    // They are looked for each second.
    let longer = CallOptions::new().timeout(Duration::from_millis(2_500));
    plugins.call_with("other", json!({"do": "loop"}), longer).await.unwrap_err();
    assert_eq!(told(&plugins, "count").await.unwrap(), 1);
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_folder_with_a_manifest_says_what_it_is() {
    let folder = PluginFolder::new().unwrap();
    let put = |manifest: &str, guest: &Guest| {
        folder.folder("tool", &[("plugin.toml", manifest)]).unwrap();
        std::fs::write(folder.path().join("tool/any.wasm"), guest.bytes()).unwrap();
    };
    let manifest = "name = \"unruly\"\nversion = \"1.0.0\"\nkind = \"wasm\"\ndescription = \"Mine\"\n";
    put(manifest, &Guest::new("1.0.0"));
    let plugins = builder(&folder, WasmLoader::new()).start().await.unwrap();
    assert_eq!(plugins.get("unruly").unwrap().manifest().description(), "Mine");
    // What it says of itself holds where plugin.toml says nothing, and all of plugin.toml where that does.
    assert_eq!(plugins.get("unruly").unwrap().manifest().parameters()["required"], json!(["do"]));
    let any = format!("{manifest}[parameters]\ntype = \"object\"\n");
    put(&any, &Guest::new("1.0.0"));
    plugins.rescan().await;
    assert_eq!(plugins.get("unruly").unwrap().manifest().parameters(), &json!({"type": "object"}));
    put(manifest, &Guest::new("1.0.0"));
    plugins.rescan().await;
    assert_eq!(told(&plugins, "count").await.unwrap(), 1);

    for (manifest, guest, why) in [
        (
            manifest.to_owned(),
            Guest::new("1.0.1"),
            "plugin.toml is for unruly 1.0.0, and what stands beside it calls itself unruly 1.0.1",
        ),
        (
            manifest.to_owned(),
            Guest { name: "other".into(), ..Guest::new("1.0.0") },
            "plugin.toml is for unruly 1.0.0, and what stands beside it calls itself other 1.0.0",
        ),
        (format!("{manifest}command = [\"../any.wasm\"]\n"), Guest::new("1.0.0"), "leads out of its folder"),
        (
            format!("{manifest}command = [\"any.wasm\", \"fast\"]\n"),
            Guest::new("1.0.0"),
            "command in plugin.toml has more than one word",
        ),
        (format!("{manifest}command = [\"none.wasm\"]\n"), Guest::new("1.0.0"), "has no file none.wasm"),
        (
            format!("{manifest}[limits]\nmemory_bytes = 999999999\n"),
            Guest::new("1.0.0"),
            "at most 268435456 are given",
        ),
        (
            format!("{manifest}[grants]\nclock = true\n"),
            Guest::new("1.0.0"),
            "the clock, which this host does not offer",
        ),
    ] {
        let mut events = plugins.events();
        put(&manifest, &guest);
        plugins.rescan().await;
        let reason = hostile::refusal(&mut events).await;
        assert!(reason.contains(why), "{why}: {reason}");
        assert_eq!(told(&plugins, "echo").await.unwrap(), json!({"do": "echo"}));
    }
    plugins.shutdown().await;
}

/// Runs the kit on a component.
async fn conforms(loader: &WasmLoader, name: &str, component: &[u8], params: Value) {
    let (folder, store) = (PluginFolder::new().unwrap(), tempfile::tempdir().unwrap());
    folder.program(&format!("{name}.wasm"), component).unwrap();
    let (found, unusable) = PluginDiscovery::new().folder(folder.path()).scan(store.path()).unwrap();
    assert!(unusable.is_empty(), "{unusable:?}");
    let report = conformance::check_file(loader, &found[0], name, params).await;
    assert!(report.is_ok() && report.kept().len() == 7, "{report}");
}

#[tokio::test]
async fn components_keep_the_contract() {
    let loader = WasmLoader::new();
    conforms(&loader, "unruly", &Guest::new("1.0.0").bytes(), json!({"do": "echo"})).await;
    conforms(&loader, "unruly", &Guest::stateful("1.0.0").bytes(), json!({"do": "count"})).await;
}
