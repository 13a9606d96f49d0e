//! Colours for text whose lines begin with a verdict.
//!
//! In: text. Out: the same, each line that begins with a symbol in its colour. Invariant: without the ANSI sequences
//! it is the text that came in.

use anstyle::{AnsiColor, Style as Ansi};

use super::text::Style;

/// The symbols of lines, and their colours.
const SYMBOLS: [(&str, AnsiColor); 19] = [
    ("✅", AnsiColor::Green),
    ("☑️", AnsiColor::Green),
    ("⛔", AnsiColor::Red),
    ("❌", AnsiColor::Red),
    ("🆕", AnsiColor::Yellow),
    ("⚠️", AnsiColor::Yellow),
    ("❔", AnsiColor::Yellow),
    ("[ok]", AnsiColor::Green),
    ("[yes]", AnsiColor::Green),
    ("[intended]", AnsiColor::Green),
    ("[opens]", AnsiColor::Red),
    ("[breaks]", AnsiColor::Yellow),
    ("[new]", AnsiColor::Yellow),
    ("[fail]", AnsiColor::Red),
    ("[no]", AnsiColor::Red),
    ("[?]", AnsiColor::Yellow),
    ("way out:", AnsiColor::Cyan),
    ("why it counts:", AnsiColor::Cyan),
    ("nothing was found", AnsiColor::Yellow),
];

/// The text in colours, where they are wanted.
pub fn painted(text: &str, style: Style) -> String {
    if !style.color {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (content, end) = match line.strip_suffix('\n') {
            Some(content) => (content, "\n"),
            None => (line, ""),
        };
        let begins = |symbol: &str| content.trim_start().starts_with(symbol);
        match SYMBOLS.iter().find(|(symbol, _)| begins(symbol)) {
            Some((_, color)) => {
                let ansi = Ansi::new().fg_color(Some((*color).into()));
                out.push_str(&format!("{ansi}{content}{ansi:#}{end}"));
            }
            None => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_changes_no_word() {
        let text = "Plan\n✅ one\n    way out: two\nthree";
        let style = |color| Style {
            color,
            ..Style::default()
        };
        assert_eq!(painted(text, style(false)), text);
        let painted = painted(text, style(true));
        assert_eq!(painted.matches("\u{1b}[32m").count(), 1);
        assert_eq!(painted.matches("\u{1b}[36m").count(), 1);
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), text);
    }
}
