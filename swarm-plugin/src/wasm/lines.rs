//! What a component prints, to the log line by line.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Lines of one call.
const LINES: u32 = 1_000;
/// Bytes of one line; the rest of a longer one is a line of its own.
const LENGTH: usize = 4 * 1024;

/// The lines of one instance, of both its streams. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plugin: Arc<str>,
    left: AtomicU32,
    begun: Mutex<Vec<u8>>,
}

impl Lines {
    pub(super) fn new(plugin: Arc<str>) -> Self {
        Lines(Arc::new(Inner { plugin, left: AtomicU32::new(LINES), begun: Mutex::default() }))
    }

    /// Says that a call begins, which may write as much as any.
    pub(super) fn begin(&self) {
        self.0.left.store(LINES, Relaxed);
    }

    /// The name to log under, if there may be another line.
    pub(super) fn next(&self) -> Option<&str> {
        let left = self.0.left.load(Relaxed);
        self.0.left.store(left.saturating_sub(1), Relaxed);
        (left > 0).then_some(&*self.0.plugin)
    }

    fn write(&self, bytes: &[u8]) {
        let mut begun = self.0.begun.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            for piece in part.chunks(LENGTH) {
                begun.extend_from_slice(piece);
                if begun.len() >= LENGTH || piece.ends_with(b"\n") {
                    self.tell(&begun);
                    begun.clear();
                }
            }
        }
    }

    fn tell(&self, line: &[u8]) {
        if let Some(plugin) = self.next() {
            tracing::info!(target: "swarm_plugin::wasm", plugin, "{}", plain(&String::from_utf8_lossy(line)));
        }
    }
}

/// A message of a component, cut and without what a terminal would obey.
pub(super) fn plain(message: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
    let mut length = 0;
    let fits = |c: &char| {
        length += c.len_utf8();
        length <= LENGTH
    };
    message.trim_end().chars().take_while(fits).map(plain).collect()
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Of WASI 0.3, which is not offered.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Lines::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}
