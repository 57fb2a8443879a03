//! What the tests of a plugin or a host need: a folder to drop plugins into, and the contract of
//! [`Plugin`](crate::Plugin) as a list of checks.

pub mod conformance;
mod folder;

pub use folder::PluginFolder;
