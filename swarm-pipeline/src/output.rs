//! Values that steps pass on: typed in memory, JSON in the log.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::scheduler::Task;
use crate::step_error::{StepError, StepErrorKind};

/// What a step may return: anything that can be written as JSON and read back. Implemented for all such types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the output of a step",
    note = "outputs are kept in the log: derive `serde::Serialize` and `serde::Deserialize`, own all data, be `Send + Sync`"
)]
pub trait StepOutput: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> StepOutput for T {}

pub(crate) trait AnyOutput: Any {
    fn encode(&self) -> serde_json::Result<Box<RawValue>>;
}

impl<T: StepOutput> AnyOutput for T {
    fn encode(&self) -> serde_json::Result<Box<RawValue>> {
        serde_json::value::to_raw_value(self)
    }
}

/// An output whose type only the step knows.
pub(crate) type Output = Arc<dyn AnyOutput + Send + Sync>;

/// Reads an output of type `T` from its JSON.
pub(crate) fn decode<T: StepOutput>(json: &str) -> serde_json::Result<Output> {
    Ok(Arc::new(serde_json::from_str::<T>(json)?))
}

/// The output as a `T`: the value itself where it is one, or else read from its JSON form.
pub(crate) fn typed<T: StepOutput>(output: &Output) -> Result<Arc<T>, StepError> {
    let any: Arc<dyn Any + Send + Sync> = Arc::clone(output) as _;
    any.downcast::<T>().or_else(|_| {
        let read = output.encode().and_then(|json| serde_json::from_str(json.get()));
        read.map(Arc::new).map_err(|error| {
            let wanted = std::any::type_name::<T>();
            StepError::of(StepErrorKind::BadValue, format_args!("the output is no {wanted}: {error}"))
        })
    })
}

/// The outputs of a run so far, by step and, for fan-out steps, by item.
#[derive(Default)]
pub(crate) struct Outputs {
    pub(crate) steps: Vec<Option<Output>>,
    pub(crate) items: HashMap<u32, Vec<Option<Output>>>,
}

impl Outputs {
    /// Keeps the output of an item, of which the step has so many.
    pub(crate) fn put_item(&mut self, task: Task, count: Option<u32>, output: Output) {
        let Some(count) = count else { return };
        let items = self.items.entry(task.step).or_insert_with(|| vec![None; count as usize]);
        if let Some(slot) = items.get_mut(task.item as usize) {
            *slot = Some(output);
        }
    }
}

/// The outputs as a step sees them that was numbered in a pipeline of its own: from `base` on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(crate) outputs: &'a Outputs,
    pub(crate) base: u32,
}

impl View<'_> {
    pub(crate) fn get(&self, step: u32) -> Option<&Output> {
        self.outputs.steps.get((self.base + step) as usize)?.as_ref()
    }

    pub(crate) fn typed<T: StepOutput>(&self, step: u32) -> Result<Arc<T>, StepError> {
        let missing = || StepError::of(StepErrorKind::BadValue, "an input has no value");
        typed(self.get(step).ok_or_else(missing)?)
    }
}

/// The outputs of a fan-out step, in the order of the list it ran over.
#[derive(Debug, PartialEq, Eq)]
pub struct Items<T>(Vec<Arc<T>>);

impl<T> Clone for Items<T> {
    fn clone(&self) -> Self {
        Items(self.0.clone())
    }
}

impl<T> Deref for Items<T> {
    type Target = [Arc<T>];

    fn deref(&self) -> &[Arc<T>] {
        &self.0
    }
}

impl<'a, T> IntoIterator for &'a Items<T> {
    type Item = &'a Arc<T>;
    type IntoIter = std::slice::Iter<'a, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T> FromIterator<Arc<T>> for Items<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Self {
        Items(items.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for Items<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|item| &**item))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<T>::deserialize(deserializer)?;
        Ok(items.into_iter().map(Arc::new).collect())
    }
}

/// A list that a fan-out step can run over.
///
/// Implemented for `Vec<T>`, for the [`Items`] of another fan-out step, and for a JSON array. Sealed.
pub trait List: StepOutput + sealed::Sealed {
    /// What each task of the fan-out gets.
    type Item: Send + 'static;

    #[doc(hidden)]
    fn count(&self) -> Result<usize, StepError>;

    #[doc(hidden)]
    fn item(&self, index: usize) -> Self::Item;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for Vec<T> {}
    impl<T> Sealed for super::Items<T> {}
    impl Sealed for super::Value {}
}

impl<T: StepOutput + Clone> List for Vec<T> {
    type Item = T;

    fn count(&self) -> Result<usize, StepError> {
        Ok(self.len())
    }

    fn item(&self, index: usize) -> T {
        self[index].clone()
    }
}

impl<T: StepOutput> List for Items<T> {
    type Item = Arc<T>;

    fn count(&self) -> Result<usize, StepError> {
        Ok(self.len())
    }

    fn item(&self, index: usize) -> Arc<T> {
        Arc::clone(&self.0[index])
    }
}

impl List for Value {
    type Item = Value;

    fn count(&self) -> Result<usize, StepError> {
        let wrong =
            || StepError::of(StepErrorKind::BadValue, "a fan-out needs a list, and its input is none");
        self.as_array().map(Vec::len).ok_or_else(wrong)
    }

    fn item(&self, index: usize) -> Value {
        self[index].clone()
    }
}
