use std::io::{BufRead, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarm_pipeline::*;

async fn run(shell: Shell) -> Result<Value, StepError> {
    let mut p = Pipeline::builder("p");
    p.step("s").run_step(shell);
    let engine = LocalEngine::with_store(MemoryStore::default());
    let report = engine.run(&p.build().unwrap(), "r", ()).await.unwrap();
    match report.step("s").unwrap().error() {
        Some(error) => Err(error.clone()),
        None => Ok((*report.output_by_name::<Value>("s").unwrap()).clone()),
    }
}

async fn fails(shell: Shell, kind: StepErrorKind, message: &str) {
    let error = run(shell).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (kind, message));
}

#[tokio::test]
async fn the_output_tells_code_and_streams() {
    let value = run(Shell::script("echo out; echo err >&2; exit 3").ok_codes([0, 3])).await.unwrap();
    let expected =
        json!({"code": 3, "stdout": "out\n", "stderr": "err\n", "truncated": false, "lossy": false});
    assert_eq!(value, expected);
}

#[tokio::test]
async fn a_program_that_fails_is_told_with_its_last_words() {
    use StepErrorKind::{Failed, Permanent};
    fails(
        Shell::script("echo no such host >&2; exit 7"),
        Failed,
        "\"sh\" exited with code 7; it said: no such host",
    )
    .await;
    fails(Shell::script("kill -9 $$"), Failed, "\"sh\" was ended by signal 9").await;
    fails(Shell::new("./absent"), Permanent, "the program \"./absent\" does not exist").await;
    fails(Shell::new("/dev/null"), Permanent, "\"/dev/null\" may not be executed").await;
    fails(
        Shell::new("true").cwd("/no/such/folder"),
        Permanent,
        "\"true\" cannot run in /no/such/folder, which is no folder",
    )
    .await;
    let lost = Shell::new("no-such-program-anywhere").env("PATH", "/a:/b");
    fails(lost, Permanent, "the program \"no-such-program-anywhere\" was not found in the 2 folders of PATH")
        .await;
    let error = run(Shell::new("true").arg("a\0b")).await.unwrap_err();
    assert_eq!(error.kind(), Permanent, "{error}");
}

#[tokio::test]
async fn output_is_bounded_to_its_tail() {
    let long = Shell::script("head -c 1000000 /dev/zero | tr '\\0' x; echo end");
    let value = run(long.output_limit(10)).await.unwrap();
    assert_eq!((&value["stdout"], &value["truncated"]), (&json!("xxxxxxend\n"), &json!(true)));
    let value = run(Shell::script("printf 'a\\377b'")).await.unwrap();
    assert_eq!((&value["stdout"], &value["lossy"]), (&json!("a\u{fffd}b"), &json!(true)));
}

#[tokio::test]
async fn printed_json_becomes_a_value() {
    let value = run(Shell::script("echo '{\"a\": [1]}'").parse_json()).await.unwrap();
    assert_eq!(value["json"], json!({"a": [1]}));
    let wrong = Shell::script("echo '{\"a\": secret}'").parse_json();
    fails(wrong, StepErrorKind::Failed, "\"sh\" did not print JSON: wrong at line 1, column 7").await;
    let long = Shell::script("echo '[1, 2, 3]'").parse_json().output_limit(4);
    let message = "\"sh\" printed more than the 4 bytes kept; raise `output_limit`";
    fails(long, StepErrorKind::Permanent, message).await;
}

#[tokio::test]
async fn a_program_knows_its_run_and_its_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap();
    let text = format!(
        r#"
        name = "env"
        [steps.first]
        uses = "shell"
        with = {{ script = "echo 7", parse = "json" }}
        [steps.second]
        uses = "shell"
        after = ["first"]
        with = {{ run = ["cat"], stdin = "inputs", parse = "json" }}
        [steps.third]
        uses = "shell"
        [steps.third.with]
        script = "echo $SWARM_RUN $SWARM_STEP $SWARM_ATTEMPT $SWARM_IDEMPOTENCY_KEY $MINE ${{HOME-none}}; pwd; cat"
        env = {{ MINE = "mine", PATH = "/usr/bin:/bin" }}
        inherit_env = false
        cwd = {folder:?}
        [steps.list]
        uses = "echo"
        with.value = ["a b", {{ n = 1 }}]
        [steps.each]
        uses = "shell"
        for_each = "list"
        with = {{ script = "echo $SWARM_ITEM_INDEX $SWARM_ITEM; cat", stdin = "item" }}
        "#
    );
    let engine = LocalEngine::with_store(MemoryStore::default());
    let report = engine.run(&super::toml(&text), "r1", ()).await.unwrap();
    assert!(report.is_success(), "{report}");
    let value = |step| report.output_by_name::<Value>(step).unwrap();
    assert_eq!(value("second")["json"]["first"]["json"], 7);
    let expected = format!("r1 third 1 r1/third mine none\n{}\n", folder.display());
    assert_eq!(value("third")["stdout"], expected);
    assert_eq!(value("each")[0]["stdout"], "0 a b\n\"a b\"");
    assert_eq!(value("each")[1]["stdout"], "1 {\"n\":1}\n{\"n\":1}");
}

