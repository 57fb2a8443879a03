//! Counts the words of a text.

use exports::swarm::plugin::tool::{About, Failure, Guest};
use serde_json::{Value, json};

wit_bindgen::generate!({ world: "plugin", path: "../../wit" });

struct Words;

impl Guest for Words {
    fn describe() -> About {
        About {
            name: "words".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            description: "Counts the words of a text".into(),
            parameters: json!({
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            })
            .to_string(),
        }
    }

    fn execute(params: String) -> Result<String, Failure> {
        let failed = |error: serde_json::Error| Failure { message: error.to_string(), temporary: false };
        let params: Value = serde_json::from_str(&params).map_err(failed)?;
        let words = params["text"].as_str().unwrap_or_default().split_whitespace().count();
        Ok(json!({ "words": words }).to_string())
    }
}

export!(Words);
