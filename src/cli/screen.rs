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
}

impl<'a> Screen<'a> {
    /// A screen over `out`.
    pub fn new(out: &'a mut dyn Write, json: bool, paint: Paint) -> Self {
        Self { out, json, paint }
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

    /// Writes the command that a person probably types next.
    pub fn next(&mut self, command: &str) -> Result<(), Failure> {
        self.text(&format!("\nnext      {command}\n"))
    }
}
