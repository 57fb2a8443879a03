//! The workspace of an agent: release folders, and a link named `current` to the one that is live.
//!
//! ```text
//! Agent-1/releases/2.0.0-1f0c…/   whole or not there: copied under another name, then renamed
//! Agent-1/current -> releases/2.0.0-1f0c…
//! Agent-1/journal/RUN.json        what a run found here before it changed anything
//! ```

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::order::Order;
use crate::tree::{self, At};

pub(crate) struct Workspace {
    root: PathBuf,
}

/// What a run does to a workspace. Written before anything is changed, so that a run that is killed knows it too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) agent: String,
    pub(crate) release: String,
    /// What was live before.
    pub(crate) before: Option<String>,
    /// Whether the run brought the release folder, or found it.
    pub(crate) made: bool,
}

impl Workspace {
    pub(crate) fn of(state: &Path, agent: &str) -> Self {
        Workspace { root: state.join("agent_workspaces").join(agent) }
    }

    /// The release that is live.
    pub(crate) fn current(&self) -> io::Result<Option<String>> {
        match fs::read_link(self.link()) {
            Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read", &self.link()),
        }
    }

    /// Where the live release is found, whichever that is.
    pub(crate) fn link(&self) -> PathBuf {
        self.root.join("current")
    }

    /// Brings the release in. Nothing is live yet. May be called again after it was cut off anywhere.
    pub(crate) fn install(
        &self,
        run: &str,
        agent: &str,
        order: &Order,
        source: &Path,
        told: impl FnMut(u64, u64),
    ) -> io::Result<Change> {
        let release = &order.release;
        let folder = self.release(release);
        let change = match self.change(run)? {
            Some(change) => change,
            None => {
                let (before, made) = (self.current()?, !folder.exists());
                let change = Change { agent: agent.to_owned(), release: release.clone(), before, made };
                tree::write_atomically(&self.journal(run), &serde_json::to_vec_pretty(&change)?)?;
                change
            }
        };
        if !folder.exists() {
            let draft = self.release(&format!(".{release}"));
            tree::remove(&draft)?;
            tree::copy(source, &draft, told)?;
            fs::rename(&draft, &folder).at("rename", &draft)?;
            tree::sync_folder(&self.root.join("releases"))?;
        }
        if tree::digest(&folder)? != order.digest {
            return Err(io::Error::other(format!("{} is not what was validated", folder.display())));
        }
        Ok(change)
    }

    /// Makes a release live, in one step that nobody sees half done; or none, if there was none.
    pub(crate) fn switch(&self, release: Option<&str>) -> io::Result<()> {
        let link = self.link();
        match release {
            Some(release) => {
                let draft = self.root.join(".current");
                if draft.is_symlink() {
                    fs::remove_file(&draft).at("remove", &draft)?;
                }
                symlink(&Path::new("releases").join(release), &draft).at("link", &draft)?;
                fs::rename(&draft, &link).at("switch", &link)?;
            }
            None if link.is_symlink() => fs::remove_file(&link).at("remove", &link)?,
            None => {}
        }
        tree::sync_folder(&self.root)
    }

    /// Puts back what was live before the run, and takes the release away if the run brought it.
    ///
    /// `known` is absent where the deployment was cut off: the journal then tells what may have been done. Without
    /// a journal nothing was. Answers what is live afterwards.
    pub(crate) fn undo(
        &self,
        run: &str,
        known: Option<&Change>,
        between: impl FnOnce(),
    ) -> io::Result<Option<String>> {
        let Some(change) = known.cloned().map_or_else(|| self.change(run), |known| Ok(Some(known)))? else {
            return self.current();
        };
        // If a later run deployed something else, that stays.
        if self.current()?.as_ref() == Some(&change.release) {
            self.switch(change.before.as_deref())?;
        }
        between();
        let live = self.current()?;
        let folder = self.release(&change.release);
        let spare = change.made && live.as_ref() != Some(&change.release);
        if spare && folder.exists() && !self.is_way_back(run, &change.release)? {
            let draft = self.release(&format!(".{}", change.release));
            tree::remove(&draft)?;
            fs::rename(&folder, &draft).at("rename", &folder)?;
            tree::remove(&draft)?;
        }
        match fs::remove_file(self.journal(run)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("remove", &self.journal(run)),
            _ => Ok(live),
        }
    }

    /// Whether the undo of another run would make the release live again.
    fn is_way_back(&self, run: &str, release: &str) -> io::Result<bool> {
        let folder = self.root.join("journal");
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(other) = name.strip_suffix(".json").filter(|other| *other != run) else { continue };
            if self.change(other)?.is_some_and(|change| change.before.as_deref() == Some(release)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn change(&self, run: &str) -> io::Result<Option<Change>> {
        let path = self.journal(run);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read", &path),
        }
    }

    fn release(&self, release: &str) -> PathBuf {
        self.root.join("releases").join(release)
    }

    fn journal(&self, run: &str) -> PathBuf {
        self.root.join("journal").join(format!("{run}.json"))
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "this example switches releases by POSIX links"))
}
