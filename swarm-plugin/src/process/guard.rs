//! What ends programs when this process ends without a word, killed or crashed.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::Pid;

/// Reads which groups run, and kills those that are left when nobody can write to it any more, which is when this process is
/// gone. A signal at the parent's death would come when a mere thread of it ends, and not to what programs start themselves.
const SCRIPT: &str = r#"
groups=' '
while read -r verb group; do
  case $verb in
    +) groups="$groups$group " ;;
    -) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// One shell for all programs of a loader, there from the first of them on.
#[derive(Debug, Default)]
pub(super) struct Guard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    shell: Option<Shell>,
    groups: BTreeSet<i32>,
    has_warned: bool,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    /// `None` once it is to end.
    input: Option<ChildStdin>,
}

impl Guard {
    pub(super) fn add(&self, group: Pid) {
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups.insert(group.as_raw_pid());
        if let Err(error) = state.tell('+', group)
            && !std::mem::replace(&mut state.has_warned, true)
        {
            tracing::warn!(%error, "no shell can be run: programs may outlive this process if it is killed");
        }
    }

    /// Before the program is waited for, since its number may go to another then.
    pub(super) fn remove(&self, group: Pid) {
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.groups.remove(&group.as_raw_pid()) {
            // One that cannot be told is not there to kill anything.
            let _ = state.tell('-', group);
        }
    }
}

impl State {
    fn tell(&mut self, verb: char, group: Pid) -> io::Result<()> {
        let told = self.shell.as_mut().map(|shell| shell.write(&format!("{verb} {}\n", group.as_raw_pid())));
        if let Some(Ok(())) = told {
            return Ok(());
        }
        self.shell = None;
        if self.groups.is_empty() {
            return Ok(());
        }
        let mut shell = Shell::start()?;
        let all: String = self.groups.iter().map(|group| format!("+ {group}\n")).collect();
        shell.write(&all)?;
        self.shell = Some(shell);
        Ok(())
    }
}

impl Shell {
    fn start() -> io::Result<Shell> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "swarm-plugin-guard"]).env_clear().current_dir("/");
        // In a group of its own, so that what is typed at a terminal ends this process and not the guard.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        Ok(Shell { child, input })
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        match &mut self.input {
            Some(input) => input.write_all(text.as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Killed before its input ends: its groups are looked after by those that still run them.
        let _ = self.child.kill();
        self.input = None;
        let _ = self.child.wait();
    }
}
