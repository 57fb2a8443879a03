//! One run of a program: started in a group of its own, and killed with all of it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Limits;
#[cfg(unix)]
use super::guard::Guard;
use crate::brake::Brake;

/// How a program is started.
#[derive(Clone)]
pub(super) struct Program {
    /// For people.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) folder: PathBuf,
    pub(super) env: BTreeMap<String, String>,
    pub(super) limits: Limits,
    /// How long it may take until it speaks MCP.
    pub(super) patience: Duration,
    #[cfg(unix)]
    pub(super) guard: Arc<Guard>,
}

/// A program that runs, or ran. Its group is killed when this is dropped.
pub(super) struct Running {
    child: Child,
    #[cfg(unix)]
    guard: Arc<Guard>,
    /// Reads what the program says to people.
    told: JoinHandle<()>,
    /// Cancelled a moment after the program ended, whoever else still holds its streams.
    ended: CancellationToken,
    #[cfg(unix)]
    watch: Option<JoinHandle<()>>,
}

impl Program {
    pub(super) async fn start(&self) -> io::Result<(Running, ChildStdout, ChildStdin)> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&self.folder).env_clear();
        for name in ["PATH", "LANG", "SystemRoot"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", &self.folder).env("TMPDIR", &self.folder).envs(&self.env);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child = spawn(&mut command).await?;
        let pipes = (child.stdout.take(), child.stdin.take(), child.stderr.take());
        let (Some(stdout), Some(stdin), Some(stderr)) = pipes else {
            return Err(io::Error::other("the program has no pipes"));
        };
        let told = tokio::spawn(tell(self.name.clone(), stderr));
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only its streams tell that it ended"))]
        let mut running = Running {
            child,
            #[cfg(unix)]
            guard: self.guard.clone(),
            told,
            ended: CancellationToken::new(),
            #[cfg(unix)]
            watch: None,
        };
        running.guarded();
        #[cfg(unix)]
        running.watch();
        running.limit(&self.limits)?;
        Ok((running, stdout, stdin))
    }
}

/// A file that was written a moment ago may be held open by a child that another thread is just starting, and counts as busy
/// until that child is itself.
async fn spawn(command: &mut Command) -> io::Result<Child> {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            outcome => return outcome,
        }
    }
    command.spawn()
}

/// Passes lines on to the log, each up to 4 KiB, and as many as a log can bear.
async fn tell(name: String, mut from: impl AsyncRead + Unpin) {
    const AT_ONCE: u32 = 200;
    const EVERY: Duration = Duration::from_millis(20);
    let mut log = Log { name, brake: Brake::new(AT_ONCE, EVERY), left_out: 0 };
    let mut chunk = vec![0; 4096];
    let mut held = 0;
    while let Ok(read) = from.read(&mut chunk[held..]).await {
        let end = held + read;
        let mut begin = 0;
        while let Some(length) = chunk[begin..end].iter().position(|&byte| byte == b'\n') {
            log.line(&chunk[begin..begin + length]);
            begin += length + 1;
        }
        let is_full = begin == 0 && end == chunk.len();
        if is_full || read == 0 {
            log.line(&chunk[begin..end]);
            begin = end;
        }
        if read == 0 {
            return;
        }
        chunk.copy_within(begin..end, 0);
        held = end - begin;
    }
}

struct Log {
    name: String,
    brake: Brake,
    left_out: u64,
}

impl Log {
    fn line(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.brake.pass().is_err() {
            self.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            tracing::warn!(target: "swarm_plugin::process", program = self.name, left_out, "too many lines");
        }
        let text = String::from_utf8_lossy(bytes);
        tracing::info!(target: "swarm_plugin::process", program = self.name, "{}", text.trim_end().escape_debug());
    }
}

#[cfg(unix)]
impl Running {
    /// The group, as long as the program was not waited for: until then nobody else gets its number.
    fn group(&self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }

