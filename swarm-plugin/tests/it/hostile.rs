//! What plugins of each kind can do to a service: the table of the crate page, each cell in a service of its own.

mod deeds;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use swarm_plugin::{CallOptions, PluginManager, ProcessLoader};
use tokio::process::Command;

use crate::process::{UNRULY, gone, has, install, is_alive};

/// The rows of the table, and what plugins of these tests are told to do.
const ROWS: [(&str, &str); 13] = [
    ("panics or traps", "panic"),
    ("loops without end", "spin"),
    ("overflows the stack", "stack"),
    ("takes memory without end", "memory"),
    ("aborts", "abort"),
    ("calls `exit(0)`", "exit"),
    ("answers gigabytes", "huge"),
    ("starts processes without end", "spawn"),
    ("opens files without end", "descriptors"),
    ("writes outside its folder", "write"),
    ("uses the network", "network"),
    ("takes the name and version of another", "name"),
    ("never returns from its cleanup", "cleanup"),
];
const KINDS: [&str; 4] = ["Rust type", "`native`", "`wasm`", "`process`"];

const DEED: &str = "SWARM_PLUGIN_DEED";
const FOLDER: &str = "SWARM_PLUGIN_HOSTILE";

/// What the crate page says, by kind and deed.
fn page() -> BTreeMap<(String, &'static str), String> {
    let page = include_str!("../../README.md");
    let table = page.split("| a plugin that |").nth(1).unwrap().split("\n\n").next().unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = table.lines();
    let kinds = cells(lines.next().unwrap());
    assert_eq!(kinds[..4], KINDS);
    let mut said = BTreeMap::new();
    for line in lines.skip(1) {
        let row = cells(line);
        let (_, deed) = ROWS.iter().find(|(name, _)| *name == row[1]).unwrap_or_else(|| panic!("{line}"));
        for (kind, cell) in KINDS.iter().zip(&row[2..]) {
            said.insert(((*kind).to_owned(), *deed), cell.clone());
        }
    }
    assert_eq!(said.len(), ROWS.len() * KINDS.len());
    said
}

/// Does all that the table says of a kind, with what puts a plugin for a deed into a folder; `None` where it cannot.
async fn each_row(kind: &str, put: impl Fn(&Path, &str) -> Option<()>) {
    for (_, deed) in ROWS {
        let said = &page()[&(kind.to_owned(), deed)];
        let contained = match said.split(',').next() {
            Some("contained") => true,
            Some("no") => false,
            Some("–") => continue,
            _ => panic!("{kind} {deed}: {said}"),
        };
        let scratch = tempfile::tempdir().unwrap();
        for folder in ["plugins", "outside"] {
            fs::create_dir(scratch.path().join(folder)).unwrap();
        }
        if put(&scratch.path().join("plugins"), deed).is_none() {
            return;
        }
        // Where the engine of components runs, it reserves address space; elsewhere what is taken is what is there.
        let memory = if kind == "`wasm`" { "unlimited" } else { "2000000" };
        let limits = format!("ulimit -c 0; ulimit -n 1024; ulimit -v {memory}; exec \"$0\" \"$@\"");
        let mut service = Command::new("sh");
        service.args(["-c", &limits]).arg(env::current_exe().unwrap());
        service.args(["hostile::a_service_with_a_hostile_plugin", "--exact", "--nocapture"]);
        service.env(DEED, format!("{kind}/{deed}")).env(FOLDER, scratch.path()).kill_on_drop(true);
        // One that is held up is not waited for.
        let patience = Duration::from_secs(if contained { 120 } else { 15 });
        let ended = tokio::time::timeout(patience, service.output()).await;
        assert!(scratch.path().join("began").exists(), "{kind} {deed}: {ended:?}");
        let went_on = scratch.path().join("went-on").exists();
        assert_eq!(went_on, contained, "{kind} {deed}, of which the page says {said:?}: {ended:?}");
        eprintln!("{kind} {deed}: {said}");
    }
}

