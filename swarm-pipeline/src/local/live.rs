//! Which runs an engine drives, and the way to reach their drivers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, ErrorKind, Result};
use crate::store::RunId;

/// What the outside wants of a run that is being driven. The answer comes when it is recorded.
pub(super) enum Control {
    Cancel { answer: oneshot::Sender<Result<()>> },
    Signal { step: String, value: Box<RawValue>, answer: oneshot::Sender<Result<()>> },
}

/// The runs of one engine that have a driver, or had one of whose attempts some have not ended.
#[derive(Clone, Default)]
pub(super) struct Live(Arc<Mutex<HashMap<RunId, State>>>);

enum State {
    Driven(mpsc::Sender<Control>),
    /// Changes, by its sender's end, when the last attempt has ended.
    Ending(watch::Receiver<()>),
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the one driver's place of `run`, once a driver that was dropped has left nothing behind.
    pub(super) async fn enter(&self, run: &RunId) -> Result<(Place, mpsc::Receiver<Control>)> {
        loop {
            let mut ending = match self.lock().get(run) {
                None => break,
                Some(State::Ending(ending)) => ending.clone(),
                Some(State::Driven(_)) => return Err(busy(run)),
            };
            // An error is the end that is waited for.
            let _ = ending.changed().await;
        }
        let (sender, receiver) = mpsc::channel(16);
        let mut runs = self.lock();
        if runs.contains_key(run) {
            return Err(busy(run));
        }
        runs.insert(run.clone(), State::Driven(sender));
        Ok((Place { live: self.clone(), run: run.clone() }, receiver))
    }

    /// The driver of `run`, if this engine has one.
    pub(super) fn driver(&self, run: &RunId) -> Option<mpsc::Sender<Control>> {
        match self.lock().get(run)? {
            State::Driven(sender) => Some(sender.clone()),
            State::Ending(_) => None,
        }
    }
}

fn busy(run: &RunId) -> Error {
    Error::new(ErrorKind::RunBusy, format!("run {run} is being driven by this engine")).in_run(run)
}

/// The driver's place of a run, given up when dropped.
pub(super) struct Place {
    live: Live,
    run: RunId,
}

impl Place {
    /// From now on there is no driver, only attempts that end. The answer must be dropped after this place.
    pub(super) fn ending(&self) -> watch::Sender<()> {
        let (sender, receiver) = watch::channel(());
        self.live.lock().insert(self.run.clone(), State::Ending(receiver));
        sender
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.lock().remove(&self.run);
    }
}
