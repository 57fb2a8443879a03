//! Code of plugins that may panic, also where it is dropped.

use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::plugin::Plugin;

/// A future of a plugin whose panics, also those of its drop, stay in here.
pub(crate) struct Contained<F: ?Sized>(Option<Pin<Box<F>>>);

impl<F: Future + ?Sized> Contained<F> {
    pub(crate) fn new(future: Pin<Box<F>>) -> Contained<F> {
        Contained(Some(future))
    }
}

impl<F: Future + ?Sized> Future for Contained<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.as_mut().expect("it is taken out when this is dropped, and not before");
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

impl<F: ?Sized> Drop for Contained<F> {
    fn drop(&mut self) {
        dropped(self.0.take());
    }
}

/// Drops what belongs to a plugin, whose destructors may panic.
pub(crate) fn dropped<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        ignored(payload);
    }
}

/// Lets go of what somebody panicked with, which may have a destructor as well.
pub(crate) fn ignored(payload: Box<dyn Any + Send>) {
    if !payload.is::<&str>() && !payload.is::<String>() {
        std::mem::forget(payload);
    }
}

/// An instance of a plugin, whose destructor may panic.
pub(crate) struct Instance(Option<Arc<dyn Plugin>>);

impl Instance {
    pub(crate) fn new(plugin: Arc<dyn Plugin>) -> Instance {
        Instance(Some(plugin))
    }
}

impl Deref for Instance {
    type Target = dyn Plugin;

    fn deref(&self) -> &dyn Plugin {
        self.0.as_deref().expect("it is taken out when this is dropped, and not before")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        dropped(self.0.take());
    }
}
