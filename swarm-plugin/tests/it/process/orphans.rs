//! What is left when the host is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use swarm_plugin::ProcessLoader;

use super::{gone, has, is_alive, unruly};

const HOST: &str = "SWARM_PLUGIN_HOST";

/// Does nothing by itself. Run by the test below as a process of its own, it serves until it is killed.
#[tokio::test]
async fn a_host_serves_until_it_is_killed() {
    if std::env::var_os(HOST).is_none() {
        return;
    }
    let Some((_root, plugins)) = unruly(ProcessLoader::new().env("STUBBORN", "1")).await else { return };
    // One program that ended before must not be missed by the guard.
    let _ = plugins.call("unruly", json!({"do": "exit"})).await;
    let pids = plugins.call("unruly", json!({"do": "spawn"})).await.unwrap();
    eprintln!("pids {pids}");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_of_a_program_is_left_when_the_host_is_killed() {
    if !has("python3") {
        return;
    }
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["process::orphans::a_host_serves_until_it_is_killed", "--exact", "--nocapture"])
        .env(HOST, "1")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = BufReader::new(host.stderr.take().unwrap()).lines().map(Result::unwrap);
    let pids = told.filter_map(|line| Some(line.strip_prefix("pids ")?.to_owned())).next().unwrap();
    let pids: Value = serde_json::from_str(&pids).unwrap();
    let pids = [pids["pid"].as_u64().unwrap(), pids["child"].as_u64().unwrap()];
    assert!(pids.iter().all(|&pid| is_alive(pid)), "{pids:?}");
    // On Unix this is SIGKILL, of which the host learns nothing.
    host.kill().unwrap();
    host.wait().unwrap();
    gone(pids).await;
}
