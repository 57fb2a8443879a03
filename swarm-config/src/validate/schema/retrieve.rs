//! Documents that a schema refers to, from who gives them.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jsonschema::Uri;
use serde_json::Value as Json;

use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::validate::guard;

type Fetched = Result<Json, Box<dyn std::error::Error + Send + Sync>>;

pub(in crate::validate) type Retrieve = dyn Fn(&str) -> Fetched + Send + Sync;

/// Documents that a schema may lead to, each fetched once.
const DOCUMENTS: usize = 1000;

/// Fetches for whoever looks at a schema first, and gives the compiler what was seen then.
#[derive(Clone)]
pub(in crate::validate) struct Retriever {
    retrieve: Option<Arc<Retrieve>>,
    limits: Limits,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    documents: HashMap<String, Json>,
    /// Why one could not be fetched, in words of ours.
    refused: Option<Error>,
}

impl Retriever {
    pub(in crate::validate) fn new(retrieve: Option<Arc<Retrieve>>, limits: &Limits) -> Retriever {
        Retriever { retrieve, limits: limits.clone(), held: Arc::default() }
    }

    /// Why one could not be fetched, in words of ours.
    pub(super) fn refused(&self) -> Option<Error> {
        self.held().refused.take()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, error: Error) -> Fetched {
        let message = error.to_string();
        self.held().refused = Some(error);
        Err(message.into())
    }
}

impl jsonschema::Retrieve for Retriever {
    fn retrieve(&self, uri: &Uri<String>) -> Fetched {
        let uri = uri.as_str();
        if let Some(known) = self.held().documents.get(uri) {
            return Ok(known.clone());
        }
        let Some(retrieve) = &self.retrieve else {
            let what = "give `ConfigValidatorBuilder::retriever` what does";
            let message = format!("the schema is not usable: nothing retrieves {uri}; {what}");
            return self.refuse(Error::new(ErrorKind::Schema, message));
        };
        if self.held().documents.len() >= DOCUMENTS {
            let message = format!("the schema leads to more than {DOCUMENTS} documents");
            return self.refuse(Error::new(ErrorKind::Limit, message));
        }
        let Ok(fetched) = catch_unwind(AssertUnwindSafe(|| retrieve(uri))) else {
            return Err(format!("the retriever panicked at {uri}").into());
        };
        let schema = fetched?;
        if let Err(error) = guard::deep(&schema, 0, &self.limits) {
            return self.refuse(error);
        }
        self.held().documents.insert(uri.to_owned(), schema.clone());
        Ok(schema)
    }
}
