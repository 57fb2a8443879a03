//! The attempts that wait or block, and what holds the run's place while there are any.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinSet};

use super::attempt::{Attempt, Done, Outcome};
use super::live::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::RunShared;
use crate::step_error::StepError;
use crate::store::RunLog;

/// Tasks of the runtime, each for one attempt.
///
/// When the driver goes before they end, they are told, and those that can be are dropped. Blocking ones cannot:
/// the run stays busy until they have ended, so that nobody does or undoes beside them what they still do.
pub(super) struct InFlight {
    tasks: JoinSet<Outcome>,
    /// With whether it blocks a thread.
    attempts: HashMap<Id, (Attempt, bool)>,
    shared: Arc<RunShared>,
    pub(super) log: Option<Box<dyn RunLog>>,
    place: Option<Place>,
}

impl InFlight {
    pub(super) fn new(shared: Arc<RunShared>, log: Option<Box<dyn RunLog>>, place: Place) -> Self {
        InFlight { tasks: JoinSet::new(), attempts: HashMap::new(), shared, log, place: Some(place) }
    }

    pub(super) fn spawn(&mut self, attempt: Attempt, work: impl Future<Output = Outcome> + Send + 'static) {
        let task = self.tasks.spawn(work);
        self.attempts.insert(task.id(), (attempt, false));
    }

    pub(super) fn spawn_blocking(
        &mut self,
        attempt: Attempt,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) {
        let task = self.tasks.spawn_blocking(work);
        self.attempts.insert(task.id(), (attempt, true));
    }

    /// The next that ends; never, where there is none.
    pub(super) async fn next(&mut self) -> Result<Done> {
        match self.tasks.join_next_with_id().await {
            Some(joined) => self.ended(joined),
            None => std::future::pending().await,
        }
    }

    /// One that has ended already.
    pub(super) fn try_next(&mut self) -> Option<Result<Done>> {
        let joined = self.tasks.try_join_next_with_id()?;
        Some(self.ended(joined))
    }

    /// Tells all that nothing is wanted of them any more, and waits until they have ended.
    pub(super) async fn end(&mut self) {
        self.shared.cancel.set();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }

    fn ended(&mut self, joined: std::result::Result<(Id, Outcome), JoinError>) -> Result<Done> {
        let (id, outcome) = match joined {
            Ok(ended) => ended,
            // Work is polled where panics are caught; this one came from a destructor.
            Err(error) if error.is_panic() => (error.id(), Err(StepError::panicked(&*error.into_panic()))),
            Err(error) => {
                let message = "the runtime was shut down while the run was under way";
                return Err(Error::new(ErrorKind::InvalidState, message).because(error));
            }
        };
        let (attempt, _) = self
            .attempts
            .remove(&id)
            .ok_or_else(|| Error::new(ErrorKind::InvalidState, "a task ended that belongs to no attempt"))?;
        Ok(Done { attempt, outcome })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        self.shared.cancel.set();
        self.tasks.abort_all();
        let blocks = self.attempts.values().any(|(_, blocks)| *blocks);
        let Some(runtime) = Handle::try_current().ok().filter(|_| blocks) else { return };
        let mut tasks = std::mem::take(&mut self.tasks);
        let (log, place) = (self.log.take(), self.place.take());
        let ended = place.as_ref().map(Place::ending);
        // Nobody is left to own this task: it ends with the last attempt, or with the runtime.
        runtime.spawn(async move {
            while tasks.join_next().await.is_some() {}
            drop(log);
            drop(place);
            drop(ended);
        });
    }
}
