//! What the tests of a plugin or a host need: a folder to drop plugins into, and the contract of
//! [`Plugin`](crate::Plugin) as a list of checks.

pub mod conformance;
mod folder;

pub use folder::PluginFolder;

/// What a program says once it has greeted: how many of its tools would be plugins. For the fuzz targets, and no part of the API.
#[cfg(feature = "process")]
#[doc(hidden)]
pub async fn said_by_a_program(bytes: &[u8]) -> usize {
    crate::process::said(bytes).await
}