/// A pipe that every process of the group holds open: reading it ends when the last of them has. The receiver hears
/// of the first line.
fn pipe(
    dir: &Path,
) -> (std::path::PathBuf, tokio::sync::oneshot::Receiver<()>, std::thread::JoinHandle<String>) {
    let path = dir.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (up, is_up) = tokio::sync::oneshot::channel();
    let reader = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut said = String::new();
            let mut pipe = std::io::BufReader::new(std::fs::File::open(path).unwrap());
            pipe.read_line(&mut said).unwrap();
            // Most do not wait for it.
            let _ = up.send(());
            pipe.read_to_string(&mut said).unwrap();
            said
        }
    });
    (path, is_up, reader)
}

/// Two processes that hold the pipe, the second of which is no child that anybody waits for.
///
/// Who says goodbye is given the time for it; nobody else needs any.
fn family(pipe: &Path, trap: &str) -> Shell {
    let grace = if trap.contains("bye") { Duration::from_secs(60) } else { Duration::from_millis(50) };
    let script = format!("exec 3>{}; {trap} (sleep 1000; :) & echo up >&3; sleep 1000; :", pipe.display());
    Shell::script(script).kill_grace(grace)
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let ends = async |trap| {
        let dir = tempfile::tempdir().unwrap();
        let (path, _, reader) = pipe(dir.path());
        let mut p = Pipeline::builder("p");
        // Long enough to have begun, on a busy machine too.
        p.step("s").timeout(Duration::from_secs(5)).run_step(family(&path, trap));
        let engine = LocalEngine::with_store(MemoryStore::default());
        let before = Instant::now();
        let report = engine.run(&p.build().unwrap(), "r", ()).await.unwrap();
        assert_eq!(report.step("s").unwrap().error().unwrap().kind(), StepErrorKind::TimedOut);
        // Had it not opened the pipe, nobody would, and the reader would wait for ever.
        drop(std::fs::File::options().read(true).write(true).open(&path));
        let said = tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
        assert_eq!(said, "up\n");
        assert!(before.elapsed() < Duration::from_secs(60));
    };
    tokio::join!(ends(""), ends("trap '' TERM;"));
}

#[tokio::test]
async fn a_cancelled_run_ends_the_whole_group_and_waits_for_it() {
    for trap in ["", "trap '' TERM;", "trap 'echo bye >&3; exit 0' TERM;"] {
        let dir = tempfile::tempdir().unwrap();
        let (path, is_up, reader) = pipe(dir.path());
        let mut p = Pipeline::builder("p");
        p.step("s").run_step(family(&path, trap));
        let pipeline = p.build().unwrap();
        let engine = LocalEngine::with_store(MemoryStore::default());
        let marker = dir.path().join("pipe");
        let running = tokio::spawn({
            let (engine, pipeline) = (engine.clone(), pipeline.clone());
            async move { engine.run(&pipeline, "r", ()).await }
        });
        assert!(marker.exists());
        is_up.await.unwrap();
        engine.cancel("r").await.unwrap();
        let report = running.await.unwrap().unwrap();
        assert_eq!(report.status(), RunStatus::Cancelled, "{report}");
        let said = tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
        assert!(said.starts_with("up\n"), "{said}");
        assert_eq!(said.contains("bye"), trap.contains("bye"), "{said}");
    }
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _, reader) = pipe(dir.path());
    let script = format!("exec 3>{}; sleep 1000 & echo done", path.display());
    let value = run(Shell::script(script)).await.unwrap();
    assert_eq!(value["stdout"], "done\n");
    tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
}

#[test]
fn a_change_of_the_program_changes_the_fingerprint() {
    let print = |shell: Shell| {
        let mut p = Pipeline::builder("p");
        p.step("s").run_step(shell);
        p.build().unwrap().fingerprint()
    };
    let base = print(Shell::new("a").arg("b"));
    assert_eq!(print(Shell::new("a").arg("b").kill_grace(Duration::ZERO)), base);
    let others = [
        Shell::new("a").args(["b", "c"]),
        Shell::new("ab"),
        Shell::new("a").arg("b").env("A", "1"),
        Shell::new("a").arg("b").cwd("/"),
        Shell::new("a").arg("b").parse_json(),
    ];
    for other in others {
        assert_ne!(print(other), base);
    }
}
