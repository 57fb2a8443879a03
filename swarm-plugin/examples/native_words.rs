//! A native plugin in Rust: a library of the type `cdylib`, to be dropped into the plugin folder of a service.
use serde_json::{Value, json};
use swarm_plugin::{FnPlugin, Manifest, PluginError};

fn words() -> Result<FnPlugin, PluginError> {
    // So that two versions can be built of one source.
    let version = option_env!("WORDS_VERSION").unwrap_or("1.0.0");
    let manifest = Manifest::builder("words", version)
        .description("Counts the words of a text")
        .required("text", json!({"type": "string"}))
        .build()?;
    Ok(FnPlugin::new(manifest, move |params: Value, _cx| async move {
        let text = params["text"].as_str().unwrap_or_default();
        Ok(json!({"words": text.split_whitespace().count(), "version": version}))
    }))
}

swarm_plugin::native_plugin!(words);