/// Does nothing by itself. Run by the tests below as a process of its own, it has a plugin that does what it must not, and
/// says whether it went on as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_a_hostile_plugin() {
    let Ok(task) = env::var(DEED) else { return };
    let (kind, deed) = task.split_once('/').unwrap();
    let scratch = env::var_os(FOLDER).unwrap();
    let at = |name: &str| Path::new(&scratch).join(name);
    let loader = ProcessLoader::new().memory(1 << 30);
    let loader = if deed == "cleanup" { loader.env("STUBBORN", "1") } else { loader };
    let builder = PluginManager::builder().folder(at("plugins")).settle(Duration::ZERO);
    let builder = builder.loader(loader).loader(crate::native::loader());
    #[cfg(feature = "wasm")]
    let builder = builder.loader(swarm_plugin::WasmLoader::new().folder(
        "data",
        at("plugins"),
        swarm_plugin::Access::Write,
    ));
    let builder = builder.cleanup_timeout(Duration::from_millis(200));
    let plugins = builder.load_timeout(Duration::from_secs(60)).start().await.unwrap();
    plugins.register(crate::tool::plain("beside", "1.0.0")).await.unwrap();
    if kind == "Rust type" {
        plugins.register(deeds::Deeds::new()).await.unwrap();
    }
    let network = TcpListener::bind("127.0.0.1:0").unwrap();
    network.set_nonblocking(true).unwrap();
    let asks = plugins.get("asks").is_some();
    let call = async |what: &str, millis: u64| {
        let port = network.local_addr().unwrap().port();
        let what = match (kind, what) {
            ("`wasm`", "panic" | "abort") => "trap",
            ("`wasm`" | "`process`", "spin") => "loop",
            ("`wasm`", "exit") => "xit",
            ("`wasm`", "descriptors") => "open",
            ("`wasm`", "write") => "d../outside/x",
            _ => what,
        };
        let options = CallOptions::new().timeout(Duration::from_millis(millis));
        if asks {
            return plugins.call_with("asks", json!({ "ask": what }), options).await;
        }
        // 10 GB take a minute.
        let gib = if env::var_os("SWARM_LONG").is_some() { 10 } else { 1 };
        let params = json!({"do": what, "gib": gib, "mib": 4096, "path": at("outside/x"), "port": port});
        plugins.call_with("unruly", params, options).await
    };
    fs::write(at("began"), "").unwrap();

    let mut spared = true;
    match deed {
        "name" => spared = plugins.get("beside").unwrap().kind().is_none(),
        "cleanup" => plugins.remove("unruly").await.unwrap(),
        "spawn" => {
            let started = call(deed, 20_000).await.unwrap_or_default();
            let _ = plugins.remove("unruly").await;
            if let Some(pid) = started["child"].as_u64() {
                let end = tokio::time::timeout(Duration::from_secs(2), gone([pid]));
                spared = end.await.is_ok();
                if !spared {
                    let kill = Command::new("kill").args(["-9", &pid.to_string()]).status().await;
                    assert!(kill.unwrap().success() || !is_alive(pid));
                }
            }
        }
        "spin" => drop(call(deed, 200).await.unwrap_err()),
        "write" | "network" | "descriptors" => drop(call(deed, 20_000).await),
        _ => drop(call(deed, 60_000).await.unwrap_err()),
    }
    assert_eq!(plugins.call("beside", Value::Null).await.unwrap(), "1.0.0");
    if !["name", "cleanup", "spawn"].contains(&deed) {
        call("", 60_000).await.unwrap();
    }
    // What any service needs.
    let _room = std::hint::black_box(vec![1_u8; 64 << 20]);
    let _files: Vec<fs::File> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    spared &= fs::read_dir(at("outside")).unwrap().count() == 0 && network.accept().is_err();
    tokio::time::timeout(Duration::from_secs(60), plugins.shutdown()).await.unwrap();
    if spared {
        fs::write(at("went-on"), "").unwrap();
    }
}

#[tokio::test]
async fn the_page_says_what_a_rust_type_can_do() {
    each_row("Rust type", |_, _| Some(())).await;
}

#[tokio::test]
async fn the_page_says_what_a_library_can_do() {
    each_row("`native`", |folder, deed| {
        let liar = r#"-DDESCRIPTION="{\"name\": \"beside\", \"version\": \"1.0.0\"}""#;
        let flags = match deed {
            "name" => &[liar][..],
            "cleanup" => &["-DSTUCK"],
            _ => &[],
        };
        install(folder, "unruly.so", &crate::native::built("unruly.c", flags)?);
        Some(())
    })
    .await;
}

#[tokio::test]
async fn the_page_says_what_a_program_can_do() {
    each_row("`process`", |folder, deed| {
        let name = if deed == "name" { "beside" } else { "unruly" };
        let text = UNRULY.replace("\"TOOLS\", \"unruly\"", &format!("\"TOOLS\", {name:?}"));
        has("python3").then(|| install(folder, "unruly.py", text)).map(drop)
    })
    .await;
}

#[cfg(feature = "wasm")]
mod wasm {
    use super::{each_row, install};
    use crate::wasm::{ASKS, Guest};

    /// Starts processes with what no host has.
    const STARTS: &str = "(component
        (import \"other:host/processes@1.0.0\" (instance (export \"start\" (func))))
        (instance $tool) (export \"swarm:plugin/tool@0.1.0\" (instance $tool)))";

    #[tokio::test]
    async fn the_page_says_what_a_component_can_do() {
        each_row("`wasm`", |folder, deed| {
            let cleanup = "(loop $forever (br $forever))";
            let bytes = match deed {
                "write" | "network" | "descriptors" => {
                    let manifest = "name = \"asks\"\nversion = \"1.0.0\"\nkind = \"wasm\"\n\
                        [grants]\nfolders = { data = \"write\" }\n";
                    std::fs::create_dir(folder.join("tool")).unwrap();
                    std::fs::write(folder.join("tool/plugin.toml"), manifest).unwrap();
                    install(&folder.join("tool"), "tool.wasm", wat::parse_str(ASKS).unwrap());
                    return Some(());
                }
                "spawn" => wat::parse_str(STARTS).unwrap(),
                "name" => Guest { name: "beside".into(), ..Guest::new("1.0.0") }.bytes(),
                "cleanup" => Guest { cleanup, ..Guest::stateful("1.0.0") }.bytes(),
                _ => Guest::new("1.0.0").bytes(),
            };
            install(folder, "unruly.wasm", bytes);
            Some(())
        })
        .await;
    }
}
