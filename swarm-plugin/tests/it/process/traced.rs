//! Which files are opened, as the system saw it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{WORDS, builder, has, install};

const FOLDER: &str = "SWARM_PLUGIN_FOLDER";

/// Does nothing by itself. Run by the test below as a process of its own, it loads what is in a folder.
#[tokio::test]
async fn a_host_reads_a_folder() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let plugins = builder(Path::new(&folder)).load_timeout(Duration::from_secs(60)).start().await.unwrap();
    let answer = plugins.call("words", json!({"text": "a b"})).await.unwrap();
    assert_eq!((answer, plugins.list().len()), (json!({"words": 2}), 1));
    plugins.shutdown().await;
}

#[cfg(target_os = "linux")]
#[test]
fn no_file_outside_the_folders_is_opened() {
    if !has("python3") || !has("strace") {
        return;
    }
    let all = tempfile::tempdir().unwrap();
    let (root, outside) = (all.path().join("plugins"), all.path().join("outside"));
    for folder in [&root, &root.join("tool"), &outside, &outside.join("tool")] {
        fs::create_dir(folder).unwrap();
    }
    let manifest = "name = \"secret\"\nversion = \"1.0.0\"\nkind = \"process\"\ncommand = [\"./run\"]\n";
    install(&root, "words.py", WORDS);
    install(&outside, "secret.py", &WORDS.replace("words", "secret"));
    fs::write(outside.join("tool/plugin.toml"), manifest).unwrap();
    fs::write(root.join("tool/plugin.toml"), manifest).unwrap();
    symlink("../outside/secret.py", root.join("up.py")).unwrap();
    symlink(outside.join("secret.py"), root.join("absolute.py")).unwrap();
    symlink("../outside/tool", root.join("folder")).unwrap();
    symlink("../../outside/secret.py", root.join("tool/run")).unwrap();
    let pipe = Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
    assert!(pipe.success());

    let trace = all.path().join("trace");
    let host = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "trace=open,openat,openat2,execve", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["process::traced::a_host_reads_a_folder", "--exact"])
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
    assert!(!opened(&root.join("words.py")).is_empty(), "the trace shows what is opened");
    assert_eq!(opened(&outside), [""; 0]);
    // It is looked at, and not opened for reading, which would wait for whoever writes.
    assert!(opened(&root.join("pipe")).iter().all(|line| line.contains("O_PATH")), "{trace}");
    assert!(!trace.lines().any(|line| line.contains("execve(") && line.contains("outside")), "{trace}");
}
