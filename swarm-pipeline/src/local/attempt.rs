//! One attempt: polled in place first, and moved to a task of its own when it waits.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{Either, select};

use crate::definition::{BoxWork, Work};
use crate::output::Output;
use crate::scheduler::Task;
use crate::shared::RunShared;
use crate::step_error::{StepError, StepErrorKind};

pub(super) type Outcome = Result<Output, StepError>;

/// What a task of the runtime reports to the driver.
pub(super) struct Done {
    pub(super) task: Task,
    pub(super) attempt: u32,
    pub(super) undo: bool,
    pub(super) outcome: Outcome,
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

/// Carries a future to its end, its timeout, or the moment it is abandoned. An undo is not abandoned with the work it undoes.
pub(super) async fn carry(
    shared: Arc<RunShared>,
    work: BoxWork,
    deadline: Option<tokio::time::Instant>,
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
                tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(timed_out()))
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

pub(super) fn timed_out() -> StepError {
    StepError::of(StepErrorKind::TimedOut, "took longer than allowed")
}

/// Runs on a thread for blocking work.
pub(super) fn block(work: Box<dyn FnOnce() -> Outcome + Send>, deadline: Option<Instant>) -> Outcome {
    let outcome =
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(StepError::panicked(&*payload)));
    match deadline {
        Some(deadline) if Instant::now() >= deadline => Err(timed_out()),
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
        let before = Instant::now();
        let polled = self.work.as_mut().poll(cx);
        notice(&self.shared, before.elapsed().as_micros() as i64);
        polled
    }
}
