//! Talks to a service that was deployed.

use std::io;
use std::path::Path;
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::tree::At;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tested {
    pub(crate) asked: usize,
    /// What was answered wrongly.
    pub(crate) wrong: Vec<String>,
}

impl Tested {
    /// The part of the answers that were right, from 0 to 1.
    pub(crate) fn right(&self) -> f64 {
        (self.asked - self.wrong.len()) as f64 / self.asked.max(1) as f64
    }
}

/// Asks the service in `folder` for its version.
pub(crate) async fn version(folder: &Path) -> io::Result<String> {
    let program = folder.join("bin/service");
    let output = Command::new("sh").arg(&program).arg("version").kill_on_drop(true).output().await;
    let output = output.at("run", &program)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {} {}", program.display(), output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Starts the service in `folder`, and asks it what its `tests/integration.txt` says, one question after the other.
pub(crate) async fn converse(folder: &Path, version: &str, told: impl Fn(u64, u64)) -> io::Result<Tested> {
    let path = folder.join("tests/integration.txt");
    let text = std::fs::read_to_string(&path).at("read", &path)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let questions: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(" => ")).collect();
    let program = folder.join("bin/service");
    let mut child = Command::new("sh")
        .arg(&program)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Whoever drops the conversation ends the service.
        .kill_on_drop(true)
        .spawn()
        .at("run", &program)?;
    let (Some(mut asking), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the service has no standard input and output"));
    };
    let mut answers = BufReader::new(answers).lines();
    let mut wrong = Vec::new();
    for (done, (question, expected)) in questions.iter().enumerate() {
        asking.write_all(format!("{question}\n").as_bytes()).await?;
        let answer = answers.next_line().await?.unwrap_or_else(|| "nothing, and went away".to_owned());
        if answer != expected.replace("VERSION", version) {
            wrong.push(format!("to {question:?} it answered {answer:?}"));
        }
        told(done as u64 + 1, questions.len() as u64);
    }
    asking.write_all(b"quit\n").await?;
    drop(asking);
    let status = child.wait().await?;
    if !status.success() {
        wrong.push(format!("when told to quit it ended with {status}"));
    }
    Ok(Tested { asked: questions.len(), wrong })
}
