//! What a component prints, to the log line by line.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    begun: [Mutex<Line>; 2],
}

impl Lines {
    pub(super) fn new(plugin: Arc<str>) -> Self {
        Lines(Arc::new(Inner { plugin, left: AtomicU32::new(LINES), begun: Default::default() }))
    }

    /// Says that a call begins, which may write as much as any.
    pub(super) fn begin(&self) {
        self.0.left.store(LINES, Relaxed);
    }

    /// Tells what was begun of a line in a call that ended.
    pub(super) fn end(&self) {
        self.0.end();
    }

    /// The name to log under, if there may be another line.
    pub(super) fn next(&self) -> Option<&str> {
        self.0.next()
    }

    /// Where it prints, and where it prints its errors.
    pub(super) fn streams(&self) -> [Printed; 2] {
        [0, 1].map(|number| Printed { lines: self.clone(), number })
    }
}

impl Inner {
    fn next(&self) -> Option<&str> {
        let left = self.left.load(Relaxed);
        self.left.store(left.saturating_sub(1), Relaxed);
        (left > 0).then_some(&*self.plugin)
    }

    fn line(&self, number: usize) -> MutexGuard<'_, Line> {
        self.begun[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        for number in 0..self.begun.len() {
            self.line(number).end(|line| self.tell(line));
        }
    }

    fn tell(&self, line: &[u8]) {
        if let Some(plugin) = self.next() {
            tracing::info!(target: "swarm_plugin::wasm", plugin, "{}", plain(&String::from_utf8_lossy(line)));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

/// What was printed since the last line ended.
#[derive(Debug, Default)]
struct Line(Vec<u8>);

impl Line {
    fn write(&mut self, bytes: &[u8], tell: impl Fn(&[u8])) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            for piece in part.chunks(LENGTH) {
                self.0.extend_from_slice(piece);
                if self.0.len() >= LENGTH || piece.ends_with(b"\n") {
                    self.end(&tell);
                }
            }
        }
    }

    fn end(&mut self, tell: impl Fn(&[u8])) {
        if !self.0.is_empty() {
            tell(&self.0);
            self.0.clear();
        }
    }
}

/// One of the two streams of an instance.
#[derive(Debug, Clone)]
pub(super) struct Printed {
    lines: Lines,
    number: usize,
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

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Of WASI 0.3, which is not offered.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let Lines(lines) = &self.lines;
        lines.line(self.number).write(&bytes, |line| lines.tell(line));
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
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_line_ends_at_its_end_where_it_is_long_and_with_the_call() {
        let (mut line, told) = (Line::default(), RefCell::new(Vec::new()));
        let tell = |line: &[u8]| told.borrow_mut().push(line.to_vec());
        line.write(b"one\ntw", tell);
        line.write(b"o\nthree", tell);
        assert_eq!(told.take(), [b"one\n".to_vec(), b"two\n".to_vec()]);
        line.end(tell);
        line.end(tell);
        assert_eq!(told.take(), [b"three".to_vec()]);
        line.write(&[b'x'; LENGTH + 1], tell);
        assert_eq!(told.take(), [[b'x'; LENGTH].to_vec()]);
    }

    #[test]
    fn streams_share_the_number_of_lines_and_nothing_else() {
        let lines = Lines::new("tool".into());
        let [mut out, mut err] = lines.streams();
        OutputStream::write(&mut out, Bytes::from_static(b"out")).unwrap();
        OutputStream::write(&mut err, Bytes::from_static(b"err")).unwrap();
        assert_eq!((&*lines.0.line(0).0, &*lines.0.line(1).0), (&b"out"[..], &b"err"[..]));
        lines.end();
        assert!(lines.0.line(0).0.is_empty() && lines.0.line(1).0.is_empty());
        assert_eq!(lines.0.left.load(Relaxed), LINES - 2);
    }
}
