//! Answers that are too long to be read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of one message, with the end of its line. A longer one is dropped by whoever reads.
pub(super) const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;
/// The `data` of the failure of a call whose answer was too long.
pub(super) const TOO_LARGE: &str = "swarm-plugin: too large";
/// So much of the beginning and of the end of a line is remembered, to find its number.
const REMEMBERED: usize = 512;

/// What a program writes, unchanged, but that a line which is too long is followed by one that says so: the failure of the call
/// that it answers, which would wait for it in vain.
pub(super) struct Frames<R> {
    inner: R,
    limit: usize,
    line: Line,
    /// Read and not passed on yet.
    chunk: Box<[u8]>,
    passed: usize,
    read: usize,
    /// To be passed on before the rest.
    failure: io::Cursor<Vec<u8>>,
}

impl<R> Frames<R> {
    pub(super) fn new(inner: R, limit: usize) -> Frames<R> {
        let chunk = vec![0; 8 * 1024].into();
        Frames {
            inner,
            limit,
            line: Line::default(),
            chunk,
            passed: 0,
            read: 0,
            failure: io::Cursor::default(),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Frames<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let failure = this.failure.get_ref().get(this.failure.position() as usize..).unwrap_or_default();
        if !failure.is_empty() {
            let length = failure.len().min(into.remaining());
            into.put_slice(&failure[..length]);
            this.failure.set_position(this.failure.position() + length as u64);
            return Poll::Ready(Ok(()));
        }
        if this.passed == this.read {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.inner).poll_read(task, &mut chunk))?;
            (this.passed, this.read) = (0, chunk.filled().len());
        }
        let length = into.remaining().min(this.read - this.passed);
        let bytes = &this.chunk[this.passed..this.passed + length];
        let (length, failure) = this.line.pass(bytes, this.limit);
        into.put_slice(&bytes[..length]);
        this.passed += length;
        this.failure = io::Cursor::new(failure.unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

/// What is known of the line that is being read.
#[derive(Default)]
struct Line {
    length: usize,
    begin: Vec<u8>,
    /// Kept only of lines that are about to be too long.
    end: Vec<u8>,
}

impl Line {
    /// Takes note of bytes up to the end of the first line that is too long. Answers how many these are, and what is to be
    /// said of that line.
    fn pass(&mut self, bytes: &[u8], limit: usize) -> (usize, Option<Vec<u8>>) {
        let mut passed = 0;
        while let Some(length) = bytes[passed..].iter().position(|&byte| byte == b'\n') {
            self.note(&bytes[passed..passed + length], limit);
            passed += length + 1;
            let line = std::mem::take(self);
            if line.length >= limit
                && let Some(id) = line.id()
            {
                return (passed, Some(too_long(id, limit)));
            }
        }
        self.note(&bytes[passed..], limit);
        (bytes.len(), None)
    }

    fn note(&mut self, bytes: &[u8], limit: usize) {
        let room = REMEMBERED - self.begin.len().min(REMEMBERED);
        self.begin.extend(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len();
        if self.length + REMEMBERED >= limit {
            self.end.extend(&bytes[bytes.len().saturating_sub(REMEMBERED)..]);
            let surplus = self.end.len().saturating_sub(REMEMBERED);
            self.end.drain(..surplus);
        }
    }

    /// The number of the request that the line answers. It stands before what is long, or after it.
    fn id(&self) -> Option<u64> {
        match head(&self.begin) {
            Head::Request => None,
            Head::Other(id) => id.or_else(|| last_id(&self.end)),
        }
    }
}

fn too_long(id: u64, limit: usize) -> Vec<u8> {
    let message = format!("the answer is over {limit} bytes");
    let line = r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"data":"DATA","message":"MESSAGE"}}"#;
    let line = line.replace("ID", &id.to_string()).replace("MESSAGE", &message).replace("DATA", TOO_LARGE);
    (line + "\n").into_bytes()
}

/// What the beginning of an object says of it.
#[derive(Debug, PartialEq)]
enum Head {
    /// The other side's own, whose `id` is none of ours.
    Request,
    /// With the member `id`, where that is there.
    Other(Option<u64>),
}

fn head(text: &[u8]) -> Head {
    let mut id = None;
    let mut rest = text.trim_ascii_start().strip_prefix(b"{");
    while let Some((key, value)) = rest.and_then(member) {
        match key {
            b"method" => return Head::Request,
            // A number that is cut off is another one.
            b"id" => id = number(value).filter(|(_, rest)| !rest.is_empty()).map(|(id, _)| id),
            _ => {}
        }
        rest = after_value(value).and_then(|rest| rest.strip_prefix(b","));
    }
    Head::Other(id)
}

/// A key, and the text that its value begins.
fn member(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, rest) = string(text.trim_ascii_start())?;
    Some((key, rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start()))
}

