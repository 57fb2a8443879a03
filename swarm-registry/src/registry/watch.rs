use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::{self, BoxStream};

use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::log::{Next, record_name};

use super::VersionRegistry;

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
    seq: u64,
    head: Option<crate::Digest>,
    wait: Duration,
    /// The last answer was an error: wait before the next question.
    failed: bool,
}

impl VersionRegistry {
    /// Follows the log from what this process knows on. Whatever it reads, the routers of this registry serve at once, so a
    /// long-running process keeps one going, in a task of its own. Each record is an event, but for the leases of drivers of
    /// rollouts, which are no news: webhooks would hear of them all the time.
    ///
    /// An `Err` is not the end: the next poll asks again, after a pause, and meanwhile routers serve what they have. It asks
    /// at once when this process changed something. Dropping it is the end of it; nothing runs in the background.
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
        let (seq, head) = {
            let state = self.state();
            (state.seq, state.head)
        };
        let registry = self.clone();
        let follower = Follower { registry, options, seq, head, wait: options.shortest, failed: false };
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
            match self.registry.shared.log.next(self.seq, self.head).await? {
                Next::Line(line) => {
                    let event = Event::of(&line, &record_name(line.record.seq))?;
                    self.registry.absorb(&line)?;
                    (self.seq, self.head) = (line.record.seq, Some(line.digest));
                    if !matches!(event.kind, EventKind::RolloutLeased { .. }) {
                        return Ok(event);
                    }
                }
                Next::Compacted => {
                    self.registry.reload().await?;
                    let state = self.registry.state();
                    (self.seq, self.head) = (state.seq, state.head);
                    let at = self.registry.shared.clock.now();
                    let kind = EventKind::RecordsSkipped;
                    return Ok(Event { record: state.seq, at, actor: None, kind });
                }
                Next::End => {
                    // Something that this process wrote, or read elsewhere, is no reason to wait.
                    let mut known = self.registry.shared.known.subscribe();
                    let seq = self.seq;
                    tokio::select! {
                        () = self.pause() => {}
                        // The sender lives in the registry that this holds. It does not close.
                        _ = known.wait_for(|known| *known > seq) => {}
                    }
                }
            }
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
