//! One tool in three kinds: how complex a source file is, as a Rust type, a Python script and a component, with the same answer.
//!
//! `cargo run --release -p swarm-examples --example 42_complexity`
//!
//! `complexity_pro` counts the paths through each function of a Rust source, after McCabe, and says which functions to split.
//! The type is version 1.0.0; the script, which speaks MCP from the folder `assets/plugins/cyclomatic`, is 2.0.0; with
//! `--features wasm`, and the tool componentize-py from Python's index, the script becomes a WebAssembly component, 3.0.0,
//! which sees nothing but the folder that it is granted. All are there at a time, and callers choose by version. Each looks at
//! the sources of swarm-plugin.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_trait::async_trait;
use serde_json::{Value, json};
use swarm_examples::{Scratch, complexity, copy_tree};
use swarm_plugin::{
    CallContext, CallOptions, ErrorKind, Manifest, Plugin, PluginError, PluginManager, VersionReq,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// More paths than this through one function are too many.
const LIMIT: i64 = 10;

const KINDS: [(&str, &str); 3] =
    [("Rust type", "=1.0.0"), ("Python script", "=2.0.0"), ("component", "=3.0.0")];

struct Complexity(Manifest);

impl Complexity {
    fn new() -> Result<Complexity, swarm_plugin::Error> {
        let path = json!({"type": "string", "description": "the file to look at"});
        let manifest = Manifest::builder("complexity_pro", "1.0.0")
            .description("Scores how complex a Rust source file is")
            .required("file_path", path)
            .build()?;
        Ok(Complexity(manifest))
    }
}

#[async_trait]
impl Plugin for Complexity {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    async fn execute(&self, params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        let source = tokio::fs::read_to_string(params["file_path"].as_str().unwrap_or_default()).await?;
        let functions = complexity(&source);
        let score: i64 = functions.iter().map(|(_, paths)| paths).sum();
        let advice = functions.iter().filter(|(_, paths)| *paths > LIMIT);
        let advice: Vec<String> =
            advice.map(|(name, paths)| format!("split {name}: {paths} paths")).collect();
        Ok(json!({"complexity_score": score, "recommendations": advice}))
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("left out: python3 is not here");
        return Ok(());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = Scratch::new("complexity")?;
    let folder = root.as_ref().join("plugins");
    copy_tree(&here.join("assets/plugins/cyclomatic"), &folder.join("cyclomatic"))?;
    let looked_at = here.join("../swarm-plugin/src");
    let builder = PluginManager::builder().folder(&folder);
    #[cfg(feature = "wasm")]
    let builder = {
        component(&here.join("assets/plugins"), &folder)?;
        // The interpreter of Python comes with the component, and is compiled first.
        let loader = swarm_plugin::WasmLoader::new();
        let loader = loader.folder("sources", &looked_at, swarm_plugin::Access::Read);
        builder.loader(loader).load_timeout(std::time::Duration::from_secs(500))
    };
    let plugins = builder.start().await?;
    plugins.register(Complexity::new()?).await?;
    let mut kinds = Vec::new();
    for (kind, version) in KINDS {
        let version = VersionReq::parse(version)?;
        if plugins.list().iter().any(|info| version.matches(info.manifest().version())) {
            kinds.push((kind, version));
        }
    }
    if kinds.len() < KINDS.len() {
        println!("left out: the component, which needs `--features wasm` and componentize-py");
    }
    for info in plugins.list() {
        let manifest = info.manifest();
        println!("{} {} {}", manifest.name(), manifest.version(), info.kind().unwrap_or("in code"));
    }

    let sources = sources(&looked_at)?;
    let call = async |version: &VersionReq, path: &Path| {
        let options = CallOptions::new().version(version.clone());
        plugins.call_with("complexity_pro", json!({ "file_path": path }), options).await
    };
    let mut answers = Vec::new();
    for (kind, version) in &kinds {
        // Where a component sees what it was granted.
        let root = if *kind == "component" { Path::new("/sources") } else { &*looked_at };
        let begun = Instant::now();
        let mut all = Vec::new();
        for source in &sources {
            all.push(call(version, &root.join(source.strip_prefix(&looked_at)?)).await?);
        }
        println!("{kind}: {} files in {:?}", sources.len(), begun.elapsed());
        answers.push(all);
    }
    for (at, source) in sources.iter().enumerate() {
        for other in &answers[1..] {
            assert_eq!(answers[0][at], other[at], "{}", source.display());
        }
        for advice in answers[0][at]["recommendations"].as_array().into_iter().flatten() {
            println!("{}: {advice}", source.file_name().unwrap_or_default().display());
        }
    }
    let scores = answers[0].iter().filter_map(|answer| answer["complexity_score"].as_i64());
    println!("{} paths in {} files", scores.sum::<i64>(), sources.len());
    assert!(sources.len() > 30);

    for (kind, version) in kinds {
        let missing = call(&version, Path::new("/no/such/file")).await.expect_err("there is no such file");
        assert_eq!(missing.kind(), ErrorKind::Failed);
        println!("{kind}: {missing}");
    }
    plugins.shutdown().await;
    Ok(())
}

/// Puts the script into the folder of plugins as a component as well, where the tool for it is here.
#[cfg(feature = "wasm")]
fn component(assets: &Path, folder: &Path) -> Result<(), Error> {
    let own = folder.join("component");
    copy_tree(&assets.join("component"), &own)?;
    let mut tool = std::process::Command::new("componentize-py");
    tool.arg("-d").arg(assets.join("../../../swarm-plugin/wit")).args(["-w", "plugin", "componentize"]);
    tool.arg("component").arg("-p").arg(&own).arg("-p").arg(folder.join("cyclomatic"));
    match tool.arg("-o").arg(own.join("complexity_pro.wasm")).output() {
        Ok(made) if made.status.success() => Ok(()),
        Ok(made) => Err(String::from_utf8_lossy(&made.stderr).into_owned().into()),
        Err(_) => Ok(fs::remove_dir_all(own)?),
    }
}

/// All Rust sources below a folder, in order.
fn sources(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sources.extend(self::sources(&path)?),
            false if path.extension().is_some_and(|ending| ending == "rs") => sources.push(path),
            false => {}
        }
    }
    sources.sort();
    Ok(sources)
}
