/// The cyclomatic complexity of each function of a Rust source, after McCabe: one path, and one more for each decision.
///
/// Decisions are `if`, `while`, `for`, `&&`, `||`, `?`, and every arm of a `match` but one. Those of a closure count where it is
/// written. It reads words and signs and no grammar, so that the same can be written in any language:
/// `assets/plugins/cyclomatic/cyclomatic.py` gives the same answer. No file and no clock is needed for it, so that a sandbox that
/// has neither can run it.
#[must_use]
pub fn complexity(source: &str) -> Vec<(String, i64)> {
    let tokens = tokens(source);
    let word = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut found: Vec<(String, i64)> = Vec::new();
    // Functions that are open: which of those found, and how many braces were open before.
    let mut open: Vec<(usize, i64)> = Vec::new();
    // A function whose body did not begin yet, and what is open in its head.
    let (mut head, mut nested) = (None, 0);
    let (mut depth, mut names_a_trait) = (0, false);
    for (at, token) in tokens.iter().enumerate() {
        let before = if at == 0 { "" } else { word(at - 1) };
        match token.as_str() {
            "fn" if is_word(word(at + 1)) => (head, nested) = (Some(word(at + 1).to_owned()), 0),
            "(" | "[" => nested += 1,
            ")" | "]" => nested -= 1,
            ";" if nested == 0 => head = None,
            "{" => {
                if let Some(name) = head.take_if(|_| nested == 0) {
                    open.push((found.len(), depth));
                    found.push((name, 1));
                }
                names_a_trait = false;
                depth += 1;
            }
            "}" => {
                depth -= 1;
                open.pop_if(|(_, outside)| *outside == depth);
            }
            "impl" => names_a_trait = true,
            _ => {}
        }
        let paths = match token.as_str() {
            "if" | "while" | "=>" => 1,
            "match" => -1,
            "for" if word(at + 1) != "<" && !names_a_trait => 1,
            "&&" | "||" | "?" if is_operand(before) => 1,
            _ => 0,
        };
        if let Some((function, _)) = open.last() {
            found[*function].1 += paths;
        }
    }
    found
}

/// What stands for a text, a character or a number of bytes.
const LITERAL: &str = "\"";

fn is_word(token: &str) -> bool {
    token.starts_with(in_a_word)
}

fn in_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// Whether something was said that a sign between two things can stand behind.
fn is_operand(token: &str) -> bool {
    const NONE: [&str; 9] = ["return", "move", "in", "else", "match", "if", "while", "break", "let"];
    matches!(token, LITERAL | ")" | "]" | "}" | "?") || is_word(token) && !NONE.contains(&token)
}

/// Words, signs, and a mark for each literal. Comments are none of them.
fn tokens(source: &str) -> Vec<String> {
    let text: Vec<char> = source.chars().collect();
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(i, c)| text.get(at + i) == Some(&c));
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if starts(at, "//") {
            at += text[at..].iter().take_while(|&&c| c != '\n').count();
        } else if starts(at, "/*") {
            let mut depth = 0;
            while at < text.len() {
                if starts(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if starts(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                    if depth == 0 {
                        break;
                    }
                } else {
                    at += 1;
                }
            }
        } else if text[at] == '"' {
            at += 1;
            while at < text.len() && text[at] != '"' {
                at += if text[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            tokens.push(LITERAL.to_owned());
        } else if text[at] == '\'' && text.get(at + 1) == Some(&'\\') {
            at += 3;
            at += text[at.min(text.len())..].iter().take_while(|&&c| c != '\'').count() + 1;
            tokens.push(LITERAL.to_owned());
        } else if text[at] == '\'' && text.get(at + 2) == Some(&'\'') {
            at += 3;
            tokens.push(LITERAL.to_owned());
        } else if in_a_word(text[at]) {
            let word: String = text[at..].iter().take_while(|&&c| in_a_word(c)).collect();
            at += word.chars().count();
            let marks = text[at..].iter().take_while(|&&c| c == '#').count();
            if ["r", "br", "cr"].contains(&word.as_str()) && text.get(at + marks) == Some(&'"') {
                let end = format!("\"{}", "#".repeat(marks));
                at += marks + 1;
                while at < text.len() && !starts(at, &end) {
                    at += 1;
                }
                at += end.len();
                tokens.push(LITERAL.to_owned());
            } else {
                tokens.push(word);
            }
        } else {
            let pair = ["&&", "||", "=>", "->"].into_iter().find(|pair| starts(at, pair));
            let sign = pair.map_or_else(|| text[at].to_string(), str::to_owned);
            at += sign.len();
            if sign != " " && sign != "\n" {
                tokens.push(sign);
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_counted_where_they_are() {
        let source = r##"
            /* fn no() { if /* if */ } */ // if
            trait T { fn declared(&self) -> [u8; 2]; }
            impl T for X {
                fn plain<'a>(x: &'a str) -> char { let s = "if {"; let r = r#"if " {"#; '{' }
            }
            fn five(a: bool, b: bool) { if a && b {} else if a || b {} }
            fn outer() {
                fn inner(x: u8) { match x { 1 => '\'', 2 if x > 1 => '"', _ => 'c' }; }
                for x in xs { y(|| x.z()?, move || 1, &&x)?; }
                while let Some(f) = g::<fn(u8)>() { let f: impl for<'a> Fn(&'a u8) = h; }
            }
        "##;
        let expected = [("plain", 1), ("five", 5), ("outer", 5), ("inner", 4)];
        assert_eq!(complexity(source), expected.map(|(name, paths)| (name.to_owned(), paths)));
        // What is not Rust has an answer as well.
        for broken in ["\"", "'\\", "r#\"", "/*", "}}", "fn", "fn x", "'", "fn x() {"] {
            let _ = complexity(broken);
        }
    }
}
