//! Who gets which version: weights, the table of slots, and the router that reads it.

mod deployment;
mod router;
mod slots;
mod split;

pub use deployment::{Deployment, DeploymentCause};
pub use router::{CachedRouter, Routed, Router, slot};
pub use split::Split;

pub(crate) use router::Routes;
pub(crate) use slots::Slots;
pub(crate) use split::WHOLE;
#[cfg(feature = "signatures")]
pub(crate) use split::named;
