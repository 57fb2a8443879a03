use std::path::Path;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use serde_json::{Value, json};
use swarm_plugin::testing::PluginFolder;
use swarm_plugin::{CallOptions, Digest, ErrorKind, Event, EventKind, WasmLoader};

use super::{Guest, builder, told, unruly};

/// Why the next version that is refused is.
pub(super) async fn refusal(events: &mut (impl Stream<Item = Event> + Unpin)) -> String {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap().unwrap();
        if let EventKind::Refused { reason, .. } = event.kind {
            return reason;
        }
    }
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_a_component_does_stays_in_its_instance() {
    for stateful in [false, true] {
        let guest = Guest { stateful, ..Guest::new("1.0.0") };
        let (_folder, plugins) = unruly(&guest, WasmLoader::new()).await;
        // It answers again after each of these.
        for (what, why) in [
            ("memory", "more than 268435456 bytes of memory"),
            ("stack", "stack"),
            ("trap", "unreachable"),
            ("xit", "exit code 0"),
            ("huge", "over 16777216 bytes"),
            ("json", "not JSON"),
            ("utf-8", "utf-8"),
            ("beyond", "out of bounds"),
        ] {
            let options = CallOptions::new().timeout(SOON);
            let error = plugins.call_with("unruly", json!({ "do": what }), options).await.unwrap_err();
            let kind = if what == "huge" { ErrorKind::TooLarge } else { ErrorKind::Failed };
            assert_eq!(error.kind(), kind, "{what}: {error}");
            assert!(error.to_string().contains(why), "{what}: {error}");
            let params = json!({"do": "echo", "after": what});
            assert_eq!(plugins.call("unruly", params.clone()).await.unwrap(), params);
        }
        plugins.shutdown().await;
    }
}

