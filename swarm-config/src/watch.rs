//! Live configuration: what notices that files changed, and who hears of it.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use serde::de::DeserializeOwned;

use crate::config::{Config, Shared};
use crate::diff::Change;
use crate::error::Error;
use crate::loader::Prints;

mod files;

pub(crate) use files::Watching;

/// What happened to a watched configuration.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConfigEvent {
    /// A new configuration is in place. Sent after the swap.
    Changed {
        /// What differs, never empty.
        changes: Arc<[Change]>,
    },
    /// The files are not acceptable, and the last good configuration stays. Sent once for the same content.
    Rejected {
        /// Why.
        error: Arc<Error>,
    },
    /// The system does not watch, so files are looked at twice a second from now on.
    Polling {
        /// What the system said.
        reason: String,
    },
    /// The stream was read too slowly, and its oldest events are gone.
    Missed {
        /// How many.
        events: usize,
    },
}

/// The events of a configuration from the moment that [`Config::watch`] was called.
///
/// At most 64 are kept for a reader that is slow. Ends when the last [`Config`] is dropped.
pub struct Changes(Arc<Mutex<Queue>>);

const KEPT: usize = 64;

#[derive(Default)]
struct Queue {
    events: VecDeque<ConfigEvent>,
    missed: usize,
    waker: Option<Waker>,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for Changes {
    type Item = ConfigEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConfigEvent>> {
        let mut queue = lock(&self.0);
        if queue.missed > 0 {
            let events = std::mem::take(&mut queue.missed);
            return Poll::Ready(Some(ConfigEvent::Missed { events }));
        }
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}

type Callback = Arc<dyn Fn(&ConfigEvent) + Send + Sync>;

/// Those who hear of changes.
#[derive(Default)]
pub(crate) struct Audience {
    streams: Mutex<Vec<Weak<Mutex<Queue>>>>,
    callbacks: Mutex<Vec<Callback>>,
}

impl Audience {
    pub(crate) fn stream(&self) -> Changes {
        let queue = Arc::new(Mutex::new(Queue::default()));
        lock(&self.streams).push(Arc::downgrade(&queue));
        Changes(queue)
    }

    pub(crate) fn callback(&self, callback: Callback) {
        lock(&self.callbacks).push(callback);
    }

    pub(crate) fn tell(&self, event: &ConfigEvent) {
        lock(&self.streams).retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut queue = lock(&queue);
            if queue.events.len() == KEPT {
                queue.events.pop_front();
                queue.missed += 1;
            }
            queue.events.push_back(event.clone());
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
            true
        });
        // Called without the lock, so that a callback may add another.
        let callbacks = lock(&self.callbacks).clone();
        for callback in callbacks {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(event))).is_err() {
                tracing::error!("a subscriber to configuration changes panicked");
            }
        }
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        for queue in lock(&self.streams).iter().filter_map(Weak::upgrade) {
            let mut queue = lock(&queue);
            queue.closed = true;
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
        }
    }
}

/// What a watcher says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It, or what is in its folder, changed.
    Touched(PathBuf),
    /// Someone is writing to it, and has not closed it.
    Written(PathBuf),
    /// Who wrote to it has closed it.
    Closed(PathBuf),
}

impl Signal {
    fn path(&self) -> &Path {
        let (Signal::Touched(path) | Signal::Written(path) | Signal::Closed(path)) = self;
        path
    }
}

/// How long nothing must happen before files are read.
pub(crate) const SETTLE: Duration = Duration::from_millis(10);
/// How long files may stay open for writing, or be written to again and again, before they are read all the same.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often files are looked at where nothing is heard, since a watch can be lost without a word.
pub(crate) const REASSURE: Duration = Duration::from_secs(5);
/// How often files are looked at where the system does not watch.
pub(crate) const POLL: Duration = Duration::from_millis(500);

/// Decides when files are read. Knows no clock: moments are given to it, counted from any start.
#[derive(Debug)]
pub(crate) struct Settle {
    every: Duration,
    looked: Duration,
    /// When something was first and last heard since somebody looked.
    heard: Option<(Duration, Duration)>,
    writing: HashSet<PathBuf>,
}

