//! Native libraries: the table of functions that they export, loaded into this process.

mod abi;
mod ask;
#[doc(hidden)]
pub mod guest;
mod image;
mod instance;
mod library;
mod threads;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use self::instance::NativePlugin;
use self::library::Libraries;
use self::threads::Threads;
use crate::discovery::Found;
use crate::loader::{Load, Loader};
use crate::plugin::PluginError;

/// Loads native libraries, `*.so`, `*.dylib` and `*.dll`, and folders of the kind `native`, into this process. **For code that
/// you trust like your own**: nothing holds it in.
///
/// Comes with the feature `native`, and is used where it is given to
/// [`PluginManagerBuilder::loader`](crate::PluginManagerBuilder::loader):
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use swarm_plugin::{Digest, NativeLoader, PluginManager};
///
/// // SAFETY: only the libraries that we built are allowed, and nobody else writes to their folder.
/// let native = unsafe { NativeLoader::new() };
/// let words: Digest = "sha256:0f6f2f6e4d0d1c5ad0c8a1f6a3dbb6d5f7b1b0a8d7e6c5b4a39281706f5e4d3c".parse()?;
/// let plugins = PluginManager::builder().folder("plugins").allow([words]).loader(native).start().await?;
/// # let _ = plugins;
/// # Ok(())
/// # }
/// ```
///
/// # Writing one
/// In Rust with [`native_plugin!`](crate::native_plugin), of any [`Plugin`](crate::Plugin). In C, C++ and whatever speaks C with
/// the header `include/swarm_plugin.h` of this crate, which says what both sides may rely on:
///
/// ```c
#[doc = include_str!("../tests/programs/words.c")]
/// ```
///
/// A file is called as the library says, whatever the name of the file. Of a folder with `plugin.toml`, the library is what
/// `command` names, or else its only one. Name and version there must be what the library says; for the rest, what stands there is
/// stronger, but that `concurrency` is never more than the library says.
///
/// # How it is loaded
/// A file is read first, without loading it: it must be a whole library that exports `swarm_plugin_v1`. It is loaded from its
/// private copy, which nobody writes to any more; to cut off a library that is loaded would end the process. It is never
/// unloaded, since code of it may run and its destructors may be anywhere: each new version stays in memory, and its copy on the
/// disk, until the process ends; [`generations`](NativeLoader::generations) bounds how many do. The same file or folder is loaded
/// once; a folder in which anything is another, `plugin.toml` included, is another one.
///
/// What a library needs of other libraries it finds as the system does, by name among those that are loaded: a second library
/// in a folder is not replaced by a reload where it keeps its name. Link it statically, or name it anew with each version.
///
/// # How it is called
/// On threads of its own, so that a call which does not return holds up nobody else: its caller has an answer at the deadline,
/// and the thread is lost until the call returns. The calls of one instance take at most half of the threads; more of them wait
/// within their deadlines. A call that was given up counts for `concurrency` until it returns. An instance in which eight of them
/// go on, or as many as its `concurrency`, takes no more calls; what they work with is not freed before they return.
///
/// A library that sets `SWARM_INLINE` is called on the caller's thread instead, which is some microseconds faster, and where
/// nothing bounds how long it takes.
///
/// # Contained, and not
/// Contained: a panic of a plugin in Rust that is built to unwind; answers that are too long, no JSON or no UTF-8; a call, a
/// check or a cleanup that does not return, as far as that is possible; a file that is cut off, is no library, or is written
/// for another version of the interface; [row by row](crate#what-a-plugin-can-do-to-your-service). **Not contained**: a crash,
/// an abort, an exit, an exception of C++, an overflow of the stack, memory that it takes or overwrites, files and network,
/// signal handlers and whatever else belongs to the process. Nothing tells a library that was damaged on purpose from one that
/// was not, but for [`allow`](crate::PluginManagerBuilder::allow). A constructor that does not return holds up every other
/// library of the process.
#[derive(Clone)]
#[must_use]
pub struct NativeLoader {
    libraries: Arc<Libraries>,
    threads: Threads,
}

impl NativeLoader {
    /// A loader that loads up to 256 libraries, and calls them on up to 256 threads. Clones share what is loaded.
    ///
    /// # Safety
    /// You promise, of every library that this loader will be given — whatever stands in the folders of the manager and is
    /// [allowed](crate::PluginManagerBuilder::allow), also later:
    ///
    /// - To load it is sound: what it runs then does nothing that Rust forbids.
    /// - Its `swarm_plugin_v1`, and the functions that this answers, do what `include/swarm_plugin.h` says.
    ///
    /// Who can write to these folders can run code in your process.
    pub unsafe fn new() -> NativeLoader {
        NativeLoader { libraries: Arc::new(Libraries::new(256)), threads: Threads::new(256) }
    }

    /// How many different libraries may be loaded, since none is unloaded. One more is refused, and what serves goes on. 256, for
    /// all clones.
    pub fn generations(self, count: usize) -> Self {
        self.libraries.limit(count);
        self
    }

    /// On how many threads libraries are called; more calls wait, within their deadlines. Calls that do not return count, and
    /// those of one instance have at most half of the threads that are allowed when it is loaded. 256, at least 1, for all clones.
    pub fn threads(self, count: usize) -> Self {
        self.threads.limit(count);
        self
    }

    /// How many libraries are loaded.
    pub fn loaded(&self) -> usize {
        self.libraries.count()
    }

    /// How many threads are in calls that nobody waits for any more.
    pub fn lost(&self) -> usize {
        self.threads.lost()
    }
}

impl fmt::Debug for NativeLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeLoader")
            .field("loaded", &self.loaded())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Loader for NativeLoader {
    fn kind(&self) -> &str {
        "native"
    }

    async fn load(&self, found: &Found) -> Result<Load, PluginError> {
        let path = found.module()?;
        let (found, libraries) = (found.clone(), self.libraries.clone());
        let threads = self.threads.clone();
        let make = move |ticket: &threads::Ticket| {
            // SAFETY: the promise to `NativeLoader::new`.
            let loaded = unsafe { libraries.load(&found, &path) };
            let library = loaded.map_err(PluginError::new)?;
            // SAFETY: the same promise.
            unsafe { NativePlugin::new(&library, threads, &found, ticket) }
        };
        Ok(self.threads.run(&Arc::default(), make).await??.into())
    }
}
