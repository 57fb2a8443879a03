//! Any bytes as the log of a run: read, listed, cancelled and resumed, with an answer or a typed error.
//!
//! `cargo +nightly fuzz run log`
#![no_main]

use libfuzzer_sys::fuzz_target;
use swarm_pipeline::{LocalEngine, Pipeline, RunOptions};

/// A task, a fan-out, a signal and a compensation, by handles.
fn pipeline() -> Pipeline {
    let mut p = Pipeline::builder("p");
    let list = p
        .step("list")
        .compensate(|_cx, _| async { Ok(()) })
        .run(|_cx, ()| async { Ok(vec![1_u32, 2]) });
    let each = p.step("each").input(&list).run_each(|_cx, n: u32| async move { Ok(n * 2) });
    let ok = p.step::<bool>("ok").input(&each).wait_for_signal();
    p.step("last").input((&each, &ok)).run(|_cx, _| async { Ok(1_u32) });
    p.build().expect("it is right")
}

/// In memory where there is such a place.
fn folder() -> std::path::PathBuf {
    let base = std::path::Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    base.join(format!("swarm-fuzz-{}", std::process::id()))
}

/// The first byte chooses: `=` takes the rest as the file; anything else takes each line of it as the event of a
/// record, with the checksum that bytes from nowhere would never have.
fn log(data: &[u8]) -> Vec<u8> {
    if let Some(raw) = data.strip_prefix(b"=") {
        return raw.to_vec();
    }
    let mut out = Vec::new();
    line(&mut out, br#"","format":1,"kind":"swarm-pipeline run"}"#);
    for (seq, event) in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let mut body = format!(r#"","seq":{seq},"token":1,"event":"#).into_bytes();
        body.extend(event);
        body.push(b'}');
        line(&mut out, &body);
    }
    out
}

fn line(out: &mut Vec<u8>, body: &[u8]) {
    out.extend(format!(r#"{{"crc":"{:08x}"#, crc32fast::hash(body)).into_bytes());
    out.extend(body);
    out.push(b'\n');
}

fuzz_target!(|data: &[u8]| {
    let dir = folder();
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder can be made");
    std::fs::write(dir.join("r.jsonl"), log(data)).expect("a file can be written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let Ok(engine) = LocalEngine::open(&dir) else { return };
        let _ = engine.runs().await;
        let _ = engine.history("r").await;
        let pipeline = pipeline();
        let options = RunOptions::new().return_when_suspended();
        let _ = engine.run_with(&pipeline, "r", (), options.clone().retry_failed()).await;
        let _ = engine.signal("r", "ok", true).await;
        let _ = engine.run_with(&pipeline, "r", (), options).await;
        let _ = engine.cancel("r").await;
        let _ = engine.rollback(&pipeline, "r").await;
    });
    let _ = std::fs::remove_dir_all(&dir);
});
