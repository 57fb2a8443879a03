//! A child process, the group it leads, and how both end.

use std::future::Future;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use super::capture::Captured;
use crate::step_error::StepError;

/// How long the streams are read after the program has ended and its group was killed. Only a process that
/// left the group can hold them open so long.
const DRAIN: Duration = Duration::from_millis(500);

/// How a program ended.
pub(super) struct Ended {
    /// The exit code, or what ended it instead.
    pub(super) code: Result<i32, String>,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
}

/// A running program. Dropping it ends it and its group.
pub(super) struct Process {
    group: Group,
    stdin: Option<ChildStdin>,
}

impl Process {
    pub(super) fn spawn(command: &mut Command, reads: bool, grace: Duration) -> io::Result<Self> {
        command
            .stdin(if reads { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        Ok(Process { group: Group { child: Some(child), grace, asked: false }, stdin })
    }

    /// Waits for the end, and says whether the program was asked to end.
    pub(super) async fn finish(
        mut self,
        input: Option<Vec<u8>>,
        limit: usize,
        asked_to_end: impl Future<Output = ()>,
    ) -> Result<(Ended, bool), StepError> {
        let (mut stdout, mut stderr) = (Captured::new(limit), Captured::new(limit));
        let stdin = self.stdin.take();
        let streams = self.group.child.as_mut().map(|child| (child.stdout.take(), child.stderr.take()));
        let (out, err) = streams.unwrap_or_default();
        let mut asked = false;
        let status = {
            let feed = async {
                if let (Some(mut stdin), Some(input)) = (stdin, input) {
                    // A program that does not read its input is free not to.
                    let _ = stdin.write_all(&input).await;
                }
            };
            let streams = async { tokio::join!(stdout.fill(out), stderr.fill(err), feed) };
            let mut streams = std::pin::pin!(streams);
            let mut streams_ended = false;
            let status = {
                let exit = self.group.exit(asked_to_end, &mut asked);
                let mut exit = std::pin::pin!(exit);
                loop {
                    tokio::select! {
                        status = &mut exit => break status?,
                        _ = &mut streams, if !streams_ended => streams_ended = true,
                    }
                }
            };
            if !streams_ended {
                // A stream that fails or stays open has given what it had.
                let _ = timeout(DRAIN, streams).await;
            }
            status
        };
        stdout.end();
        stderr.end();
        Ok((Ended { code: code(status), stdout, stderr }, asked))
    }
}

fn code(status: ExitStatus) -> Result<i32, String> {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Err(format!("was ended by signal {signal}"));
    }
    status.code().ok_or_else(|| "ended without an exit code".to_owned())
}

/// The process group of a child. The child is not waited for before the last signal is sent, so that its number cannot
/// be another's by then.
struct Group {
    child: Option<Child>,
    grace: Duration,
    /// SIGTERM was sent.
    asked: bool,
}

impl Group {
    /// Waits for the leader; asks the group to end when told so, and kills it when it takes its time.
    async fn exit(
        &mut self,
        asked_to_end: impl Future<Output = ()>,
        asked: &mut bool,
    ) -> io::Result<ExitStatus> {
        let grace = self.grace;
        let Some(child) = &mut self.child else { return Err(io::ErrorKind::NotFound.into()) };
        let number = child.id();
        let mut asked_to_end = std::pin::pin!(asked_to_end);
        let status = tokio::select! {
            biased;
            status = child.wait() => status?,
            () = &mut asked_to_end => {
                *asked = true;
                self.asked = true;
                signal(number, Signal::Term, child);
                match timeout(grace, child.wait()).await {
                    Ok(status) => status?,
                    Err(_) => {
                        signal(number, Signal::Kill, child);
                        child.wait().await?
                    }
                }
            }
        };
        // What is left of the group. The number was freed a moment ago at most; as long as the group has a
        // member the system does not give it away.
        signal(number, Signal::Kill, child);
        self.child = None;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let number = child.id();
        let runtime = tokio::runtime::Handle::try_current().ok();
        match runtime.filter(|_| !self.asked && !self.grace.is_zero()) {
            None => signal(number, Signal::Kill, &mut child),
            Some(runtime) => {
                signal(number, Signal::Term, &mut child);
                let last = Last { child, number };
                let grace = self.grace;
                // Nobody is left to hold a handle; the task ends with the grace, and if the runtime ends first, dropping `last` kills.
                drop(runtime.spawn(async move {
                    sleep(grace).await;
                    drop(last);
                }));
            }
        }
    }
}

/// Kills the group when dropped. The runtime then reaps the child.
struct Last {
    child: Child,
    number: Option<u32>,
}

impl Drop for Last {
    fn drop(&mut self) {
        signal(self.number, Signal::Kill, &mut self.child);
    }
}

#[derive(Clone, Copy)]
enum Signal {
    Term,
    Kill,
}

/// Signals the group that `number` leads.
#[cfg(unix)]
fn signal(number: Option<u32>, signal: Signal, _: &mut Child) {
    use rustix::process::{Pid, Signal as Number, kill_process_group};
    let group = number.and_then(|number| Pid::from_raw(i32::try_from(number).ok()?));
    if let Some(group) = group {
        let number = match signal {
            Signal::Term => Number::TERM,
            Signal::Kill => Number::KILL,
        };
        // It fails where the group has ended, which is what was wanted.
        let _ = kill_process_group(group, number);
    }
}

/// Without process groups only the program itself can be ended, and not gently.
#[cfg(not(unix))]
fn signal(_: Option<u32>, _: Signal, child: &mut Child) {
    let _ = child.start_kill();
}