/// The member `id` of an object of which this is the end, where nothing or the version of the protocol follows it.
fn last_id(text: &[u8]) -> Option<u64> {
    let members = text.trim_ascii_end().strip_suffix(b"}")?;
    let at = members.windows(4).rposition(|word| word == b"\"id\"")?;
    let (before, after) = (members[..at].trim_ascii_end(), &members[at + 4..]);
    if !before.ends_with(b",") {
        return None;
    }
    let (id, rest) = number(after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())?;
    let rest: Vec<u8> = rest.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    matches!(&*rest, b"" | b",\"jsonrpc\":\"2.0\"").then_some(id)
}

/// What stands between quotes, with its escapes, and what follows.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let mut at = 0;
    while *text.get(at)? != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    Some((&text[..at], &text[at + 1..]))
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((str::from_utf8(&text[..digits]).ok()?.parse().ok()?, &text[digits..]))
}

/// What follows the value that the text begins with.
fn after_value(mut text: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    loop {
        text = match text.first()? {
            b'"' => string(text)?.1,
            b',' | b'}' | b']' if depth == 0 => return Some(text),
            b'{' | b'[' => {
                depth += 1;
                &text[1..]
            }
            b'}' | b']' => {
                depth -= 1;
                &text[1..]
            }
            _ => &text[1..],
        };
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn passed(text: &str, limit: usize) -> String {
        let mut out = String::new();
        Frames::new(text.as_bytes(), limit).read_to_string(&mut out).await.unwrap();
        out
    }

    #[tokio::test]
    async fn lines_pass_as_they_are_and_one_that_is_too_long_is_followed_by_its_failure() {
        let long = "x".repeat(100);
        let short = "{\"id\":1,\"result\":{}}\n\n{\"id\":2}\n";
        assert_eq!(passed(short, 64).await, short);
        let text = format!("{{\"id\":7,\"result\":\"{long}\"}}\n{short}");
        let failure = String::from_utf8(too_long(7, 64)).unwrap();
        assert!(failure.contains("\"id\":7") && failure.contains("the answer is over 64 bytes"), "{failure}");
        assert_eq!(passed(&text, 64).await, text.replace(short, &format!("{failure}{short}")));
        // Not too long by one byte, and too long by one: the end of the line counts.
        let line = "{\"id\":1}\n";
        assert_eq!(passed(line, line.len()).await, line);
        assert!(passed(line, line.len() - 1).await.contains("is over 8 bytes"));
        // Nobody waits for what has no number.
        let asked = format!("{{\"method\":\"ask\",\"params\":\"{long}\",\"id\":1}}\n");
        for text in [format!("{long}\n"), format!("{{\"method\":\"{long}\"}}\n"), asked, long.clone()] {
            assert_eq!(passed(&text, 64).await, text);
        }
    }

    #[test]
    fn the_number_is_found_where_it_stands_and_nowhere_else() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":5,"result":{"#, Some(5)),
            (r#" { "jsonrpc" : "2.0" , "id" : 5 , "#, Some(5)),
            (r#"{"a":[{"id":1},"}"],"b":-1.5e3,"id":5,"#, Some(5)),
            (r#"{"a\"":"\\","id":5}"#, Some(5)),
            (r#"{"result":{"id":1,"x":"#, None),
            (r#"{"result":"\"id\":1,"#, None),
            (r#"{"id":"5","#, None),
            (r#"{"id":5"#, None),
            (r#"{"id":99999999999999999999,"#, None),
            ("[1,", None),
            ("", None),
        ] {
            assert_eq!(head(text.as_bytes()), Head::Other(expected), "{text}");
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{"#,
            r#"{"method":"notifications/progress","params":{"#,
        ] {
            assert_eq!(head(text.as_bytes()), Head::Request, "{text}");
        }
        for (text, expected) in [
            (r#"xxx"},"id":5}"#, Some(5)),
            (r#"xxx"}, "id" : 5 , "jsonrpc" : "2.0" } "#, Some(5)),
            (r#"xxx"},"id":5,"jsonrpc":"2.0"}"#, Some(5)),
            (r#""id":5},"jsonrpc":"2.0"}"#, None),
            (r#"{"id":5}}"#, None),
            (r#"x,"id":5,"other":1}"#, None),
            ("", None),
        ] {
            assert_eq!(last_id(text.as_bytes()), expected, "{text}");
        }
    }
}
