use std::borrow::Cow;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The last bytes of a stream.
#[derive(Debug)]
pub(super) struct Captured {
    bytes: Vec<u8>,
    limit: usize,
    /// How many bytes came, kept or not.
    total: u64,
}

impl Captured {
    pub(super) fn new(limit: usize) -> Self {
        Captured { bytes: Vec::new(), limit, total: 0 }
    }

    /// Reads to the end. Cancel-safe: what was read stays.
    pub(super) async fn fill(&mut self, stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<()> {
        let Some(mut stream) = stream else { return Ok(()) };
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => self.push(&buffer[..read]),
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.bytes.extend(bytes);
        // Cut when twice the limit is there, so that each byte is moved once.
        if self.bytes.len() > self.limit.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..surplus);
    }

    /// Call once all is read.
    pub(super) fn end(&mut self) {
        self.cut();
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As text, and whether bytes that are not UTF-8 were replaced. A character that the limit cut in two is left out.
    pub(super) fn text(&self) -> (Cow<'_, str>, bool) {
        let mut bytes = &*self.bytes;
        if self.is_truncated() {
            let tail = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
            bytes = &bytes[tail..];
        }
        let text = String::from_utf8_lossy(bytes);
        let lossy = matches!(text, Cow::Owned(_));
        (text, lossy)
    }
}

#[cfg(test)]
mod tests {
    use super::Captured;

    #[test]
    fn the_tail_is_kept_whatever_the_pieces() {
        let all: Vec<u8> = (0..200).collect();
        for piece in [1, 3, 7, 50, 200] {
            for limit in [0, 1, 10, 199, 200, 201] {
                let mut captured = Captured::new(limit);
                all.chunks(piece).for_each(|bytes| captured.push(bytes));
                captured.end();
                assert_eq!(captured.bytes(), &all[200_usize.saturating_sub(limit)..]);
                assert_eq!(captured.is_truncated(), limit < 200);
            }
        }
    }

    #[test]
    fn a_character_cut_in_two_is_left_out() {
        let mut captured = Captured::new(4);
        captured.push("aéöü".as_bytes());
        captured.push("x".as_bytes());
        captured.end();
        assert_eq!(captured.text(), ("üx".into(), false));
        captured.push(b"\xffabc");
        captured.end();
        assert_eq!(captured.text(), ("\u{fffd}abc".into(), true));
    }
}