    fn guarded(&self) {
        if let Some(group) = self.group() {
            self.guard.add(group);
        }
    }

    fn unguarded(&self) {
        if let Some(group) = self.group() {
            self.guard.remove(group);
        }
    }

    /// Its streams tell nothing as long as another process that it started holds them.
    fn watch(&mut self) {
        /// For what it wrote last to be read.
        const LAST_WORDS: Duration = Duration::from_millis(200);
        let Some(pid) = self.group() else { return };
        let ended = self.ended.clone();
        self.watch = Some(tokio::spawn(async move {
            end_of(pid).await;
            tokio::time::sleep(LAST_WORDS).await;
            ended.cancel();
        }));
    }

    #[cfg(target_os = "linux")]
    fn limit(&self, limits: &Limits) -> io::Result<()> {
        use rustix::process::{Resource, Rlimit, prlimit};
        let limits = [
            (Resource::Core, Some(0)),
            (Resource::Fsize, Some(limits.file)),
            (Resource::Nofile, Some(limits.descriptors)),
            (Resource::As, limits.memory),
            (Resource::Nproc, limits.processes),
        ];
        for (resource, limit) in limits {
            if limit.is_some() {
                match prlimit(self.group(), resource, Rlimit { current: limit, maximum: limit }) {
                    // It ended already, which whoever talks to it will see; or the limit is lower already.
                    Ok(_) | Err(rustix::io::Errno::SRCH | rustix::io::Errno::PERM) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn limit(&self, _limits: &Limits) -> io::Result<()> {
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.group().is_none_or(has_ended)
    }

    fn kill_group(&self) {
        if let Some(group) = self.group() {
            // Fails where nobody is left.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Looks, and does not wait for it: until somebody does, nobody else gets its number.
#[cfg(unix)]
fn has_ended(pid: rustix::process::Pid) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
}

#[cfg(unix)]
async fn end_of(pid: rustix::process::Pid) {
    const EVERY: Duration = Duration::from_millis(100);
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{PidfdFlags, pidfd_open};
        use tokio::io::Interest;
        use tokio::io::unix::AsyncFd;
        if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) {
            #[expect(deprecated, reason = "sound for what owns its descriptor; what replaces it is unsafe")]
            let handle = AsyncFd::with_interest(handle, Interest::READABLE);
            if let Ok(handle) = handle
                && handle.readable().await.is_ok()
            {
                return;
            }
        }
    }
    // Another system, or an old one.
    while !has_ended(pid) {
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(not(unix))]
impl Running {
    fn guarded(&self) {}

    fn unguarded(&self) {}

    fn limit(&self, _limits: &Limits) -> io::Result<()> {
        Ok(())
    }

    fn has_ended(&self) -> bool {
        false
    }

    /// The program itself is killed when it is dropped.
    fn kill_group(&self) {}
}

impl Running {
    /// Cancelled once the program ended, and what it wrote last can be read.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Gives the program, whose standard input is closed by now, a moment to end, and kills what is left.
    pub(super) async fn end(mut self, patience: Duration) {
        const EVERY: Duration = Duration::from_millis(5);
        let patient = async {
            while !self.has_ended() {
                tokio::time::sleep(EVERY).await;
            }
        };
        let _ = tokio::time::timeout(patience, patient).await;
        self.kill_group();
        self.unguarded();
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
        self.unguarded();
        self.told.abort();
        #[cfg(unix)]
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_without_end_are_left_out_and_counted() {
        const EVERY: Duration = Duration::from_secs(1);
        let mut log = Log { name: "tool".into(), brake: Brake::new(2, EVERY), left_out: 0 };
        (0..10).for_each(|_| log.line(b"a line"));
        assert_eq!(log.left_out, 8);
        tokio::time::advance(EVERY).await;
        log.line(b"a line");
        assert_eq!(log.left_out, 0, "it was told");
    }
}
