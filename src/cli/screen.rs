//! Where a command's output goes, and in which of two forms.

use std::io::Write;

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::safe_text;
use crate::cli::table::Paint;

/// Standard output as a command sees it: text for people, or one JSON object a line.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    /// Whether programs read it (`--json`).
    pub json: bool,
    /// How people's text is emphasised.
    pub paint: Paint,
    /// Code of the demo's desk that the command runs at; what to type next then names it too.
    pub demo: Option<&'static str>,
}

impl<'a> Screen<'a> {
    /// A screen over `out`.
    pub fn new(out: &'a mut dyn Write, json: bool, paint: Paint) -> Self {
        Self { out, json, paint, demo: None }
    }

    /// Writes text that is already safe for a terminal, with its line ends.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Writes one object on a line.
    pub fn object<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let line = safe_text::json(value)? + "\n";
        self.text(&line)
    }

    /// Writes what a person must know: beside the objects, not among them.
    pub fn note(&mut self, sentence: &str) -> Result<(), Failure> {
        match self.json {
            true => Ok(writeln!(std::io::stderr(), "note: {sentence}")?),
            false => self.text(&format!("note      {sentence}\n")),
        }
    }

    /// Writes what a person must know to standard error, where standard output is a file's text.
    pub fn beside(&mut self, sentence: &str) -> Result<(), Failure> {
        Ok(writeln!(std::io::stderr(), "note: {sentence}")?)
    }

    /// Writes the command that a person probably types next.
    pub fn next(&mut self, command: &str) -> Result<(), Failure> {
        let line = match (self.demo, command.split_once(' ')) {
            (Some(code), Some((pouch, rest))) => {
                let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                format!("{pouch} demo {verb} --as {code} {rest}")
            }
            _ => command.to_owned(),
        };
        self.text(&format!("\nnext      {}\n", line.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(demo: Option<&'static str>, command: &str) -> String {
        let mut out = Vec::new();
        Screen { demo, ..Screen::new(&mut out, false, Paint::Plain) }.next(command).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_to_type_next_names_the_demos_desk_where_the_command_ran_there() {
        assert_eq!(next(None, "pouch read K7QF"), "\nnext      pouch read K7QF\n");
        assert_eq!(next(Some("MOD"), "pouch read K7QF"), "\nnext      pouch demo read --as MOD K7QF\n");
        assert_eq!(next(Some("MOD"), "pouch outbox"), "\nnext      pouch demo outbox --as MOD\n");
    }
}
