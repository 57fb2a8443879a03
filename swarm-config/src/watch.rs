//! Live configuration: what notices that files changed, and who hears of it.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use serde::de::DeserializeOwned;

use crate::config::{Config, Shared, Snapshot};
use crate::diff::Change;
use crate::error::{Error, ErrorKind};
use crate::loader::{Loaded, Prints};
use crate::report::Report;

mod files;

pub(crate) use files::Watching;

/// What happened to a watched configuration.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConfigEvent {
    /// A new configuration is in place. Sent after the swap.
    #[non_exhaustive]
    Changed {
        /// What differs, never empty.
        changes: Arc<[Change]>,
        /// What was noticed while loading and is no error.
        warnings: Arc<Report>,
    },
    /// The files are not acceptable, or are written to without end, and the last good configuration stays. Sent once for
    /// the same content.
    #[non_exhaustive]
    Rejected {
        /// Why.
        error: Error,
    },
    /// The system does not watch, so files are looked at twice a second from now on.
    #[non_exhaustive]
    Polling {
        /// What the system said.
        reason: String,
    },
    /// The stream was read too slowly, and its oldest events are gone.
    #[non_exhaustive]
    Missed {
        /// How many.
        events: usize,
    },
}

/// The events of a configuration from the moment that [`Config::watch`] was called.
///
/// At most 64 are kept for a reader that is slow. Ends when the last [`Config`] is dropped.
pub struct Events(Arc<Mutex<Queue>>);

const KEPT: usize = 64;

#[derive(Default)]
struct Queue {
    events: VecDeque<ConfigEvent>,
    missed: usize,
    waker: Option<Waker>,
    closed: bool,
}

impl Queue {
    fn push(&mut self, event: ConfigEvent) {
        if self.events.len() == KEPT {
            self.events.pop_front();
            self.missed += 1;
        }
        self.events.push_back(event);
    }

    /// The next event; first of all, how many are gone.
    fn pop(&mut self) -> Option<ConfigEvent> {
        match std::mem::take(&mut self.missed) {
            0 => self.events.pop_front(),
            events => Some(ConfigEvent::Missed { events }),
        }
    }
}

/// Wakes who waits. Called without a lock, for a waker may do anything: poll the stream at once, or panic.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!("a waker of a stream of configuration changes panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for Events {
    type Item = ConfigEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConfigEvent>> {
        let mut queue = lock(&self.0);
        match queue.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// Keeps a callback of [`Config::on_change`], which is called no more once this is dropped, and is dropped with it.
#[must_use = "the callback is called no more once this is dropped"]
pub struct Subscription(#[expect(dead_code, reason = "held, not read")] Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

type Callback<T> = dyn Fn(&ConfigEvent, &Snapshot<T>) + Send + Sync;

/// Those who hear of changes.
pub(crate) struct Audience<T> {
    streams: Mutex<Vec<Weak<Mutex<Queue>>>>,
    callbacks: Mutex<Vec<Weak<Callback<T>>>>,
    outbox: Mutex<Outbox>,
}

impl<T> Default for Audience<T> {
    fn default() -> Self {
        Audience { streams: Mutex::default(), callbacks: Mutex::default(), outbox: Mutex::default() }
    }
}

/// Events on their way to callbacks.
#[derive(Default)]
struct Outbox {
    queue: Queue,
    /// Whether a thread is calling them. It calls them with what others post meanwhile too, so that nobody waits and each
    /// callback hears one event after the other.
    is_busy: bool,
    wakers: Vec<Waker>,
}

impl<T: 'static> Audience<T> {
    pub(crate) fn callback(
        &self,
        callback: impl Fn(&ConfigEvent, &Snapshot<T>) + Send + Sync + 'static,
    ) -> Subscription {
        let callback = Arc::new(callback);
        let known: Weak<Callback<T>> = Arc::downgrade(&callback) as _;
        let mut all = lock(&self.callbacks);
        all.retain(|callback| callback.strong_count() > 0);
        all.push(known);
        Subscription(callback)
    }
}

impl<T> Audience<T> {
    pub(crate) fn stream(&self) -> Events {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let mut all = lock(&self.streams);
        all.retain(|queue| queue.strong_count() > 0);
        all.push(Arc::downgrade(&queue));
        drop(all);
        Events(queue)
    }

    /// Puts an event in its place in the order. Calls nothing of anybody's, so that a lock may be held.
    pub(crate) fn post(&self, event: ConfigEvent) {
        let mut outbox = lock(&self.outbox);
        lock(&self.streams).retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut queue = lock(&queue);
            queue.push(event.clone());
            outbox.wakers.extend(queue.waker.take());
            true
        });
        outbox.queue.push(event);
    }

    /// Wakes streams, and calls callbacks with what was posted and with what there is `now`, unless another thread is at
    /// that.
    pub(crate) fn deliver(&self, now: impl Fn() -> Snapshot<T>) {
        wake(std::mem::take(&mut lock(&self.outbox).wakers));
        if std::mem::replace(&mut lock(&self.outbox).is_busy, true) {
            return;
        }
        loop {
            let mut outbox = lock(&self.outbox);
            let Some(event) = outbox.queue.pop() else {
                outbox.is_busy = false;
                return;
            };
            drop(outbox);
            // Called without a lock, so that a callback may add another, or reload.
            let callbacks = {
                let mut all = lock(&self.callbacks);
                all.retain(|callback| callback.strong_count() > 0);
                all.clone()
            };
            for callback in callbacks {
                // Dropped in here too: what it holds is not ours.
                let call = || callback.upgrade().map(|callback| callback(&event, &now()));
                if catch_unwind(AssertUnwindSafe(call)).is_err() {
                    tracing::error!("a subscriber to configuration changes panicked");
                }
            }
        }
    }
}

