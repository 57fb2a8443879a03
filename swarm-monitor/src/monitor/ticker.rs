use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::monitor::{Inner, spawn, tick};

/// The thread that moves a monitor's time on. Dropping this ends and joins it.
pub(crate) struct Ticker {
    over: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ticker {
    /// `None` if the system gives no thread.
    pub(crate) fn start(monitor: Weak<Inner>) -> Option<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let thread = spawn(move || {
            while !seen.load(Ordering::Acquire) {
                let Some(pause) = tick(&monitor) else { break };
                thread::park_timeout(pause);
            }
        });
        match thread {
            Some(thread) => Some(Ticker { over, thread: Mutex::new(Some(thread)) }),
            None => {
                tracing::warn!("no thread for the monitor's time: it stands still unless `tick` is called");
                None
            }
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            thread.thread().unpark();
            // The last clone may be dropped by what the thread itself calls.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
