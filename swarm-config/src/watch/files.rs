//! Signals from the system's watcher, and the thread that acts on them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde::de::DeserializeOwned;

use super::{ConfigEvent, Live, POLL, REASSURE, Settle, Signal, lock};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::loader::ConfigLoader;

/// A thread that watches. Ends, and is waited for, when this is dropped.
pub(crate) struct Watching {
    stop: Sender<Heard>,
    thread: Option<JoinHandle<()>>,
}

enum Heard {
    Signal(Signal),
    Stop,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.stop.send(Heard::Stop);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Watching {
    pub(crate) fn start<T: DeserializeOwned + Send + Sync + 'static>(config: &Config<T>) -> Result<Watching> {
        let (stop, heard) = channel();
        let (watcher, every) = match Folders::watch(&config.shared.loader, stop.clone()) {
            Ok(watcher) => (Some(watcher), REASSURE),
            Err(reason) => {
                tracing::warn!(%reason, "configuration files are polled");
                config.shared.audience.tell(&ConfigEvent::Polling { reason });
                (None, POLL)
            }
        };
        let loader = config.shared.loader.clone();
        let start = Instant::now();
        let mut settle = Settle::new(every, Duration::ZERO);
        // The files may have changed between the load and the watch.
        settle.hear(Signal::Touched(PathBuf::new()), Duration::ZERO);
        let live = Live::new(config, settle);
        let thread = std::thread::Builder::new()
            .name("swarm-config".into())
            .spawn(move || run(live, heard, watcher, &loader, start))
            .map_err(|error| {
                Error::new(ErrorKind::Io, "could not start the thread that watches").because(error)
            })?;
        Ok(Watching { stop, thread: Some(thread) })
    }
}

fn run<T: DeserializeOwned + Send + Sync + 'static>(
    mut live: Live<T>,
    heard: Receiver<Heard>,
    mut folders: Option<Folders>,
    loader: &ConfigLoader,
    start: Instant,
) {
    loop {
        let wait = live.settle.due().saturating_sub(start.elapsed());
        match heard.recv_timeout(wait) {
            Ok(Heard::Signal(signal)) => live.settle.hear(signal, start.elapsed()),
            Ok(Heard::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // A link may lead elsewhere now, and a folder may have been made anew. Before the files are read, so
                // that whatever is written after they were is heard.
                if let Some(reason) = folders.as_mut().and_then(|folders| folders.follow(loader).err()) {
                    folders = None;
                    live.poll(reason);
                }
                if !live.tick(start.elapsed()) {
                    return;
                }
            }
        }
    }
}

/// The folders of all files and of what links among them lead to, and the folder above each.
struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    wanted: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Folders {
    fn watch(loader: &ConfigLoader, heard: Sender<Heard>) -> Result<Folders, String> {
        let wanted = Arc::new(Mutex::new(BTreeSet::new()));
        let ours = wanted.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let wanted = lock(&ours);
            for signal in signals(event, &wanted) {
                let _ = heard.send(Heard::Signal(signal));
            }
        })
        .map_err(|error| error.to_string())?;
        let mut folders = Folders { watcher, watched: BTreeSet::new(), wanted };
        folders.follow(loader)?;
        Ok(folders)
    }

    /// Watches what is to be watched by now. Fails if the system refuses to watch a folder of ours.
    fn follow(&mut self, loader: &ConfigLoader) -> Result<(), String> {
        let wanted = wanted(loader);
        lock(&self.wanted).clone_from(&wanted);
        // A folder that is removed and made anew is heard of by the one above it.
        let above =
            wanted.iter().filter_map(|folder| folder.ancestors().skip(1).find(|above| above.is_dir()));
        let all: BTreeSet<PathBuf> =
            wanted.iter().map(|folder| &**folder).chain(above).map(Path::to_owned).collect();
        for gone in self.watched.difference(&all) {
            let _ = self.watcher.unwatch(gone);
        }
        self.watched.clear();
        for folder in all {
            // Watching again what is watched already is how a folder that was made anew is taken up.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder)),
                Err(error) if wanted.contains(&folder) && folder.is_dir() => return Err(error.to_string()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The folders whose every change is of interest, whether they are there or not.
fn wanted(loader: &ConfigLoader) -> BTreeSet<PathBuf> {
    let (files, mut folders) = loader.watched();
    for file in files {
        folders.extend(std::path::absolute(&file).ok().and_then(|file| file.parent().map(Path::to_owned)));
        folders.extend(file.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned)));
    }
    folders.into_iter().filter_map(|folder| std::path::absolute(folder).ok()).collect()
}

/// Whether something that happened to a path can matter: it is in one of the folders, or above one.
fn matters(path: &Path, wanted: &BTreeSet<PathBuf>) -> bool {
    path.parent().is_some_and(|folder| wanted.contains(folder))
        || wanted.iter().any(|folder| folder.starts_with(path))
}

/// Systems that tell when a file that was written to is closed.
const TELLS_CLOSE: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn signals(event: notify::Result<notify::Event>, wanted: &BTreeSet<PathBuf>) -> Vec<Signal> {
    let Ok(event) = event else {
        // An error means that something was missed.
        return vec![Signal::Touched(PathBuf::new())];
    };
    let make: fn(PathBuf) -> Signal = match event.kind {
        // Our own reading is heard as well; it must not lead to more of it.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Signal::Closed,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) if TELLS_CLOSE => Signal::Written,
        _ => Signal::Touched,
    };
    match event.paths.is_empty() {
        true => vec![make(PathBuf::new())],
        false => event.paths.into_iter().filter(|path| matters(path, wanted)).map(make).collect(),
    }
}
