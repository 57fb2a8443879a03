//! JSON with positions. Structure is read here; texts and numbers are left to `serde_json`.

use std::collections::HashSet;

use super::tree::{DEPTH_LIMIT, Data, Fault, Item, Key};

pub(super) fn read(text: &str) -> Result<Item, Fault> {
    let mut reader = Reader { text, at: 0 };
    let item = reader.value(0)?;
    match reader.peek() {
        None => Ok(item),
        Some(_) => Err(reader.fault("nothing may follow the value")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn fault(&self, message: &str) -> Fault {
        Fault::new(self.at as u32, message)
    }

    fn bytes(&self) -> &'t [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is no white space, without passing it.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.bytes()[self.at..];
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    fn value(&mut self, depth: usize) -> Result<Item, Fault> {
        let next = self.peek();
        let at = self.at as u32;
        if depth > DEPTH_LIMIT {
            return Err(self.fault(&format!("nested more than {DEPTH_LIMIT} deep")));
        }
        let data = match next {
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Data::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word()?,
            None => return Err(self.fault("the file ends where a value should be")),
            Some(_) => return Err(self.fault("expected a JSON value")),
        };
        Ok(Item { at, data })
    }

    fn table(&mut self, depth: usize) -> Result<Data, Fault> {
        self.at += 1;
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Data::Table(entries));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.fault("expected a key in quotes"));
            }
            let key = Key { at: self.at as u32, name: self.string()? };
            if !seen.insert(key.name.clone()) {
                return Err(Fault::new(key.at, format!("the key {:?} is given twice", key.name)));
            }
            if self.peek() != Some(b':') {
                return Err(self.fault("expected `:` after the key"));
            }
            self.at += 1;
            entries.push((key, self.value(depth + 1)?));
            if self.ends(b'}')? {
                return Ok(Data::Table(entries));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Data, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Data::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.ends(b']')? {
                return Ok(Data::List(items));
            }
        }
    }

    /// Passes a comma, or the byte that ends the list or table.
    fn ends(&mut self, end: u8) -> Result<bool, Fault> {
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == end => {
                self.at += 1;
                return Ok(true);
            }
            Some(_) => return Err(self.fault(&format!("expected `,` or `{}`", end as char))),
            None => return Err(self.fault(&format!("the file ends before `{}`", end as char))),
        }
        Ok(false)
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        let mut end = start + 1;
        loop {
            match self.bytes().get(end) {
                None => return Err(self.fault("a text that never ends")),
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        let quoted = self.text.get(start..self.at);
        quoted.and_then(|quoted| serde_json::from_str(quoted).ok()).ok_or_else(|| {
            Fault::new(start as u32, "a text with an unknown escape or a raw control character")
        })
    }

    fn number(&mut self) -> Result<Data, Fault> {
        let start = self.at;
        let rest = &self.bytes()[start..];
        let length = rest
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        self.at += length;
        let digits = &self.text[start..self.at];
        let bad = || Fault::new(start as u32, "a number that is not written as JSON wants it");
        let number: serde_json::Number = serde_json::from_str(digits).map_err(|_| bad())?;
        let whole = !digits.contains(['.', 'e', 'E']);
        if let Some(int) = number.as_i64().filter(|_| whole) {
            return Ok(Data::Int(int));
        }
        if let Some(big) = number.as_u64().filter(|_| whole) {
            return Ok(Data::Big(big));
        }
        let float = number.as_f64().filter(|float| float.is_finite() && !whole);
        float.map(Data::Float).ok_or_else(|| Fault::new(start as u32, "a number that does not fit 64 bits"))
    }

    fn word(&mut self) -> Result<Data, Fault> {
        let rest = &self.text[self.at..];
        let words = [("true", Data::Bool(true)), ("false", Data::Bool(false)), ("null", Data::Null)];
        for (word, data) in words {
            let after = rest.as_bytes().get(word.len());
            if rest.starts_with(word) && !after.is_some_and(u8::is_ascii_alphanumeric) {
                self.at += word.len();
                return Ok(data);
            }
        }
        Err(self.fault("expected a JSON value; texts stand in quotes"))
    }
}
