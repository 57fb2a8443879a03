use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::ops::Range;

use crate::source::Source;

/// Whether rendered text carries colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Color {
    /// Where standard error is a terminal and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    fn on(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::io::stderr().is_terminal()
            }
        }
    }
}

/// Characters of a line that are shown; minified files have lines of megabytes.
const WIDTH: usize = 100;

/// A message, and the lines of the source that it is about.
pub(crate) struct Frame<'a> {
    pub(crate) label: &'a str,
    pub(crate) message: &'a str,
    pub(crate) at: Option<(&'a Source, Range<usize>)>,
    /// Whether lines may be shown at all.
    pub(crate) show: bool,
    /// Bytes that are shown as asterisks.
    pub(crate) masked: &'a [Range<usize>],
    pub(crate) notes: &'a [String],
}

impl Frame<'_> {
    pub(crate) fn render(&self, color: Color) -> String {
        let on = color.on();
        let paint = |code: &str, text: &str| {
            if on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let accent = if self.label == "warning" { "1;33" } else { "1;31" };
        let mut out = format!("{}: {}\n", paint(accent, self.label), printable(self.message));
        let mut gutter = 1;
        if let Some((source, span)) = &self.at {
            let location = source.location(span.start);
            let (line, column) = source.place(span.start);
            gutter = line.to_string().len();
            let pad = " ".repeat(gutter);
            let _ = writeln!(out, "{pad}{} {}", paint("1;34", "-->"), printable(&location.to_string()));
            if self.show && source.is_file() && line <= source.line_count() {
                let (text, marks) = self.excerpt(source, span, line, column);
                let bar = paint("1;34", "|");
                let _ = writeln!(out, "{pad} {bar}");
                let number = paint("1;34", &line.to_string());
                let _ = writeln!(out, "{number} {bar} {text}");
                let _ = writeln!(out, "{pad} {bar} {}", paint_marks(&marks, &paint, accent));
            }
        }
        for note in self.notes {
            let _ = writeln!(out, "{} = {}", " ".repeat(gutter), printable(note));
        }
        out
    }

    /// The part of a line around a span, and the marks under it.
    fn excerpt(&self, source: &Source, span: &Range<usize>, line: usize, column: usize) -> (String, String) {
        let range = source.line(line);
        let from = column.saturating_sub(1).saturating_sub(WIDTH / 2);
        let mut text = String::new();
        let mut marks = String::new();
        if from > 0 {
            text.push('…');
            marks.push(' ');
        }
        let mut marked = 0;
        let chars = source.text[range.clone()].char_indices().skip(from);
        let mut masking = None;
        for (shown, (at, c)) in chars.enumerate() {
            if shown == WIDTH {
                text.push('…');
                break;
            }
            let at = at + range.start;
            let mark = if at >= span.start && at < span.end { '^' } else { ' ' };
            if let Some(index) = self.masked.iter().position(|masked| masked.contains(&at)) {
                // A fixed width: the length of a secret is none of the reader's business.
                if masking != Some(index) {
                    masking = Some(index);
                    text.push_str("******");
                    marks.extend(std::iter::repeat_n(mark, 6));
                    marked += usize::from(mark == '^') * 6;
                }
                continue;
            }
            text.push(if c == '\t' { ' ' } else { visible(c) });
            marked += usize::from(mark == '^');
            marks.push(mark);
        }
        if marked == 0 {
            let width = usize::from(from > 0) + column.saturating_sub(1) - from;
            marks = " ".repeat(width.min(text.chars().count()));
            marks.push('^');
        }
        (text, marks.trim_end().to_owned())
    }
}

fn paint_marks(marks: &str, paint: &impl Fn(&str, &str) -> String, accent: &str) -> String {
    let indent = marks.len() - marks.trim_start().len();
    format!("{}{}", &marks[..indent], paint(accent, &marks[indent..]))
}

/// A character that a terminal does not act upon.
fn visible(c: char) -> char {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || reorders { '\u{fffd}' } else { c }
}

pub(crate) fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}
