//! One line of text that somebody else wrote: names, labels, subjects, references. What may stand in it,
//! and which characters deceive whoever reads it.

/// Whether a text is one honest line within its bound: no control character, no line break of any kind,
/// and nothing that reorders or hides text.
pub fn is_line(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(misleads)
}

/// Whether a character has no place in a line.
pub fn misleads(symbol: char) -> bool {
    is_control(symbol) || is_override(symbol) || is_mark(symbol)
}

/// Controls (C0, DEL, C1), line and paragraph separators, and what is invisible and carries text of
/// its own: tags and interlinear annotations.
pub fn is_control(symbol: char) -> bool {
    symbol.is_control()
        || matches!(symbol, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bidirectional embeddings and overrides: they can make text read as its opposite.
pub fn is_override(symbol: char) -> bool {
    matches!(symbol, '\u{202a}'..='\u{202e}')
}

/// Bidirectional marks and isolates: needed inside right-to-left prose, misleading in a name or a table.
pub fn is_mark(symbol: char) -> bool {
    matches!(symbol, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FAULTS 61: names of the roster, labels, subjects, references and what desks call themselves.
    #[test]
    fn a_line_holds_no_control_no_break_and_nothing_that_reorders_or_hides_text() {
        for text in ["NUL\0", "two\nlines", "esc\x1b[2J", "c1\u{85}", "separator\u{2028}", "\u{202e}fdp.exe"]
        {
            assert!(!is_line(text, 64), "{text:?}");
        }
        for text in ["isolate\u{2066}", "mark\u{200f}", "\u{061c}", "bom\u{feff}", "tag\u{e0041}"] {
            assert!(!is_line(text, 64), "{text:?}");
        }
    }

    #[test]
    fn names_of_any_script_are_lines_up_to_their_bound() {
        for text in ["", "Công hàm", "บันทึก", "سفارة", "می\u{200c}خواهم", "👩\u{200d}✈️"]
        {
            assert!(is_line(text, 64), "{text:?}");
        }
        assert!(is_line("12345", 5) && !is_line("12345", 4));
    }
}
