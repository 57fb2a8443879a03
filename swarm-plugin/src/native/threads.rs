//! Threads for code that may never return.
//!
//! Not those of the runtime: it waits for its own when it ends, and would never end.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::plugin::PluginError;

/// A thread without work ends after this.
const IDLE: Duration = Duration::from_secs(10);
/// Work that waits for a thread.
const QUEUE_LIMIT: usize = 4096;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub(super) struct Threads(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    more: Condvar,
    limit: AtomicUsize,
    /// How much work goes on though nobody waits for it.
    lost: AtomicUsize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    all: usize,
    idle: usize,
}

impl Threads {
    pub(super) fn new(limit: usize) -> Threads {
        Threads(Arc::new(Inner {
            state: Mutex::default(),
            more: Condvar::new(),
            limit: AtomicUsize::new(limit),
            lost: AtomicUsize::new(0),
        }))
    }

    /// How much work goes on though nobody waits for it.
    pub(super) fn lost(&self) -> usize {
        self.0.lost.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self, threads: usize) {
        self.0.limit.store(threads.max(1), Ordering::Relaxed);
    }

    /// Runs work, and answers when it returned. Its panics go on here.
    ///
    /// Dropped before, it is counted in `lost` until the work returns; what has not begun never begins.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        lost: &Arc<AtomicUsize>,
        work: impl FnOnce(&Ticket) -> T + Send + 'static,
    ) -> Result<T, PluginError> {
        let ticket = Arc::new(Ticket::new(self.0.clone(), lost.clone()));
        let (answer, answered) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let theirs = ticket.clone();
        self.spawn(Box::new(move || {
            if theirs.begin() {
                let outcome = catch_unwind(AssertUnwindSafe(|| work(&theirs)));
                theirs.end();
                // Nobody may be waiting.
                let _ = answer.send(outcome);
            }
        }))?;
        let _gives_up = GivesUp(ticket);
        match answered.await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(payload)) => resume_unwind(payload),
            Err(_) => Err(PluginError::new("its thread ended without an answer")),
        }
    }

    /// Runs work for which nobody waits.
    pub(super) fn spawn(&self, work: Work) -> Result<(), PluginError> {
        let mut state = self.0.lock();
        if state.queue.len() >= QUEUE_LIMIT {
            let all = state.all;
            return Err(PluginError::temporary(format_args!(
                "all {all} threads for native plugins are busy, and {QUEUE_LIMIT} calls wait for one"
            )));
        }
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            drop(state);
            self.0.more.notify_one();
            return Ok(());
        }
        if state.all < self.0.limit.load(Ordering::Relaxed) {
            state.all += 1;
            let inner = self.0.clone();
            let thread = thread::Builder::new().name("swarm-native".into());
            if let Err(error) = thread.spawn(move || inner.work()) {
                state.all -= 1;
                // Those that are there will come to it.
                if state.all == 0 {
                    state.queue.clear();
                    return Err(PluginError::temporary(format_args!("no thread could be started: {error}")));
                }
            }
        }
        Ok(())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                // What is in there catches the plugin's panics; this one keeps the count right in any case.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.more.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            if waited.1.timed_out() && state.queue.is_empty() {
                state.all -= 1;
                return;
            }
        }
    }
}

/// A piece of work, and whether anybody waits for it.
pub(super) struct Ticket {
    phase: Mutex<Phase>,
    threads: Arc<Inner>,
    lost: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    GivenUp,
    Ended,
}

impl Ticket {
    fn new(threads: Arc<Inner>, lost: Arc<AtomicUsize>) -> Ticket {
        Ticket { phase: Mutex::new(Phase::Waiting), threads, lost }
    }

    pub(super) fn is_given_up(&self) -> bool {
        *self.phase() == Phase::GivenUp
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> [&AtomicUsize; 2] {
        [&self.threads.lost, &self.lost]
    }

    fn begin(&self) -> bool {
        let mut phase = self.phase();
        let wanted = *phase == Phase::Waiting;
        if wanted {
            *phase = Phase::Running;
        }
        wanted
    }

    fn end(&self) {
        let mut phase = self.phase();
        if *phase == Phase::GivenUp {
            for lost in self.counts() {
                lost.fetch_sub(1, Ordering::Relaxed);
            }
        }
        *phase = Phase::Ended;
    }
}

struct GivesUp(Arc<Ticket>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        let mut phase = self.0.phase();
        if *phase == Phase::Running {
            for lost in self.0.counts() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        if *phase != Phase::Ended {
            *phase = Phase::GivenUp;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn work_that_was_given_up_is_counted_until_it_returns() {
        let threads = Threads::new(1);
        let lost = Arc::new(AtomicUsize::new(0));
        let (begun, begins) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let mut first = Box::pin(threads.run(&lost, move |ticket| {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            assert!(ticket.is_given_up());
        }));
        assert!((&mut first).now_or_never().is_none());
        begins.recv().unwrap();
        // The only thread is taken.
        let (never, ran) = mpsc::channel::<()>();
        let second = threads.run(&lost, move |_| never.send(()).unwrap());
        assert!(second.now_or_never().is_none());
        assert_eq!(lost.load(Ordering::Relaxed), 0, "what has not begun is not lost");
        drop(first);
        assert_eq!((lost.load(Ordering::Relaxed), threads.lost()), (1, 1));
        go_on.send(()).unwrap();
        assert_eq!(threads.run(&lost, |_| 3).await, Ok(3));
        assert_eq!((lost.load(Ordering::Relaxed), threads.lost()), (0, 0));
        assert!(ran.recv().is_err(), "nor does it begin");
    }

    #[tokio::test]
    async fn a_panic_goes_on_where_the_work_was_asked_for() {
        let threads = Threads::new(2);
        let lost = Arc::default();
        let panics = threads.run(&lost, |_| resume_unwind(Box::new("oh")));
        let payload: Result<Result<(), _>, _> = AssertUnwindSafe(panics).catch_unwind().await;
        assert_eq!(payload.unwrap_err().downcast_ref(), Some(&"oh"));
        assert_eq!(threads.run(&lost, |_| 3).await, Ok(3));
    }
}
