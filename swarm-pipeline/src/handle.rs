//! Typed references to steps, and the ways to combine them into inputs.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::output::{StepOutput, View};
use crate::step_error::StepError;

/// A step of a pipeline under construction, and the type of what it returns.
///
/// Handing it to [`StepBuilder::input`](crate::StepBuilder::input) makes the dependency; since a handle exists
/// only once its step does, handles cannot form a cycle.
pub struct Handle<T> {
    pub(crate) pipeline: u64,
    pub(crate) step: u32,
    output: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    pub(crate) fn new(pipeline: u64, step: u32) -> Self {
        Handle { pipeline, step, output: PhantomData }
    }

    /// The same input, absent where the step was skipped, so that its dependents run all the same.
    pub fn optional(&self) -> OptionalHandle<T> {
        OptionalHandle(*self)
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle<{}>({})", std::any::type_name::<T>(), self.step)
    }
}

/// An input that may be absent; see [`Handle::optional`].
pub struct OptionalHandle<T>(Handle<T>);

impl<T> Clone for OptionalHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OptionalHandle<T> {}

impl<T> fmt::Debug for OptionalHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.optional()", self.0)
    }
}

/// What a step can take: a handle (arrives as `Arc<T>`), an optional handle (`Option<Arc<T>>`), a
/// `Vec<Handle<T>>` of any length (`Vec<Arc<T>>`), or a tuple of up to eight of these. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the input of a step",
    note = "an input is `&Handle<T>`, `Handle<T>`, `handle.optional()`, `Vec<Handle<T>>`, or a tuple of these"
)]
pub trait Inputs: sealed::Sealed {
    #[doc(hidden)]
    type Source: Source;

    #[doc(hidden)]
    fn source(self, edges: &mut Vec<Edge>) -> Self::Source;
}

/// An edge to an earlier step.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub(crate) pipeline: u64,
    pub(crate) step: u32,
    pub(crate) optional: bool,
}

/// Where a step finds its inputs among the outputs of a run.
#[doc(hidden)]
pub trait Source: Clone + Send + Sync + 'static {
    type Value: Send + 'static;

    fn take(&self, view: View<'_>) -> Result<Self::Value, StepError>;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for super::Handle<T> {}
    impl<T> Sealed for &super::Handle<T> {}
    impl<T> Sealed for super::OptionalHandle<T> {}
    impl<T> Sealed for Vec<super::Handle<T>> {}
    impl<T> Sealed for &[super::Handle<T>] {}
}

#[doc(hidden)]
pub struct One<T>(pub(crate) u32, PhantomData<fn() -> T>);

#[doc(hidden)]
pub struct Maybe<T>(u32, PhantomData<fn() -> T>);

#[doc(hidden)]
pub struct Many<T>(Arc<[u32]>, PhantomData<fn() -> T>);

impl<T> Clone for One<T> {
    fn clone(&self) -> Self {
        One(self.0, PhantomData)
    }
}

impl<T> Clone for Maybe<T> {
    fn clone(&self) -> Self {
        Maybe(self.0, PhantomData)
    }
}

impl<T> Clone for Many<T> {
    fn clone(&self) -> Self {
        Many(Arc::clone(&self.0), PhantomData)
    }
}

impl Source for () {
    type Value = ();

    fn take(&self, _: View<'_>) -> Result<(), StepError> {
        Ok(())
    }
}

impl<T: StepOutput> Source for One<T> {
    type Value = Arc<T>;

    fn take(&self, view: View<'_>) -> Result<Arc<T>, StepError> {
        view.typed(self.0)
    }
}

impl<T: StepOutput> Source for Maybe<T> {
    type Value = Option<Arc<T>>;

    fn take(&self, view: View<'_>) -> Result<Option<Arc<T>>, StepError> {
        view.get(self.0).map(|_| view.typed(self.0)).transpose()
    }
}

impl<T: StepOutput> Source for Many<T> {
    type Value = Vec<Arc<T>>;

    fn take(&self, view: View<'_>) -> Result<Vec<Arc<T>>, StepError> {
        self.0.iter().map(|step| view.typed(*step)).collect()
    }
}

impl<T: StepOutput> Inputs for Handle<T> {
    type Source = One<T>;

    fn source(self, edges: &mut Vec<Edge>) -> One<T> {
        edges.push(Edge { pipeline: self.pipeline, step: self.step, optional: false });
        One(self.step, PhantomData)
    }
}

impl<T: StepOutput> Inputs for &Handle<T> {
    type Source = One<T>;

    fn source(self, edges: &mut Vec<Edge>) -> One<T> {
        (*self).source(edges)
    }
}

impl<T: StepOutput> Inputs for OptionalHandle<T> {
    type Source = Maybe<T>;

    fn source(self, edges: &mut Vec<Edge>) -> Maybe<T> {
        edges.push(Edge { pipeline: self.0.pipeline, step: self.0.step, optional: true });
        Maybe(self.0.step, PhantomData)
    }
}

impl<T: StepOutput> Inputs for &[Handle<T>] {
    type Source = Many<T>;

    fn source(self, edges: &mut Vec<Edge>) -> Many<T> {
        Many(self.iter().map(|handle| handle.source(edges).0).collect(), PhantomData)
    }
}

impl<T: StepOutput> Inputs for Vec<Handle<T>> {
    type Source = Many<T>;

    fn source(self, edges: &mut Vec<Edge>) -> Many<T> {
        self.as_slice().source(edges)
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Inputs),+> sealed::Sealed for ($($name,)+) {}

        #[allow(non_snake_case)]
        impl<$($name: Inputs),+> Inputs for ($($name,)+) {
            type Source = ($($name::Source,)+);

            fn source(self, edges: &mut Vec<Edge>) -> Self::Source {
                let ($($name,)+) = self;
                ($($name.source(edges),)+)
            }
        }

        #[allow(non_snake_case)]
        impl<$($name: Source),+> Source for ($($name,)+) {
            type Value = ($($name::Value,)+);

            fn take(&self, view: View<'_>) -> Result<Self::Value, StepError> {
                let ($($name,)+) = self;
                Ok(($($name.take(view)?,)+))
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
