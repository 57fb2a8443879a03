//! Threads for code that may never return.
//!
//! Not those of the runtime: it waits for its own when it ends, and would never end.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
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
/// Work that somebody waits for.
type Asked = Box<dyn FnOnce(&Ticket) + Send>;

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

    /// On how many of them the calls of one instance may be, so that some are left for others.
    pub(super) fn share(&self) -> usize {
        (self.0.limit.load(Ordering::Relaxed) / 2).max(1)
    }

    /// Runs work, and answers when it returned. Its panics go on here.
    ///
    /// Dropped before, it is counted in `lost` until the work returns; what has not begun never begins, and is freed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        lost: &Arc<AtomicUsize>,
        work: impl FnOnce(&Ticket) -> T + Send + 'static,
    ) -> Result<T, PluginError> {
        self.answered(lost, Begins::WhileAsked, QUEUE_LIMIT, work).await
    }

    /// Runs work that begins also when this is dropped before, and however much waits for a thread.
    pub(super) async fn run_anyway<T: Send + 'static>(
        &self,
        lost: &Arc<AtomicUsize>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PluginError> {
        self.answered(lost, Begins::Anyway, usize::MAX, |_| work()).await
    }

    async fn answered<T: Send + 'static>(
        &self,
        lost: &Arc<AtomicUsize>,
        begins: Begins,
        most: usize,
        work: impl FnOnce(&Ticket) -> T + Send + 'static,
    ) -> Result<T, PluginError> {
        let (answer, answered) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let work = move |ticket: &Ticket| {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(ticket)));
            ticket.end();
            // Nobody may be waiting.
            let _ = answer.send(outcome);
        };
        let phase = Mutex::new(Phase::Waiting(Box::new(work)));
        let ticket = Arc::new(Ticket { phase, begins, threads: self.0.clone(), lost: lost.clone() });
        let _gives_up = GivesUp(ticket.clone());
        self.queue(Box::new(move || ticket.run()), most)?;
        match answered.await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(payload)) => resume_unwind(payload),
            Err(_) => Err(PluginError::new("its thread ended without an answer")),
        }
    }

    /// Runs work for which nobody waits, however much else waits for a thread.
    pub(super) fn spawn(&self, work: Work) {
        // Where no thread is to be had it waits for the next, which harms nobody.
        let _ = self.queue(work, usize::MAX);
    }

    /// Where no thread is to be had, the work stays in the queue for the next that is.
    fn queue(&self, work: Work, most: usize) -> Result<(), PluginError> {
        let mut state = self.0.lock();
        if state.queue.len() >= most {
            let all = state.all;
            return Err(PluginError::temporary(format_args!(
                "all {all} threads for native plugins are busy, and {most} calls wait for one"
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
    begins: Begins,
    threads: Arc<Inner>,
    lost: Arc<AtomicUsize>,
}

/// Whether work begins that was given up before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    WhileAsked,
    Anyway,
}

enum Phase {
    Waiting(Asked),
    /// Nobody waits for it, and it begins all the same.
    Left(Asked),
    Running,
    /// Nobody waits for it. It is running, or was freed.
    GivenUp,
    Ended,
}

impl Ticket {
    pub(super) fn is_given_up(&self) -> bool {
        matches!(*self.phase(), Phase::GivenUp)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> [&AtomicUsize; 2] {
        [&self.threads.lost, &self.lost]
    }

    fn run(&self) {
        let begun = {
            let mut phase = self.phase();
            match mem::replace(&mut *phase, Phase::Running) {
                Phase::Waiting(work) => Some(work),
                Phase::Left(work) => {
                    self.lose(&mut phase);
                    Some(work)
                }
                other => {
                    *phase = other;
                    None
                }
            }
        };
        if let Some(work) = begun {
            work(self);
        }
    }

    fn lose(&self, phase: &mut Phase) {
        *phase = Phase::GivenUp;
        for lost in self.counts() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn end(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::GivenUp) {
            for lost in self.counts() {
                lost.fetch_sub(1, Ordering::Relaxed);
            }
        }
        *phase = Phase::Ended;
    }

    /// Answers what is to be freed, once the lock is let go.
    fn give_up(&self) -> Option<Asked> {
        let mut phase = self.phase();
        match mem::replace(&mut *phase, Phase::GivenUp) {
            Phase::Waiting(work) if self.begins == Begins::WhileAsked => return Some(work),
            Phase::Waiting(work) => *phase = Phase::Left(work),
            Phase::Running => self.lose(&mut phase),
            other => *phase = other,
        }
        None
    }
}

struct GivesUp(Arc<Ticket>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        drop(self.0.give_up());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, TryRecvError};

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
        assert_eq!(ran.try_recv(), Err(TryRecvError::Disconnected), "what it holds is freed at once");
        assert_eq!(lost.load(Ordering::Relaxed), 0, "what has not begun is not lost");
        drop(first);
        assert_eq!((lost.load(Ordering::Relaxed), threads.lost()), (1, 1));
        go_on.send(()).unwrap();
        assert_eq!(threads.run(&lost, |_| 3).await, Ok(3));
        assert_eq!((lost.load(Ordering::Relaxed), threads.lost()), (0, 0));
        assert!(ran.recv().is_err(), "nor does it begin");
    }

    #[tokio::test]
    async fn work_that_must_be_done_begins_also_when_it_was_given_up() {
        let threads = Threads::new(1);
        let lost = Arc::new(AtomicUsize::new(0));
        let (go_on, goes_on) = mpsc::channel::<()>();
        let mut first = Box::pin(threads.run(&lost, move |_| goes_on.recv()));
        assert!((&mut first).now_or_never().is_none());
        let (done, does) = mpsc::channel();
        let seen = lost.clone();
        let second = threads.run_anyway(&lost, move || done.send(seen.load(Ordering::Relaxed)).unwrap());
        assert!(second.now_or_never().is_none());
        assert_eq!(does.try_recv(), Err(TryRecvError::Empty));
        go_on.send(()).unwrap();
        assert_eq!(first.await, Ok(Ok(())));
        assert_eq!(does.recv(), Ok(1), "it is lost from its beginning on");
        assert_eq!(threads.run_anyway(&lost, || 3).await, Ok(3));
        assert_eq!((lost.load(Ordering::Relaxed), threads.lost()), (0, 0));
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
