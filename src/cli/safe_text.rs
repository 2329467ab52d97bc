//! What a peer wrote, made safe for a terminal: nothing moves the cursor, changes colours, or lets
//! text pose as other text. What is dangerous is shown, not dropped.

use std::fmt::Write;

use serde::Serialize;

use crate::line::{is_control, is_override, misleads};

/// One line of a peer's text, for a table cell or a heading: every control and every bidirectional
/// character as a visible symbol, line breaks too.
pub fn line(text: &str) -> String {
    shown(text, misleads)
}

/// A peer's text of several lines: line feeds and tabs stay, and so do the marks and isolates that
/// right-to-left scripts need; overrides and all other controls become symbols. A carriage return
/// before a line feed is dropped.
pub fn body(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    shown(&text, |symbol| !matches!(symbol, '\n' | '\t') && (is_control(symbol) || is_override(symbol)))
}

/// A value as one line of JSON in which dangerous characters are `\u` escapes: the same value to a
/// program, harmless to a terminal.
pub fn json<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    let mut safe = String::with_capacity(text.len());
    for symbol in text.chars() {
        if misleads(symbol) {
            let mut units = [0; 2];
            for unit in symbol.encode_utf16(&mut units) {
                write!(safe, "\\u{unit:04x}").expect("writing to a string does not fail");
            }
        } else {
            safe.push(symbol);
        }
    }
    Ok(safe)
}

fn shown(text: &str, dangerous: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for symbol in text.chars() {
        match symbol {
            _ if !dangerous(symbol) => safe.push(symbol),
            '\0'..='\x1f' => safe.push(picture(symbol)),
            '\x7f' => safe.push('\u{2421}'),
            _ => write!(safe, "<U+{:04X}>", u32::from(symbol)).expect("writing to a string does not fail"),
        }
    }
    safe
}

/// The control picture of a character below space: `ESC` as one small glyph, and so on.
fn picture(control: char) -> char {
    char::from_u32(0x2400 + u32::from(control)).expect("U+2400 to U+241F are characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_moves_no_cursor_and_reverses_no_text() {
        assert_eq!(line("a\x1b[2Jb\nc\u{9b}d\x7f"), "a␛[2Jb␊c<U+009B>d␡");
        assert_eq!(line("\u{202e}gpj.exe\u{2066}x\u{200f}"), "<U+202E>gpj.exe<U+2066>x<U+200F>");
        assert_eq!(line("a\u{2028}b\u{e0041}"), "a<U+2028>b<U+E0041>");
    }

    /// FAULTS 61.
    #[test]
    fn a_body_keeps_its_lines_marks_and_isolates_but_no_override() {
        assert_eq!(body("a\r\nb\tc\rd"), "a\nb\tc␍d");
        assert_eq!(body("\u{2067}سلام\u{2069}\u{200f}\u{202e}x\x07"), "\u{2067}سلام\u{2069}\u{200f}<U+202E>x␇");
    }

    #[test]
    fn ordinary_text_of_any_script_is_untouched() {
        for text in ["Công hàm", "บันทึก", "می\u{200c}خواهم", "👩\u{200d}✈️"] {
            assert_eq!((line(text), body(text)), (text.to_owned(), text.to_owned()));
        }
    }

    #[test]
    fn json_is_escaped_without_changing_its_value() {
        let value = vec!["a\x1b\u{9b}\u{202e}\u{e0041}\"é"];
        let text = json(&value).unwrap();
        assert_eq!(text, "[\"a\\u001b\\u009b\\u202e\\udb40\\udc41\\\"é\"]");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), value);
    }
}
