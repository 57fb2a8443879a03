//! What a program writes, line by line.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Bytes of one message, with the end of its line.
pub(super) const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;
/// So much of the beginning and of the end of a line that is too long is remembered, to find its number.
const REMEMBERED: usize = 512;
/// Read at once, and kept between lines.
const CHUNK: usize = 16 * 1024;

/// Lines of up to so many bytes each. Of a longer one only the number of the call that it answers is told, which would wait for
/// it in vain.
pub(super) struct Frames<R> {
    from: BufReader<R>,
    limit: usize,
    /// The line up to where it was read, or the end of that.
    line: Vec<u8>,
    /// The beginning of a line that is too long.
    begin: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Frame<'f> {
    /// A line, with its end.
    Message(&'f [u8]),
    TooLong(Option<u64>),
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// `limit` is not zero.
    pub(super) fn new(from: R, limit: usize) -> Frames<R> {
        Frames { from: BufReader::with_capacity(CHUNK, from), limit, line: Vec::new(), begin: None }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The next line that has an end; `None` when nothing more comes. Dropped at any await, it loses nothing.
    pub(super) async fn next(&mut self) -> Option<Frame<'_>> {
        // The one that was told last.
        if self.line.ends_with(b"\n") {
            self.line.clear();
            self.line.shrink_to(CHUNK);
            self.begin = None;
        }
        loop {
            let most = if self.begin.is_none() { self.limit } else { REMEMBERED + CHUNK };
            let room = most - self.line.len();
            (&mut self.from).take(room as u64).read_until(b'\n', &mut self.line).await.ok()?;
            if self.line.ends_with(b"\n") {
                break;
            }
            if self.line.len() < most {
                return None;
            }
            let line = &mut self.line;
            self.begin.get_or_insert_with(|| line[..line.len().min(REMEMBERED)].to_vec());
            line.drain(..line.len().saturating_sub(REMEMBERED));
            line.shrink_to(REMEMBERED + CHUNK);
        }
        Some(match &self.begin {
            None => Frame::Message(&self.line),
            Some(begin) => Frame::TooLong(answered(begin, &self.line)),
        })
    }
}

/// The number of the request that a line answers. It stands before what is long, or after it.
fn answered(begin: &[u8], end: &[u8]) -> Option<u64> {
    match head(begin) {
        Head::Request => None,
        Head::Other(id) => id.or_else(|| last_id(end)),
    }
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
    use super::*;

    /// The lines, and what is in place of those that are too long.
    async fn told(text: &str, limit: usize) -> String {
        let mut frames = Frames::new(text.as_bytes(), limit);
        let mut told = String::new();
        while let Some(frame) = frames.next().await {
            match frame {
                Frame::Message(line) => told += str::from_utf8(line).unwrap(),
                Frame::TooLong(id) => told += &format!("{id:?}\n"),
            }
        }
        told
    }

    #[tokio::test]
    async fn lines_are_told_as_they_are_and_of_one_that_is_too_long_its_number() {
        let long = "x".repeat(100_000);
        let short = "{\"id\":1,\"result\":{}}\n\n{\"id\":2}\n";
        assert_eq!(told(short, 64).await, short);
        for limit in [64, 1000, 60_000, 100_000] {
            let text = format!("{{\"id\":7,\"result\":\"{long}\"}}\n{short}");
            assert_eq!(told(&text, limit).await, format!("Some(7)\n{short}"));
            let text = format!("{{\"result\":\"{long}\",\"id\":7}}\n{short}");
            assert_eq!(told(&text, limit).await, format!("Some(7)\n{short}"));
            // Nobody waits for what has no number.
            let asked = format!("{{\"method\":\"ask\",\"params\":\"{long}\",\"id\":1}}\n");
            for text in [format!("{long}x\n"), format!("{{\"method\":\"{long}\"}}\n"), asked] {
                assert_eq!(told(&(text + short), limit).await, format!("None\n{short}"));
            }
        }
        // Not too long by one byte, and too long by one: the end of the line counts.
        let line = "{\"id\":1,\"result\":{}}\n";
        assert_eq!(told(line, line.len()).await, line);
        assert_eq!(told(line, line.len() - 1).await, "Some(1)\n");
        // What has no end is not a line.
        for text in ["", "{\"id\":1}", &long] {
            assert_eq!(told(text, 64).await, "", "{text}");
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