impl<T> Drop for Audience<T> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        for queue in lock(&self.streams).iter().filter_map(Weak::upgrade) {
            let mut queue = lock(&queue);
            queue.closed = true;
            wakers.extend(queue.waker.take());
        }
        wake(wakers);
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
/// How often files are looked at where nothing is heard, since a watch can be lost without a word, and how long after a
/// failure that may pass by itself the same files are loaded again.
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
    /// When to try again what failed and may not fail again.
    again: Option<Duration>,
    writing: HashSet<PathBuf>,
}

impl Settle {
    pub(crate) fn new(every: Duration, now: Duration) -> Settle {
        Settle { every, looked: now, heard: None, again: None, writing: HashSet::new() }
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
        let due = match self.heard {
            None => self.looked + self.every,
            Some((first, last)) if self.writing.is_empty() => (last + SETTLE).min(first + PATIENCE),
            Some((first, _)) => first + PATIENCE,
        };
        self.again.map_or(due, |again| again.min(due))
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
    /// The content that was last refused, and what was in place then.
    refused: Option<(Prints, Weak<Loaded>)>,
    /// What was told of that content, if it is to be tried again.
    told: Option<String>,
    /// New content that nobody has announced, so that it may be half of what is being written.
    glimpsed: Option<Prints>,
    /// Since when files were something else each time that they were looked at, and whether that was told.
    restless: Option<(Duration, bool)>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Live<T> {
    pub(crate) fn new(config: &Config<T>, settle: Settle) -> Live<T> {
        let (refused, told, glimpsed, restless) = Default::default();
        Live { shared: Arc::downgrade(&config.shared), settle, refused, told, glimpsed, restless }
    }

    /// Looks at the files more often from now on, and says so.
    pub(crate) fn poll(&mut self, reason: String) {
        self.settle.every = POLL;
        if let Some(shared) = self.shared.upgrade() {
            tracing::warn!(%reason, "configuration files are polled");
            shared.tell(ConfigEvent::Polling { reason });
        }
    }

    /// Looks if it is time to. Answers with `false` once the configuration is gone.
    pub(crate) fn tick(&mut self, now: Duration) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        if now < self.settle.due() {
            return true;
        }
        let is_announced = self.settle.heard.is_some();
        self.settle.look(now);
        let before = shared.loader.prints();
        // Somebody may have reloaded by hand since, so it is asked each time. That may drop what is not ours.
        let Ok(current) = catch_unwind(AssertUnwindSafe(|| shared.loaded())) else {
            self.settle.again = Some(now + SETTLE);
            return true;
        };
        let over = Arc::downgrade(&current);
        let was_refused =
            self.refused.as_ref().is_some_and(|(content, then)| *content == before && then.ptr_eq(&over));
        let is_known = was_refused || current.prints == before;
        drop(current);
        if is_known && self.settle.again.is_none_or(|again| now < again) {
            (self.glimpsed, self.restless) = (None, None);
            return true;
        }
        self.settle.again = None;
        if !is_known && !is_announced && self.glimpsed.as_ref() != Some(&before) {
            self.glimpsed = Some(before);
            self.look_again(&shared, now);
            return true;
        }
        self.glimpsed = None;
        let reload = || {
            // What was read twice and is the same was not being written to. What is written from then on is heard of.
            shared.reload(|read, is_loaded| match is_loaded {
                true => *read == before,
                // A load that failed has not read all of them.
                false => read.is_subset(&before),
            })
        };
        // The thread must outlive what is not ours: a `Deserialize`, a `Drop`.
        let reloaded = catch_unwind(AssertUnwindSafe(reload))
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Type, "the type that is read panicked")));
        match reloaded {
            // Someone wrote while we read: what was read may be half of it.
            Ok(None) => self.look_again(&shared, now),
            Ok(Some(_)) => (self.refused, self.told, self.restless) = (None, None, None),
            Err(error) => {
                self.refused = Some((before, over));
                self.restless = None;
                let text = error.to_string();
                let was_told = was_refused && self.told.as_ref() == Some(&text);
                let may_pass = error.is_retryable();
                self.settle.again = may_pass.then_some(now + REASSURE);
                self.told = may_pass.then_some(text);
                if !was_told {
                    tracing::warn!(error = %error, "the configuration was not reloaded");
                    shared.tell(ConfigEvent::Rejected { error });
                }
            }
        }
        true
    }

    /// Waits for files to rest, longer each time, and tells once that they do not.
    fn look_again(&mut self, shared: &Shared<T>, now: Duration) {
        let (since, was_told) = self.restless.unwrap_or((now, false));
        let wait = now.saturating_sub(since).clamp(SETTLE, REASSURE);
        self.settle.again = Some(now + wait);
        let is_long = wait == REASSURE;
        self.restless = Some((since, is_long || was_told));
        if is_long && !was_told {
            let message =
                format!("the files are written to without end, and were never the same for {SETTLE:?}");
            let error = Error::new(ErrorKind::Busy, message).retryable();
            tracing::warn!(error = %error, "the configuration was not reloaded");
            shared.tell(ConfigEvent::Rejected { error });
        }
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

    #[test]
    fn those_who_are_gone_are_forgotten_without_a_change() {
        let audience = Audience::<()>::default();
        for _ in 0..3 {
            drop((audience.stream(), audience.callback(|_, _| ())));
        }
        assert_eq!((lock(&audience.streams).len(), lock(&audience.callbacks).len()), (1, 1));
    }
}
