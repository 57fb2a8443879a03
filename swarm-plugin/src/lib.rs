#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(feature = "native", feature = "wasm")), forbid(unsafe_code))]
#![cfg_attr(any(feature = "native", feature = "wasm"), deny(unsafe_code))]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(all(
        feature = "native",
        feature = "process",
        feature = "serve_mcp",
        feature = "testing",
        feature = "wasm"
    )),
    allow(rustdoc::broken_intra_doc_links, reason = "the page speaks of every feature")
)]

mod brake;
mod call;
mod catalogue;
mod contained;
mod digest;
mod discovery;
mod error;
mod event;
mod function;
mod info;
mod lease;
mod loader;
mod manager;
mod manifest;
mod measure;
#[cfg(feature = "native")]
#[allow(unsafe_code, reason = "it calls functions of libraries, and is called by those of hosts")]
mod native;
mod plugin;
#[cfg(feature = "process")]
mod process;
mod requirement;
mod schema;
#[cfg(feature = "serve_mcp")]
mod serve_mcp;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "wasm")]
mod wasm;

pub use call::{CallContext, CallOptions, Progress};
pub use digest::Digest;
pub use discovery::{Found, PluginDiscovery, PublicKey, Unusable};
pub use error::{Error, ErrorKind, Problem, Result};
pub use event::{Event, EventKind, Stage};
pub use function::FnPlugin;
pub use info::{PluginInfo, Status};
pub use loader::{Load, Loader};
pub use manager::{PluginManager, PluginManagerBuilder};
#[cfg(feature = "wasm")]
#[cfg_attr(docsrs, doc(cfg(feature = "wasm")))]
pub use manifest::Access;
pub use manifest::{Limits, Manifest, ManifestBuilder};
#[cfg(feature = "native")]
#[cfg_attr(docsrs, doc(cfg(feature = "native")))]
pub use native::NativeLoader;
#[cfg(feature = "native")]
#[doc(hidden)]
pub use native::guest as __native;
pub use plugin::{Plugin, PluginError};
#[cfg(feature = "process")]
#[cfg_attr(docsrs, doc(cfg(feature = "process")))]
pub use process::ProcessLoader;
pub use requirement::Requirement;
pub use semver::{Version, VersionReq};
#[cfg(feature = "serve_mcp")]
#[cfg_attr(docsrs, doc(cfg(feature = "serve_mcp")))]
pub use serve_mcp::{Authorizer, McpClient, McpServer};
pub use stats::Stats;
pub use tokio_util::sync::CancellationToken;
#[cfg(feature = "wasm")]
#[cfg_attr(docsrs, doc(cfg(feature = "wasm")))]
pub use wasm::WasmLoader;
