//! What the crates are measured against.
//!
//! The bare ones do nothing but the job, without names, events, retries, or containment of panics: they mark
//! what is possible. The libraries are what people use.

#[cfg(feature = "peers")]
pub mod dagrs;
#[cfg(feature = "peers")]
pub mod dagx;
#[cfg(feature = "peers")]
pub mod durare;
pub mod inline;
pub mod join_set;
pub mod log;
#[cfg(feature = "peers")]
pub mod petgraph;
#[cfg(feature = "peers")]
pub mod redb;
mod step;
