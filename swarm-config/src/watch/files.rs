//! Signals from the system's watcher, and the thread that acts on them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::Bound::{Included, Unbounded};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde::de::DeserializeOwned;

use super::{Live, REASSURE, Settle, Signal, lock};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::loader::ConfigLoader;
use crate::source::Format;

/// A thread that watches. Ends, and is waited for, when this is dropped.
pub(crate) struct Watching {
    post: Arc<Post>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.post.stop();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Signals on their way to the thread that watches, which may be busy for long.
#[derive(Default)]
struct Post {
    mail: Mutex<Mail>,
    bell: Condvar,
}

#[derive(Default)]
struct Mail {
    /// The last of each path, oldest first.
    signals: Vec<Signal>,
    is_last: bool,
}

impl Post {
    /// Beyond this many, all that is known is that something happened.
    const MOST: usize = 64;

    fn put(&self, signal: Signal) {
        let mut mail = lock(&self.mail);
        mail.signals.retain(|known| known.path() != signal.path());
        if mail.signals.len() == Post::MOST {
            mail.signals = vec![Signal::Touched(PathBuf::new())];
        }
        mail.signals.push(signal);
        self.bell.notify_one();
    }

    fn stop(&self) {
        lock(&self.mail).is_last = true;
        self.bell.notify_one();
    }

    /// Waits for signals. `None` once it is time to end.
    fn take(&self, wait: Duration) -> Option<Vec<Signal>> {
        let mail = lock(&self.mail);
        let (mut mail, _) = self
            .bell
            .wait_timeout_while(mail, wait, |mail| mail.signals.is_empty() && !mail.is_last)
            .unwrap_or_else(PoisonError::into_inner);
        (!mail.is_last).then(|| std::mem::take(&mut mail.signals))
    }
}

impl Watching {
    pub(crate) fn start<T: DeserializeOwned + Send + Sync + 'static>(config: &Config<T>) -> Result<Watching> {
        let post = Arc::new(Post::default());
        let folders = Folders::watch(&config.shared.loader, post.clone());
        let loader = config.shared.loader.clone();
        let start = Instant::now();
        let mut settle = Settle::new(REASSURE, Duration::ZERO);
        // The files may have changed between the load and the watch.
        settle.hear(Signal::Touched(PathBuf::new()), Duration::ZERO);
        let live = Live::new(config, settle);
        let heard = post.clone();
        let thread = std::thread::Builder::new()
            .name("swarm-config".into())
            .spawn(move || run(live, &heard, folders, &loader, start))
            .map_err(|error| {
                Error::new(ErrorKind::Io, "could not start the thread that watches")
                    .because(error)
                    .retryable()
            })?;
        Ok(Watching { post, thread: Some(thread) })
    }
}

fn run<T: DeserializeOwned + Send + Sync + 'static>(
    mut live: Live<T>,
    heard: &Post,
    folders: Result<Folders, String>,
    loader: &ConfigLoader,
    start: Instant,
) {
    // Told here and not by who called `watch`, who holds a lock that a subscriber may want.
    let mut folders = folders.map_err(|reason| live.poll(reason)).ok();
    loop {
        let wait = live.settle.due().saturating_sub(start.elapsed());
        let Some(signals) = heard.take(wait) else { return };
        for signal in signals {
            live.settle.hear(signal, start.elapsed());
        }
        if start.elapsed() < live.settle.due() {
            continue;
        }
        // A link may lead elsewhere now, and a folder may have been made anew. Before the files are read, so that
        // whatever is written after they were is heard.
        if let Some(reason) = folders.as_mut().and_then(|folders| folders.follow(loader).err()) {
            folders = None;
            live.poll(reason);
        }
        if !live.tick(start.elapsed()) {
            return;
        }
    }
}

/// The folders of all files and of the links on the way to them, and the folder above each.
struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    ours: Arc<Mutex<Ours>>,
}

