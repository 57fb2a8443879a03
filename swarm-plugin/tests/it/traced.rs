//! Which files are opened, as the system saw it, for each kind that is loaded from folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use swarm_plugin::PluginManager;

use crate::process::{WORDS, has, install};

const FOLDER: &str = "SWARM_PLUGIN_FOLDER";

/// Does nothing by itself. Run by the tests below as a process of its own, it loads what is in a folder.
#[tokio::test]
async fn a_host_reads_a_folder() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let builder = PluginManager::builder().folder(folder).settle(Duration::ZERO);
    let builder = builder.loader(crate::native::loader());
    #[cfg(feature = "wasm")]
    let builder = builder.loader(swarm_plugin::WasmLoader::new().folder(
        "data",
        folder.join("../data"),
        swarm_plugin::Access::Write,
    ));
    let plugins = builder.load_timeout(Duration::from_secs(60)).start().await.unwrap();
    assert!(plugins.get("secret").is_none());
    let [tool] = &plugins.list()[..] else { panic!("{:?}", plugins.list()) };
    if tool.manifest().name() == "words" {
        let answer = plugins.call("words", json!({"text": "a b"})).await.unwrap();
        assert_eq!(answer, json!({"words": 2}));
    }
    #[cfg(feature = "wasm")]
    if tool.manifest().name() == "asks" {
        assert_eq!(plugins.call("asks", json!({"ask": "dmine"})).await.unwrap(), 0);
        for path in ["d../outside/x", "dout/x", "dmine/../../outside/x"] {
            assert_ne!(plugins.call("asks", json!({ "ask": path })).await.unwrap(), 0, "{path}");
        }
    }
    plugins.shutdown().await;
}

/// A good plugin, and the same file outside, to which links lead from everywhere, in a folder and as the command of one.
fn opens_nothing_outside(ending: &str, good: &[u8], secret: &[u8], kind: &str, manifest: &str) {
    if !has("strace") {
        return;
    }
    let all = tempfile::tempdir().unwrap();
    let [root, outside, data] = ["plugins", "outside", "data"].map(|name| all.path().join(name));
    for folder in [&root, &data, &outside, &root.join("tool"), &root.join("good"), &outside.join("tool")] {
        fs::create_dir(folder).unwrap();
    }
    let secrets =
        format!("name = \"secret\"\nversion = \"1.0.0\"\nkind = \"{kind}\"\ncommand = [\"./run{ending}\"]\n");
    install(&outside, &format!("secret{ending}"), secret);
    for folder in [&root, &outside] {
        fs::write(folder.join("tool/plugin.toml"), &secrets).unwrap();
    }
    install(&root.join("good"), &format!("run{ending}"), good);
    fs::write(root.join("good/plugin.toml"), manifest).unwrap();
    symlink(format!("../outside/secret{ending}"), root.join(format!("up{ending}"))).unwrap();
    symlink(outside.join(format!("secret{ending}")), root.join(format!("absolute{ending}"))).unwrap();
    symlink("../outside/tool", root.join("folder")).unwrap();
    symlink(format!("../../outside/secret{ending}"), root.join(format!("tool/run{ending}"))).unwrap();
    symlink("../outside", data.join("out")).unwrap();
    let pipe = root.join(format!("pipe{ending}"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());

    let trace = all.path().join("trace");
    let host = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "trace=open,openat,openat2,execve,mkdir,mkdirat", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["traced::a_host_reads_a_folder", "--exact"])
        .env(FOLDER, &root)
        .output()
        .unwrap();
    assert!(host.status.success(), "{host:?}");
    let trace = fs::read_to_string(trace).unwrap();
    // What was opened stands behind the descriptor: `openat2(5</…>, "up.py", …) = 7</…/up.py>`.
    let opened = |path: &Path| {
        let path = format!("<{}", path.display());
        let calls = trace.lines().filter_map(|line| Some((line, line.rsplit_once(" = ")?.1)));
        calls.filter(|(_, result)| result.contains(&path)).map(|(line, _)| line).collect::<Vec<_>>()
    };
    let file = root.join(format!("good/run{ending}"));
    assert!(!opened(&file).is_empty(), "the trace shows what is opened");
    assert_eq!(opened(&outside), [""; 0]);
    // It is looked at, and not opened for reading, which would wait for whoever writes.
    assert!(opened(&pipe).iter().all(|line| line.contains("O_PATH")), "{trace}");
    assert!(!trace.lines().any(|line| line.contains("execve(") && line.contains("outside")), "{trace}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2, "nothing was made there");
}

#[test]
fn no_file_outside_the_folders_is_opened_for_a_program() {
    if has("python3") {
        let manifest =
            "name = \"words\"\nversion = \"1.0.0\"\nkind = \"process\"\ncommand = [\"./run.py\"]\n";
        let secret = WORDS.replace("words", "secret");
        opens_nothing_outside(".py", WORDS.as_bytes(), secret.as_bytes(), "process", manifest);
    }
}

#[test]
fn no_file_outside_the_folders_is_opened_for_a_library() {
    let Some(words) = crate::native::built("words.c", &[]) else { return };
    let manifest = "name = \"words\"\nversion = \"1.0.0\"\nkind = \"native\"\ncommand = [\"run.so\"]\n";
    opens_nothing_outside(".so", &words, &words, "native", manifest);
}

#[cfg(feature = "wasm")]
mod wasm {
    #[test]
    fn no_file_outside_the_folders_is_opened_for_a_component() {
        let asks = wat::parse_str(crate::wasm::ASKS).unwrap();
        let manifest = "name = \"asks\"\nversion = \"1.0.0\"\nkind = \"wasm\"\n[grants]\nfolders = { data = \"write\" }\n";
        super::opens_nothing_outside(".wasm", &asks, &asks, "wasm", manifest);
    }
}
