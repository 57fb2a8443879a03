use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::{self, BoxStream};

use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::log::record_name;
use crate::wire::Line;

use super::VersionRegistry;
use super::tail::Following;

/// No wait is shorter, or a watch would do nothing but ask.
const LEAST: Duration = Duration::from_millis(1);

/// How often a [`Watch`] asks the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    shortest: Duration,
    longest: Duration,
}

impl Default for WatchOptions {
    /// After 100 ms, then less and less often, up to every 5 s.
    fn default() -> Self {
        WatchOptions { shortest: Duration::from_millis(100), longest: Duration::from_secs(5) }
    }
}

impl WatchOptions {
    /// How long it waits after something happened, at least 1 ms. Each further wait is twice as long.
    #[must_use]
    pub fn shortest(mut self, wait: Duration) -> Self {
        self.shortest = wait.max(LEAST);
        self
    }

    /// The longest that it waits, at least 1 ms: how late another process's change can be noticed while the store is there.
    #[must_use]
    pub fn longest(mut self, wait: Duration) -> Self {
        self.longest = wait.max(LEAST);
        self
    }
}

/// What happens, as a stream without end: see [`VersionRegistry::watch`].
#[must_use = "a watch does nothing unless it is polled"]
pub struct Watch(BoxStream<'static, Result<Event>>);

struct Follower {
    registry: VersionRegistry,
    options: WatchOptions,
    /// The last record that was told, or skipped.
    seq: u64,
    /// What was read from the store, for what follows is not in the tail any more.
    behind: VecDeque<Line>,
    wait: Duration,
    /// The last answer was an error: wait before the next question.
    failed: bool,
}

impl VersionRegistry {
    /// Follows the log from what this process knows on. Whatever it reads, the routers of this registry serve at once, so a
    /// long-running process keeps one going, in a task of its own. Each record is an event, but for the leases of drivers of
    /// rollouts, which are no news: webhooks would hear of them all the time.
    ///
    /// An `Err` is not the end: the next poll asks again, after a pause, and meanwhile routers serve what they have. What this
    /// process changed, it tells at once. Dropping it is the end of it; nothing runs in the background.
    ///
    /// Leases aside, it leaves out nothing that is still kept: where records were compacted away before they could be read,
    /// there is one [`EventKind::RecordsSkipped`] in their place.
    ///
    /// ```no_run
    /// # async fn example(registry: swarm_registry::VersionRegistry) {
    /// use futures::StreamExt;
    ///
    /// let mut watch = registry.watch(Default::default());
    /// tokio::spawn(async move {
    ///     while let Some(event) = watch.next().await {
    ///         match event {
    ///             Ok(event) => tracing::info!(record = event.record, kind = ?event.kind),
    ///             Err(error) => tracing::warn!(%error),
    ///         }
    ///     }
    /// });
    /// # }
    /// ```
    pub fn watch(&self, options: WatchOptions) -> Watch {
        let known = self.state().seq;
        self.watch_from(known.saturating_add(1), options)
    }

    /// [Follows](VersionRegistry::watch) the log from the record of this number on, whether it was written already or will
    /// be. Whoever delivers events elsewhere keeps the number of the last one that arrived, and begins after that one: also
    /// after a restart, none is left out, and none comes twice but the one that was under way.
    ///
    /// ```
    /// # use swarm_registry::{ObjectVersionStore, Version, VersionRegistry};
    /// # use futures::StreamExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), swarm_registry::Error> {
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// # registry.register(Version::new("v1").artifact("1")).await?;
    /// # registry.register(Version::new("v2").artifact("2")).await?;
    /// let mut arrived: u64 = 0; // kept where the events go
    /// let mut watch = registry.watch_from(arrived + 1, Default::default());
    /// # let mut watch = watch.take(2);
    /// while let Some(event) = watch.next().await {
    ///     let event = event?;
    ///     // … deliver it, then:
    ///     arrived = event.record;
    /// }
    /// # assert_eq!(arrived, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_from(&self, record: u64, options: WatchOptions) -> Watch {
        let follower = Follower {
            registry: self.clone(),
            options,
            seq: record.saturating_sub(1),
            behind: VecDeque::new(),
            wait: options.shortest,
            failed: false,
        };
        Watch(Box::pin(stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await;
            Some((event, follower))
        })))
    }
}

impl Follower {
    async fn next(&mut self) -> Result<Event> {
        if std::mem::take(&mut self.failed) {
            self.pause().await;
        }
        let event = self.read().await;
        match &event {
            Ok(_) => self.wait = self.options.shortest,
            Err(_) => self.failed = true,
        }
        event
    }

    async fn read(&mut self) -> Result<Event> {
        loop {
            while self.behind.front().is_some_and(|line| line.record.seq <= self.seq) {
                self.behind.pop_front();
            }
            if let Some(line) = self.behind.front().cloned() {
                match self.tell(&line)? {
                    Some(event) => return Ok(event),
                    None => continue,
                }
            }
            let following = self.registry.tail().following(self.seq);
            match following {
                Following::Line(line) => {
                    if let Some(event) = self.tell(&line)? {
                        return Ok(event);
                    }
                }
                Following::Gone(last) => return Ok(self.skip(last)),
                Following::Forgotten => {
                    let (lines, last) = self.registry.shared.log.read(self.seq + 1).await?;
                    if lines.is_empty() {
                        return Ok(self.skip(last));
                    }
                    self.behind = lines.into();
                }
                Following::Nothing => {
                    if !self.registry.advance().await? {
                        self.wait_for_more().await;
                    }
                }
            }
        }
    }

    /// What `line` says, if it is news, once everything before it was told or skipped.
    fn tell(&mut self, line: &Line) -> Result<Option<Event>> {
        let record = line.record.seq;
        if record > self.seq + 1 {
            return Ok(Some(self.skip(record - 1)));
        }
        let event = Event::of(line, &record_name(record))?;
        self.seq = record;
        Ok(Some(event).filter(|event| !matches!(event.kind, EventKind::RolloutLeased { .. })))
    }

    fn skip(&mut self, last: u64) -> Event {
        self.seq = self.seq.max(last);
        let at = self.registry.shared.clock.now();
        Event { record: self.seq, at, actor: None, kind: EventKind::RecordsSkipped }
    }

    async fn wait_for_more(&mut self) {
        let mut known = self.registry.shared.known.subscribe();
        let seq = self.seq;
        tokio::select! {
            () = self.pause() => {}
            // What this process wrote, or read elsewhere, is no reason to wait. The sender lives in the registry that this
            // holds. It does not close.
            _ = known.wait_for(|known| *known > seq) => {}
        }
    }

    /// Waits, each time longer than the last.
    async fn pause(&mut self) {
        self.registry.shared.clock.sleep(self.wait).await;
        self.wait = self.wait.saturating_mul(2).min(self.options.longest);
    }
}

impl Stream for Watch {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
