//! A large configuration: 1.9 MB of JSON at 1,000 agents.
#![allow(missing_docs, reason = "the fields are only there to be read")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The whole.
#[derive(Serialize, Deserialize)]
pub struct Settings {
    pub agents: BTreeMap<String, Agent>,
    pub tools: BTreeMap<String, Tool>,
    pub workflows: BTreeMap<String, Workflow>,
}

/// Who works.
#[derive(Serialize, Deserialize)]
pub struct Agent {
    pub role: String,
    pub max_retries: u32,
    pub timeout: f64,
    pub enabled: bool,
    pub tags: Vec<String>,
    pub limits: BTreeMap<String, u64>,
    pub prompt: String,
}

/// What it works with.
#[derive(Serialize, Deserialize)]
pub struct Tool {
    pub command: String,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub description: String,
}

/// What it does.
#[derive(Serialize, Deserialize)]
pub struct Workflow {
    pub agent: String,
    pub steps: Vec<Step>,
}

/// One step of it.
#[derive(Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub tool: String,
    pub retries: u32,
    pub after: Vec<String>,
}

/// So many agents and tools, and a fifth as many workflows.
pub fn settings(agents: usize) -> Value {
    let prose = "Reads what others wrote, weighs it, and answers in plain sentences. ";
    let agent = |at: usize| {
        json!({"role": format!("role-{}", at % 8), "max_retries": at % 5 + 1, "timeout": at as f64 / 4.0 + 0.5,
            "enabled": at.is_multiple_of(3), "tags": ["alpha", "beta", format!("t{at}")],
            "limits": {"cpu": at, "memory": at * 1024, "files": 64, "sockets": 16}, "prompt": prose.repeat(9)})
    };
    let tool = |at: usize| {
        json!({"command": format!("/usr/bin/tool-{at}"), "arguments": ["--fast", "--quiet", format!("--level={at}")],
            "environment": {"HOME": "/var/lib/tool", "LANG": "C.UTF-8", "ID": format!("{at}")},
            "description": prose.repeat(6)})
    };
    let step = |at: usize| json!({"name": format!("step-{at}"), "tool": format!("tool-{at}"), "retries": at % 4, "after": []});
    let workflow =
        |at: usize| json!({"agent": format!("agent-{at}"), "steps": (0..10).map(step).collect::<Vec<_>>()});
    let table = |name: &str, count: usize, make: &dyn Fn(usize) -> Value| -> Value {
        Value::Object((0..count).map(|at| (format!("{name}-{at}"), make(at))).collect())
    };
    json!({"agents": table("agent", agents, &agent), "tools": table("tool", agents, &tool),
        "workflows": table("workflow", agents / 5, &workflow)})
}

/// A few changes to it.
pub fn overlay() -> Value {
    json!({"agents": {"agent-1": {"max_retries": 5}, "agent-7": {"enabled": false}},
        "tools": {"tool-3": {"arguments": ["--slow"]}}})
}

/// What it must look like.
pub fn schema() -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "properties": {
            "agents": {"type": "object", "additionalProperties": {
                "type": "object",
                "properties": {
                    "role": {"type": "string", "pattern": "^role-[0-9]+$"},
                    "max_retries": {"type": "integer", "minimum": 1, "maximum": 5},
                    "timeout": {"type": "number", "exclusiveMinimum": 0}, "enabled": {"type": "boolean"},
                    "tags": {"type": "array", "items": text},
                    "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "prompt": {"type": "string", "minLength": 1},
                },
                "required": ["role", "max_retries"],
            }},
            "tools": {"type": "object", "additionalProperties": {
                "type": "object",
                "properties": {"command": text, "arguments": {"type": "array", "items": text},
                    "environment": {"type": "object", "additionalProperties": text}, "description": text},
                "required": ["command"],
            }},
            "workflows": {"type": "object", "additionalProperties": {
                "type": "object",
                "properties": {"agent": text, "steps": {"type": "array", "items": {
                    "type": "object",
                    "properties": {"name": text, "tool": text, "retries": {"type": "integer"},
                        "after": {"type": "array", "items": text}},
                    "required": ["name", "tool"],
                }}},
                "required": ["agent", "steps"],
            }},
        },
        "required": ["agents"],
    })
}

/// RFC 7396 without the nulls.
pub fn merge_by_hand(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge_by_hand(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
