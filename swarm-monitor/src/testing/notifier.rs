use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::notify::{Notification, Notifier, NotifyError};

/// A [`Notifier`] that keeps what it was told, and fails on order. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct RecordingNotifier {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    told: Vec<Notification>,
    later: usize,
    never: usize,
    tries: usize,
}

impl RecordingNotifier {
    /// One that was told nothing.
    pub fn new() -> Self {
        RecordingNotifier::default()
    }

    /// What it was told, oldest first.
    pub fn told(&self) -> Vec<Notification> {
        self.lock().told.clone()
    }

    /// The same, and forgets it.
    pub fn take(&self) -> Vec<Notification> {
        std::mem::take(&mut self.lock().told)
    }

    /// How often somebody tried to tell it something.
    pub fn tries(&self) -> usize {
        self.lock().tries
    }

    /// Cannot be reached for the next so many tries.
    pub fn fail(&self, tries: usize) {
        self.lock().later = tries;
    }

    /// Does not accept what comes with the next so many tries.
    pub fn refuse(&self, tries: usize) {
        self.lock().never = tries;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Notifier for RecordingNotifier {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let mut inner = self.lock();
        inner.tries += 1;
        if inner.later > 0 {
            inner.later -= 1;
            return Err(NotifyError::later("out of reach, as it was asked to be"));
        }
        if inner.never > 0 {
            inner.never -= 1;
            return Err(NotifyError::never("refused, as it was asked to"));
        }
        inner.told.push(notification.clone());
        Ok(())
    }
}
