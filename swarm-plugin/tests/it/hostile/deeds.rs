//! A Rust type that does what it is told, however bad.

use std::collections::VecDeque;
use std::fs;
use std::hint::black_box;
use std::net::TcpStream;
use std::process::{Command, abort, exit};

use async_trait::async_trait;
use serde_json::{Value, json};
use swarm_plugin::{CallContext, Manifest, Plugin, PluginError};

pub(super) struct Deeds(Manifest);

impl Deeds {
    pub(super) fn new() -> Deeds {
        Deeds(Manifest::builder("unruly", "1.0.0").build().unwrap())
    }
}

#[async_trait]
impl Plugin for Deeds {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    async fn execute(&self, params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        match params["do"].as_str().unwrap_or_default() {
            "panic" => panic!("oh no"),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "stack" => Ok(json!(deeper(1))),
            "memory" => {
                let mut taken = VecDeque::new();
                loop {
                    taken.push_back(black_box(vec![0_u8; 64 << 20]));
                }
            }
            "abort" => abort(),
            "exit" => exit(0),
            "huge" => Ok("x".repeat(10 << 30).into()),
            "spawn" => Ok(json!({"child": Command::new("sleep").arg("1000").spawn()?.id()})),
            "descriptors" => {
                while let Ok(file) = fs::File::open("/dev/null") {
                    std::mem::forget(file);
                }
                Ok(Value::Null)
            }
            "write" => Ok(fs::write(params["path"].as_str().unwrap_or_default(), "").map(|()| Value::Null)?),
            "network" => {
                let port = u16::try_from(params["port"].as_u64().unwrap_or_default())?;
                Ok(TcpStream::connect(("127.0.0.1", port)).map(|_| Value::Null)?)
            }
            _ => Ok(Value::Null),
        }
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        std::future::pending().await
    }
}

fn deeper(depth: u64) -> u64 {
    black_box([depth; 128])[black_box(7)] + if black_box(depth) == 0 { 0 } else { deeper(depth + 1) }
}