#[tokio::test]
async fn loops_end_with_their_deadline_and_hold_nobody_up() {
    // One thread: what does not let others run would stop all of it.
    let (_folder, plugins) = unruly(&Guest::new("1.0.0"), WasmLoader::new()).await;
    for what in ["loop", "garrulous"] {
        let (deadline, begun) = (Duration::from_millis(50), Instant::now());
        let params = json!({ "do": what });
        let looping = plugins.call_with("unruly", params, CallOptions::new().timeout(deadline));
        let others = async {
            let mut calls = 0_u32;
            while begun.elapsed() < deadline {
                told(&plugins, "echo").await.unwrap();
                calls += 1;
                tokio::task::yield_now().await;
            }
            calls
        };
        let (ended, calls) = futures::join!(looping, others);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(calls > 3, "{calls} calls beside it");
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_loop_in_a_task_leaves_the_timers_their_time() {
    let (_folder, plugins) = unruly(&Guest::new("1.0.0"), WasmLoader::new()).await;
    let mut least = SOON;
    for _ in 0..5 {
        let (plugins, begun) = (plugins.clone(), Instant::now());
        let options = CallOptions::new().timeout(Duration::from_millis(5));
        let looping =
            tokio::spawn(async move { plugins.call_with("unruly", json!({"do": "loop"}), options).await });
        assert_eq!(looping.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        least = least.min(begun.elapsed());
    }
    // A runtime that looks at its timers after 61 turns of a task, each of a tick, is later.
    assert!(least < Duration::from_millis(50), "{least:?}");
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_and_gives_its_instance_back() {
    let (_folder, plugins) = unruly(&Guest::new("1.0.0"), WasmLoader::new().instances(1)).await;
    for _ in 0..3 {
        let looping = plugins.call("unruly", json!({"do": "loop"}));
        assert!(tokio::time::timeout(Duration::from_millis(5), looping).await.is_err());
        assert_eq!(told(&plugins, "count").await.unwrap(), 1, "another instance in its place");
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn an_instance_that_is_lost_gives_its_state_to_the_next() {
    let (folder, plugins) = unruly(&Guest::stateful("1.0.0"), WasmLoader::new()).await;
    assert_eq!(told(&plugins, "count").await.unwrap(), 1);
    told(&plugins, "fail").await.unwrap_err();
    assert_eq!(told(&plugins, "count").await.unwrap(), 3, "a failure that is answered is a call");
    told(&plugins, "trap").await.unwrap_err();
    let looping = CallOptions::new().timeout(Duration::from_millis(5));
    plugins.call_with("unruly", json!({"do": "loop"}), looping).await.unwrap_err();
    assert_eq!(told(&plugins, "count").await.unwrap(), 4, "a call that ended with its instance is none");

    folder.program("unruly.wasm", Guest::stateful("1.1.0").bytes()).unwrap();
    plugins.rescan().await;
    assert_eq!(plugins.get("unruly").unwrap().manifest().version().to_string(), "1.1.0");
    assert_eq!(told(&plugins, "count").await.unwrap(), 5, "a reload hands it over as well");
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_state_that_is_not_told_or_not_taken_leaves_the_one_before() {
    let trap = Guest {
        save: "(if (i32.gt_u (global.get $count) (i32.const 2)) (then unreachable))",
        ..Guest::stateful("1.0.0")
    };
    let (folder, plugins) = unruly(&trap, WasmLoader::new()).await;
    for _ in 0..2 {
        told(&plugins, "count").await.unwrap();
    }
    for _ in 0..2 {
        let error = told(&plugins, "count").await.unwrap_err();
        assert!(error.to_string().contains("the one before stands"), "{error}");
    }
    let text = "(if (i32.gt_u (global.get $count) (i32.const 2)) (then \
        (return (call $ok (i32.const 32800) (i32.const 5)))))";
    folder.program("unruly.wasm", Guest { save: text, ..Guest::stateful("1.1.0") }.bytes()).unwrap();
    plugins.rescan().await;
    for _ in 0..2 {
        let error = told(&plugins, "count").await.unwrap_err();
        assert!(error.to_string().contains("the one before stands: its state is not JSON"), "{error}");
    }
    folder.program("unruly.wasm", Guest::stateful("1.2.0").bytes()).unwrap();
    plugins.rescan().await;
    assert_eq!(plugins.get("unruly").unwrap().manifest().version().to_string(), "1.2.0");
    assert_eq!(told(&plugins, "count").await.unwrap(), 3, "and is handed over");

    let none = Guest { save: "(return (call $failure (i32.const 0)))", ..Guest::stateful("1.3.0") };
    let mut events = plugins.events();
    folder.program("unruly.wasm", none.bytes()).unwrap();
    plugins.rescan().await;
    assert!(refusal(&mut events).await.contains("its save failed: no luck"));
    assert_eq!(told(&plugins, "count").await.unwrap(), 4);
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_cleanup_runs_once_and_is_given_up_when_it_does_not_end() {
    for (cleanup, failed) in
        [("", None), ("unreachable", Some("unreachable")), ("(loop $forever (br $forever))", Some("longer"))]
    {
        let guest = Guest { cleanup, ..Guest::stateful("1.0.0") };
        let folder = PluginFolder::new().unwrap();
        folder.program("unruly.wasm", guest.bytes()).unwrap();
        let loader = WasmLoader::new();
        let plugins =
            builder(&folder, loader).cleanup_timeout(Duration::from_millis(50)).start().await.unwrap();
        told(&plugins, "count").await.unwrap();
        let mut events = plugins.events();
        plugins.shutdown().await;
        let mut cleaned = Vec::new();
        while let Some(Some(event)) = events.next().now_or_never() {
            if let EventKind::CleanedUp { failure } = event.kind {
                cleaned.push(failure);
            }
        }
        assert_eq!(cleaned.len(), 1);
        match (failed, &cleaned[0]) {
            (None, None) => {}
            (Some(why), Some(failure)) => assert!(failure.contains(why), "{failure}"),
            (_, failure) => panic!("{failure:?}, and expected {failed:?}"),
        }
    }
}

/// 32 MiB of parameters, where a host that believes it would read them all.
const LONG_PARAMETERS: &str =
    "(drop (memory.grow (i32.const 640))) (i32.store (i32.const 540) (i32.const 33554432))";

#[tokio::test]
async fn what_is_no_plugin_is_refused_and_says_why() {
    let good = Guest::new("1.0.0");
    let bytes = good.bytes();
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (b"(component)".to_vec(), "it is not WebAssembly"),
        (Vec::new(), "it is not WebAssembly"),
        (bytes[..7].to_vec(), "it is not WebAssembly"),
        (bytes[..bytes.len() / 2].to_vec(), "it is not a valid component"),
        (bytes[..bytes.len() - 1].to_vec(), "it is not a valid component"),
        (wat("(module)"), "it is a core module, not a component: build it for wasm32-wasip2"),
        (wat("(component)"), "it exports nothing"),
        (
            wat("(component (instance $c) (export \"c\" (instance $c)))"),
            "does not export swarm:plugin/tool@0.1.0, but c",
        ),
        (
            Guest { tool: "swarm:plugin/tool@0.2.0", ..good.clone() }.bytes(),
            "it is written for swarm:plugin@0.2.0, and this is swarm:plugin/tool@0.1.0",
        ),
        (
            Guest { tool: "swarm:plugin/toolbox@1.0.0", ..good.clone() }.bytes(),
            "does not export swarm:plugin/tool@0.1.0, but swarm:plugin/toolbox@1.0.0",
        ),
        (
            wat("(component (core module $m (memory 1)) (core instance (instantiate $m))
                (core instance (instantiate $m)) (core instance (instantiate $m)))"),
            "memories",
        ),
        (
            wat("(component (import \"other:host/secrets@1.0.0\" (instance (export \"all\" (func))))
                (instance $tool) (export \"swarm:plugin/tool@0.1.0\" (instance $tool)))"),
            "has no function describe",
        ),
        (
            Guest { name: "other".into(), ..good.clone() }.bytes(),
            "it calls itself \"other\", and its file is called unruly",
        ),
        (
            Guest { name: "../../etc/passwd".into(), ..good.clone() }.bytes(),
            "it calls itself \"../../etc/passwd\"",
        ),
        (Guest::new("one").bytes(), "\"one\" is not a semantic version"),
        (Guest::new(&format!("1.0.0+{}", "a".repeat(300))).bytes(), "version: is over 256 bytes"),
        (
            Guest { describe: LONG_PARAMETERS, ..good.clone() }.bytes(),
            "or is over 524288 bytes: too much data",
        ),
        (Guest { parameters: "{".into(), ..good.clone() }.bytes(), "its parameters are not JSON"),
        (Guest { parameters: "[1]".into(), ..good.clone() }.bytes(), "parameters: "),
        (Guest { save: "unreachable", ..Guest::stateful("1.0.0") }.bytes(), "unreachable"),
        (
            Guest { save: "(return (call $ok (i32.const 32800) (i32.const 5)))", ..Guest::stateful("1.0.0") }
                .bytes(),
            "its state is not JSON",
        ),
    ];
    let (folder, plugins) = unruly(&good, WasmLoader::new()).await;
    for (bytes, why) in rows {
        let mut events = plugins.events();
        folder.program("unruly.wasm", bytes).unwrap();
        plugins.rescan().await;
        let reason = refusal(&mut events).await;
        assert!(reason.contains(why), "{why}: {reason}");
        assert_eq!(told(&plugins, "echo").await.unwrap(), json!({"do": "echo"}), "the one before serves on");
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn the_seeds_of_the_fuzz_target_lead_where_they_should() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/plugin_wasm");
    for (name, serves) in
        [("counter.wat", 1), ("calls.wat", 1), ("counter", 1), ("cut", 0), ("changed", 0), ("module", 0)]
    {
        let folder = PluginFolder::new().unwrap();
        folder.program("tool.wasm", wat::parse_file(seeds.join(name)).unwrap()).unwrap();
        let plugins = builder(&folder, WasmLoader::new()).start().await.unwrap();
        assert_eq!(plugins.list().len(), serves, "{name}");
        plugins.shutdown().await;
    }
}

/// Random changes of a good component: none may do more than be refused, or be another plugin.
#[tokio::test]
async fn damaged_components_harm_nobody() {
    let good = Guest::new("1.0.0").bytes();
    let rounds = if std::env::var_os("SWARM_LONG").is_some() { 3_000 } else { 60 };
    let (folder, plugins) = unruly(&Guest::new("1.0.0"), WasmLoader::new()).await;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % bound
    };
    let mut serving = 0;
    for _ in 0..rounds {
        let mut bytes = good.clone();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            bytes[at] ^= 1 << next(8);
        }
        folder.program("unruly.wasm", &bytes).unwrap();
        plugins.rescan().await;
        let options = CallOptions::new().timeout(Duration::from_millis(200));
        if let Err(error) = plugins.call_with("unruly", json!({"do": "echo"}), options).await {
            let known = [ErrorKind::Failed, ErrorKind::InvalidParams, ErrorKind::TimedOut];
            assert!(known.contains(&error.kind()), "{error}");
        }
        let digest = plugins.get("unruly").unwrap().digest();
        serving += u32::from(digest == Some(Digest::of(&bytes)));
    }
    assert!(0 < serving && serving < rounds, "{serving} of {rounds} damaged ones were loaded");
    folder.program("unruly.wasm", &good).unwrap();
    plugins.rescan().await;
    assert_eq!(told(&plugins, "echo").await.unwrap(), json!({"do": "echo"}));
    plugins.shutdown().await;
}

#[tokio::test]
async fn limits_of_the_manifest_hold() {
    let folder = PluginFolder::new().unwrap();
    let manifest = "name = \"unruly\"\nversion = \"1.0.0\"\nkind = \"wasm\"\n[limits]\nmemory_bytes = 1048576\n\
        result_bytes = 100\ntimeout_ms = 30\n";
    folder.folder("tool", &[("plugin.toml", manifest)]).unwrap();
    std::fs::write(folder.path().join("tool/tool.wasm"), Guest::new("").bytes()).unwrap();
    let plugins = builder(&folder, WasmLoader::new()).start().await.unwrap();
    let said = async |what: Value| plugins.call("unruly", what).await.unwrap_err();
    assert!(said(json!({"do": "memory"})).await.to_string().contains("more than 1048576 bytes of memory"));
    assert!(
        said(json!({"do": "echo", "long": "x".repeat(100)})).await.to_string().contains("over 100 bytes")
    );
    assert_eq!(said(json!({"do": "loop"})).await.kind(), ErrorKind::TimedOut);
    plugins.shutdown().await;
}