impl Settle {
    pub(crate) fn new(every: Duration, now: Duration) -> Settle {
        Settle { every, looked: now, heard: None, writing: HashSet::new() }
    }

    pub(crate) fn hear(&mut self, signal: Signal, now: Duration) {
        self.heard = Some((self.heard.map_or(now, |(first, _)| first), now));
        match signal {
            Signal::Touched(path) | Signal::Closed(path) => {
                self.writing.remove(&path);
            }
            Signal::Written(path) => {
                self.writing.insert(path);
            }
        }
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Duration {
        match self.heard {
            None => self.looked + self.every,
            Some((first, last)) if self.writing.is_empty() => (last + SETTLE).min(first + PATIENCE),
            Some((first, _)) => first + PATIENCE,
        }
    }

    pub(crate) fn look(&mut self, now: Duration) {
        self.looked = now;
        self.heard = None;
        self.writing.clear();
    }
}

/// A watched configuration without its thread and its clock.
pub(crate) struct Live<T> {
    shared: Weak<Shared<T>>,
    pub(crate) settle: Settle,
    /// The content that was last loaded or refused.
    seen: Option<Prints>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Live<T> {
    pub(crate) fn new(config: &Config<T>, settle: Settle) -> Live<T> {
        // What was loaded may differ from what the files hold by now, so the first look always reads.
        Live { shared: Arc::downgrade(&config.shared), settle, seen: None }
    }

    /// Looks at the files more often from now on, and says so.
    pub(crate) fn poll(&mut self, reason: String) {
        self.settle.every = POLL;
        if let Some(shared) = self.shared.upgrade() {
            tracing::warn!(%reason, "configuration files are polled");
            shared.audience.tell(&ConfigEvent::Polling { reason });
        }
    }

    /// Looks if it is time to. Answers with `false` once the configuration is gone.
    pub(crate) fn tick(&mut self, now: Duration) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        if now < self.settle.due() {
            return true;
        }
        self.settle.look(now);
        let before = shared.loader.prints();
        if self.seen.as_ref() == Some(&before) {
            return true;
        }
        let reloaded = shared.reload(|read, is_loaded| {
            // A load that failed has not read all of them.
            let is_same = if is_loaded { *read == before } else { read.is_subset(&before) };
            is_same && shared.loader.prints() == before
        });
        match reloaded {
            // Someone wrote while we read: what was read may be half of it.
            Ok(None) => self.settle.hear(Signal::Touched(PathBuf::new()), now),
            Ok(Some(_)) => self.seen = Some(before),
            Err(error) => {
                self.seen = Some(before);
                tracing::warn!(error = %error, "the configuration was not reloaded");
                shared.audience.tell(&ConfigEvent::Rejected { error: Arc::new(error) });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn files_are_read_once_a_burst_is_over() {
        let mut settle = Settle::new(REASSURE, ms(0));
        assert_eq!(settle.due(), REASSURE);
        for at in [100, 105, 109] {
            settle.hear(Signal::Touched("a".into()), ms(at));
            assert_eq!(settle.due(), ms(at) + SETTLE);
        }
        settle.look(ms(119));
        assert_eq!(settle.due(), ms(119) + REASSURE);
    }

    #[test]
    fn a_file_that_is_open_for_writing_is_waited_for() {
        let mut settle = Settle::new(REASSURE, ms(0));
        settle.hear(Signal::Written("a".into()), ms(100));
        assert_eq!(settle.due(), ms(100) + PATIENCE);
        settle.hear(Signal::Closed("a".into()), ms(400));
        assert_eq!(settle.due(), ms(400) + SETTLE);
        settle.hear(Signal::Written("a".into()), ms(405));
        settle.hear(Signal::Touched("b".into()), ms(406));
        assert_eq!(settle.due(), ms(100) + PATIENCE);
    }

    #[test]
    fn what_never_rests_is_looked_at_all_the_same() {
        for signal in [Signal::Touched("a".into()), Signal::Written("a".into())] {
            let mut settle = Settle::new(REASSURE, ms(0));
            for at in (100..5000).step_by(5) {
                settle.hear(signal.clone(), ms(at));
                assert!(settle.due() <= ms(100) + PATIENCE, "{signal:?}");
            }
        }
    }
}