impl Folders {
    fn watch(loader: &ConfigLoader, heard: Arc<Post>) -> Result<Folders, String> {
        let ours = Arc::new(Mutex::new(Ours::default()));
        let known = ours.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for signal in signals(event, &lock(&known)) {
                heard.put(signal);
            }
        })
        .map_err(|error| error.to_string())?;
        let mut folders = Folders { watcher, watched: BTreeSet::new(), ours };
        folders.follow(loader)?;
        Ok(folders)
    }

    /// Watches what is to be watched by now. Fails if the system refuses to watch a folder of ours.
    fn follow(&mut self, loader: &ConfigLoader) -> Result<(), String> {
        let ours = Ours::of(loader);
        lock(&self.ours).clone_from(&ours);
        let wanted: BTreeSet<&Path> = ours.wanted();
        // A folder that is removed and made anew is heard of by the one above it.
        let above =
            wanted.iter().filter_map(|folder| folder.ancestors().skip(1).find(|above| above.is_dir()));
        let links = ours.links.iter().filter_map(|link| link.parent());
        let all: BTreeSet<PathBuf> =
            wanted.iter().copied().chain(above).chain(links).map(Path::to_owned).collect();
        for gone in self.watched.difference(&all) {
            let _ = self.watcher.unwatch(gone);
        }
        self.watched.clear();
        for folder in all {
            // Watching again what is watched already is how a folder that was made anew is taken up.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder)),
                Err(error) if wanted.contains(&*folder) && folder.is_dir() => return Err(error.to_string()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// What is of interest, by paths without links in the way to them: the system names what it watches as it was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ours {
    files: BTreeSet<PathBuf>,
    links: BTreeSet<PathBuf>,
    /// Folders in which files of ours may appear.
    folders: BTreeSet<PathBuf>,
}

impl Ours {
    fn of(loader: &ConfigLoader) -> Ours {
        let (files, folders) = loader.watched();
        let mut links = BTreeSet::new();
        let files = files.iter().filter_map(|path| resolved(path, &mut links)).collect();
        let folders = folders.iter().filter_map(|path| resolved(path, &mut links)).collect();
        Ours { files, links, folders }
    }

    /// The folders that must be watched, whether they are there or not.
    fn wanted(&self) -> BTreeSet<&Path> {
        self.files
            .iter()
            .filter_map(|file| file.parent())
            .chain(self.folders.iter().map(|path| &**path))
            .collect()
    }

    /// Whether it matters what became of a path: it is one of them, above one, or where one may appear.
    fn has(&self, path: &Path) -> bool {
        let is_above = |paths: &BTreeSet<PathBuf>| {
            // What is below a path follows it in the order of paths.
            paths
                .range::<Path, _>((Included(path), Unbounded))
                .next()
                .is_some_and(|next| next.starts_with(path))
        };
        is_above(&self.files)
            || is_above(&self.links)
            || is_above(&self.folders)
            || path.parent().is_some_and(|folder| self.folders.contains(folder))
    }

    /// Whether it matters what is written to a file.
    fn reads(&self, path: &Path) -> bool {
        self.files.contains(path)
            || Format::of_path(path).is_some()
                && path.parent().is_some_and(|folder| self.folders.contains(folder))
    }
}

/// Where a path leads, whether something is there or not, and the links on the way.
fn resolved(path: &Path, links: &mut BTreeSet<PathBuf>) -> Option<PathBuf> {
    /// As many as Linux follows.
    const MOST: usize = 40;
    let parts = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut left = parts(&std::path::absolute(path).ok()?);
    let (mut at, mut followed) = (PathBuf::new(), 0);
    while let Some(part) = left.pop() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::CurDir) | None => {}
            Some(Component::Prefix(_) | Component::RootDir) => at.push(part),
            Some(Component::Normal(_)) => {
                at.push(part);
                if followed < MOST
                    && let Ok(target) = at.read_link()
                {
                    followed += 1;
                    links.insert(at.clone());
                    at.pop();
                    left.extend(parts(&target));
                }
            }
        }
    }
    Some(at)
}

/// Systems that tell when a file that was written to is closed.
const TELLS_CLOSE: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn signals(event: notify::Result<notify::Event>, ours: &Ours) -> Vec<Signal> {
    let Ok(event) = event else {
        // An error means that something was missed.
        return vec![Signal::Touched(PathBuf::new())];
    };
    type Make = fn(PathBuf) -> Signal;
    type Matters = fn(&Ours, &Path) -> bool;
    let (make, matters): (Make, Matters) = match event.kind {
        // Our own reading is heard as well; it must not lead to more of it.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Signal::Closed, Ours::reads),
        EventKind::Access(_) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) if TELLS_CLOSE => (Signal::Written, Ours::reads),
        _ => (Signal::Touched, Ours::has),
    };
    match event.paths.is_empty() {
        true => vec![make(PathBuf::new())],
        false => event.paths.into_iter().filter(|path| matters(ours, path)).map(make).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_nobody_takes_do_not_pile_up() {
        let post = Post::default();
        for at in 0..10_000 {
            post.put(Signal::Written(format!("{at}").into()));
            post.put(Signal::Written("a".into()));
        }
        let signals = post.take(Duration::ZERO).unwrap();
        assert!(signals.len() <= Post::MOST && signals.contains(&Signal::Touched(PathBuf::new())));
        post.put(Signal::Written("a".into()));
        post.put(Signal::Closed("a".into()));
        assert_eq!(post.take(Duration::ZERO).unwrap(), [Signal::Closed("a".into())]);
    }

    #[test]
    fn an_error_of_the_system_means_that_anything_may_have_happened() {
        let error = Err(notify::Error::generic("the queue ran over"));
        assert_eq!(signals(error, &Ours::default()), [Signal::Touched(PathBuf::new())]);
        // What was missed has no paths.
        let event = notify::Event::new(EventKind::Other);
        assert_eq!(signals(Ok(event), &Ours::default()), [Signal::Touched(PathBuf::new())]);
    }

    #[test]
    fn the_thread_has_ended_once_nobody_watches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        std::fs::write(&path, "a = 1").unwrap();
        for _ in 0..20 {
            let config = ConfigLoader::new().file(&path).load::<serde_json::Value>().unwrap();
            drop(Watching::start(&config).unwrap());
            // The thread has one for as long as it runs.
            assert_eq!(Arc::weak_count(&config.shared), 0);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_stands_beside_our_files_is_not_ours() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["etc", "opt", "opt/v1", "layers"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("opt/v1/a.toml"), "").unwrap();
        symlink("v1", root.join("opt/current")).unwrap();
        symlink("../opt/current/a.toml", root.join("etc/a.toml")).unwrap();
        let loader =
            ConfigLoader::new().file(root.join("etc/a.toml")).hierarchy((root.join("layers"), "prod"));
        let ours = Ours::of(&loader);
        let written = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
        let made = EventKind::Create(notify::event::CreateKind::Any);
        for (path, by_writing, by_making) in [
            ("etc/a.toml", false, true),
            ("etc/app.log", false, false),
            ("opt/current", false, true),
            ("opt/v1/a.toml", true, true),
            ("opt/v1/app.log", false, false),
            ("opt", false, true),
            ("layers/prod.toml", true, true),
            ("layers/app.log", false, true),
            ("elsewhere", false, false),
        ] {
            let heard = |kind| {
                let event = notify::Event::new(kind).add_path(root.join(path));
                !signals(Ok(event), &ours).is_empty()
            };
            assert_eq!((heard(written), heard(made)), (by_writing, by_making), "{path}");
        }
    }
}
