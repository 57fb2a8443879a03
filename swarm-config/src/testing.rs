//! A source, a watcher and a clock that tests move by hand, instances of schemas, and a conformance kit for providers of
//! secrets.

pub mod conformance;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::watch::{Events, Live, REASSURE, Settle, Signal};

mod instances;
mod source;

pub use instances::Instances;
pub use source::FakeSource;

/// Watches a configuration in virtual time: nothing happens but what a test says, and no test sleeps.
///
/// The decisions are those of [`Config::watch`]: when to read, what to refuse, whom to tell.
///
/// ```
/// use std::time::Duration;
/// use swarm_config::ConfigLoader;
/// use swarm_config::testing::ManualWatch;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, "limit = 1").unwrap();
/// let config = ConfigLoader::new().file(&path).load::<serde_json::Value>()?;
/// let mut watch = ManualWatch::new(&config);
///
/// std::fs::write(&path, "limit = 2").unwrap();
/// watch.touched(&path);
/// watch.advance(Duration::from_millis(9));
/// assert_eq!(config.get()["limit"], 1);
/// watch.advance(Duration::from_millis(1));
/// assert_eq!(config.get()["limit"], 2);
/// # Ok::<(), swarm_config::Error>(())
/// ```
pub struct ManualWatch<T> {
    live: Live<T>,
    events: Events,
    now: Duration,
}

impl<T> fmt::Debug for ManualWatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualWatch").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> ManualWatch<T> {
    /// Watches from the moment 0.
    pub fn new(config: &Config<T>) -> ManualWatch<T> {
        let live = Live::new(config, Settle::new(REASSURE, Duration::ZERO));
        ManualWatch { live, events: config.shared.audience.stream(), now: Duration::ZERO }
    }

    /// The events so far and to come.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Says that a file was made, renamed or removed.
    pub fn touched(&mut self, path: impl Into<PathBuf>) {
        self.live.settle.hear(Signal::Touched(path.into()), self.now);
    }

    /// Says that someone writes to a file, and has it open.
    pub fn written(&mut self, path: impl Into<PathBuf>) {
        self.live.settle.hear(Signal::Written(path.into()), self.now);
    }

    /// Says that who wrote to a file has closed it.
    pub fn closed(&mut self, path: impl Into<PathBuf>) {
        self.live.settle.hear(Signal::Closed(path.into()), self.now);
    }

    /// Lets time pass. What falls due on the way happens.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while self.live.settle.due() <= end {
            self.now = self.now.max(self.live.settle.due());
            if !self.live.tick(self.now) {
                break;
            }
        }
        self.now = end;
    }
}
