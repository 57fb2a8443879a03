//! Signals from the system's watcher, and the thread that acts on them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde::de::DeserializeOwned;

use super::{ConfigEvent, Live, POLL, REASSURE, Settle, Signal};
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
                if !live.tick(start.elapsed()) {
                    return;
                }
                // A link may lead elsewhere now, and a folder may have been made anew.
                if let Some(folders) = &mut folders {
                    folders.follow(loader);
                }
            }
        }
    }
}

/// The folders of all files, and of what links among them lead to.
struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
    fn watch(loader: &ConfigLoader, heard: Sender<Heard>) -> Result<Folders, String> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for signal in signals(event) {
                let _ = heard.send(Heard::Signal(signal));
            }
        })
        .map_err(|error| error.to_string())?;
        let mut folders = Folders { watcher, watched: BTreeSet::new() };
        for folder in wanted(loader) {
            folders.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|error| error.to_string())?;
            folders.watched.insert(folder);
        }
        Ok(folders)
    }

    fn follow(&mut self, loader: &ConfigLoader) {
        let wanted = wanted(loader);
        for gone in self.watched.difference(&wanted) {
            let _ = self.watcher.unwatch(gone);
        }
        // Watching again what is watched already is how a folder that was made anew is taken up.
        self.watched = wanted
            .into_iter()
            .filter(|folder| self.watcher.watch(folder, RecursiveMode::NonRecursive).is_ok())
            .collect();
    }
}

fn wanted(loader: &ConfigLoader) -> BTreeSet<PathBuf> {
    let (files, mut folders) = loader.watched();
    for file in files {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => parent.map(Path::to_owned),
        };
        folders.extend(parent(&file));
        if let Ok(real) = file.canonicalize() {
            folders.extend(parent(&real));
        }
    }
    folders.into_iter().filter(|folder| folder.is_dir()).collect()
}

/// Systems that tell when a file that was written to is closed.
const TELLS_CLOSE: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn signals(event: notify::Result<notify::Event>) -> Vec<Signal> {
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
        false => event.paths.into_iter().map(make).collect(),
    }
}
