//! One attempt: polled in place first, and moved to a task of its own when it waits.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use tokio::time::Instant;

use crate::breaker::Permit;
use crate::definition::{BoxWork, Work};
use crate::output::Output;
use crate::scheduler::Task;
use crate::shared::RunShared;
use crate::step_error::{StepError, StepErrorKind};

pub(super) type Outcome = Result<Output, StepError>;

/// An attempt that the scheduler asked for and the log knows of.
pub(super) struct Attempt {
    pub(super) task: Task,
    pub(super) number: u32,
    pub(super) undo: bool,
    /// That of the step's circuit breaker.
    pub(super) permit: Option<Permit>,
}

/// How an attempt ended.
pub(super) struct Done {
    pub(super) attempt: Attempt,
    pub(super) outcome: Outcome,
}

/// When an attempt has to end, and what says so.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) allowed: Duration,
    pub(super) in_total: bool,
}

impl Deadline {
    /// `None` where it is further away than a clock can tell.
    pub(super) fn after(allowed: Duration) -> Option<Self> {
        Some(Deadline { at: Instant::now().checked_add(allowed)?, allowed, in_total: false })
    }

    fn missed(&self) -> StepError {
        let what = if self.in_total { "it has in total" } else { "an attempt has" };
        StepError::of(
            StepErrorKind::TimedOut,
            format_args!("took longer than the {:?} that {what}", self.allowed),
        )
    }
}

/// A poll of more microseconds than this held the other steps back.
const LONG_POLL: i64 = 100;

/// Steps spawned for each microsecond of a long poll, in hundredths: spawning costs about half a microsecond,
/// so that a poll that was long by accident costs at most some hundredths of its own time again.
const CREDIT: u64 = 10;

/// Lets the steps that follow a long poll run as tasks of their own, so that those like it run beside each other.
pub(super) fn notice(shared: &RunShared, took: i64) {
    if took >= LONG_POLL {
        let credit = took.unsigned_abs().saturating_mul(CREDIT) / 100;
        shared.spawn_credit.fetch_max(credit.max(1), Ordering::Relaxed);
    }
}

fn takes_credit(shared: &RunShared) -> bool {
    let credit = &shared.spawn_credit;
    credit.load(Ordering::Relaxed) > 0
        && credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit| credit.checked_sub(1)).is_ok()
}

/// Begins the work where that can be done in place.
pub(super) fn begin(shared: &RunShared, work: impl FnOnce() -> Work) -> Begun {
    let work = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(work) => work,
        Err(payload) => return Begun::Ended(Err(StepError::panicked(&*payload))),
    };
    match work {
        Work::Ready(outcome) => Begun::Ended(outcome),
        Work::Blocking(work) => Begun::Blocking(work),
        Work::Async(future) if takes_credit(shared) => Begun::Waits(future),
        Work::Async(mut future) => {
            let mut context = Context::from_waker(Waker::noop());
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
                Ok(Poll::Ready(outcome)) => Begun::Ended(outcome),
                // It is polled again as soon as it is a task, with a waker that works.
                Ok(Poll::Pending) => Begun::Waits(future),
                Err(payload) => Begun::Ended(Err(StepError::panicked(&*payload))),
            }
        }
    }
}

pub(super) enum Begun {
    Ended(Outcome),
    Waits(BoxWork),
    Blocking(Box<dyn FnOnce() -> Outcome + Send>),
}

/// Carries a future to its end, its deadline, or the moment it is abandoned. An undo is not abandoned with the work it undoes.
pub(super) async fn carry(
    shared: Arc<RunShared>,
    work: BoxWork,
    deadline: Option<Deadline>,
    undo: bool,
) -> Outcome {
    let watched = Watched { work, shared: Arc::clone(&shared) };
    let work = AssertUnwindSafe(watched).catch_unwind().map(|caught| match caught {
        Ok(outcome) => outcome,
        Err(payload) => Err(StepError::panicked(&*payload)),
    });
    let timed = async {
        match deadline {
            None => work.await,
            Some(deadline) => {
                tokio::time::timeout_at(deadline.at, work).await.unwrap_or_else(|_| Err(deadline.missed()))
            }
        }
    };
    let abandoned = async {
        match undo {
            true => std::future::pending().await,
            false => shared.abandon.cancelled().await,
        }
    };
    match select(std::pin::pin!(timed), std::pin::pin!(abandoned)).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => {
            Err(StepError::of(StepErrorKind::Cancelled, "dropped after the run was cancelled"))
        }
    }
}

/// Runs on a thread for blocking work. A result that comes too late is none.
pub(super) fn block(work: Box<dyn FnOnce() -> Outcome + Send>, deadline: Option<Deadline>) -> Outcome {
    let outcome =
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(StepError::panicked(&*payload)));
    in_time(outcome, deadline)
}

/// The outcome of work that nobody interrupted at its deadline.
pub(super) fn in_time(outcome: Outcome, deadline: Option<Deadline>) -> Outcome {
    match deadline {
        Some(deadline) if Instant::now() >= deadline.at => Err(deadline.missed()),
        _ => outcome,
    }
}

/// Notices long polls of a future.
struct Watched {
    work: BoxWork,
    shared: Arc<RunShared>,
}

impl Future for Watched {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let before = std::time::Instant::now();
        let polled = self.work.as_mut().poll(cx);
        notice(&self.shared, before.elapsed().as_micros() as i64);
        polled
    }
}
