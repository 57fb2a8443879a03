//! Programs of others that tests run, where they are installed.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program `name` on PATH, or a word about what is left out without it.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("left out: tests with the program `{name}`, which is not on PATH");
    }
    found
}

/// A Python that has `module` of `package`: the one `SWARM_PYTHON` names, or `python3`.
pub(crate) fn python_with(module: &str, package: &str) -> Option<PathBuf> {
    let python = std::env::var_os("SWARM_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let has = Command::new(&python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    if has.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    eprintln!("left out: tests with Python's `{package}`, which {python:?} has not; set SWARM_PYTHON");
    None
}

/// One that has the OpenMetrics parser.
pub(crate) fn python_with_parser() -> Option<PathBuf> {
    python_with("prometheus_client.openmetrics.parser", "prometheus-client")
}

/// One that has OpenTelemetry's messages.
#[cfg(feature = "otlp")]
pub(crate) fn python_with_otlp() -> Option<PathBuf> {
    python_with("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", "opentelemetry-proto")
}

/// Runs it with `input` on its standard input.
pub(crate) fn fed(command: &mut Command, input: impl AsRef<[u8]>) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_ref().to_owned();
    // Beside it, as a program may write before it has read everything. One that ended early closed the pipe.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}
