//! The proof file of one dispatch: all that shows who sent it, that the log holds it, and what became of it.
//!
//! TOML in one form alone: [`ProofFile`] writes it, and what does not read back to the same bytes is refused, so
//! that nothing can be changed in a file without being seen. Byte strings are base64 with padding. Nothing is
//! verified here: [`super::check`] does.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use data_encoding::BASE64;

use super::{AuditError, LeafProof};
use crate::{
    batch::{BatchError, Proof},
    limits::{PROOF_FILE_BYTES_MAX, PROOF_FILE_RECEIPTS_MAX, ROSTER_VERSIONS_MAX},
    note::base64_bytes,
};

/// What a proof file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    /// The header as its sender signed it, and its leaf.
    pub envelope: SignedItem,
    /// The ciphertext, where the content is to be proven too.
    pub ciphertext: Option<Vec<u8>>,
    /// Rising by leaf and item; at most 1,024.
    pub receipts: Vec<FiledReceipt>,
    /// Every roster version from the trust bundle's to the one in force, rising by one; at least one.
    pub rosters: Vec<FiledRoster>,
}

/// Something that was signed, and the leaf that commits to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedItem {
    /// As signed.
    pub bytes: Vec<u8>,
    /// Its share of a batch signature.
    pub signature: Proof,
    /// With `salt[32] || opening` as `extra`.
    pub leaf: LeafProof,
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiledReceipt {
    /// The receipt's item.
    pub item: SignedItem,
    /// Who and what remark, where the content is to be proven too; else empty.
    pub details: Vec<u8>,
}

/// A roster version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiledRoster {
    /// Its version.
    pub version: u32,
    /// The signed note.
    pub note: Vec<u8>,
    /// With the administrative leaf as `extra`; `None` where it stands in no log that is still there.
    pub leaf: Option<LeafProof>,
}

/// Why a text is no proof file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    /// Longer than any proof file.
    #[error("a proof file has at most {PROOF_FILE_BYTES_MAX} bytes; get it anew from whoever made it")]
    TooLong,
    /// A line is not what every proof file has there.
    #[error("line {line} {problem}; get the file anew from whoever made it")]
    Form {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A field is not what it should be.
    #[error("{part}: {problem}; get the file anew from whoever made it")]
    Field {
        /// Which.
        part: Part,
        /// What is wrong.
        problem: &'static str,
    },
    /// Says the same in other bytes.
    #[error(
        "something in it was changed: it is not written as a proof file is; get it anew from whoever made it"
    )]
    Changed,
    /// A batch signature has not its form.
    #[error("{part}: {source}; get the file anew from whoever made it")]
    Signature {
        /// Of what.
        part: Part,
        /// What is wrong.
        source: BatchError,
    },
    /// A leaf's proof has not its form.
    #[error("{part}: {source}; get the file anew from whoever made it")]
    Leaf {
        /// Of what.
        part: Part,
        /// What is wrong.
        source: AuditError,
    },
}

/// A part of a proof file, as it is named to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Header, signature and leaf of the envelope.
    Envelope,
    /// The ciphertext.
    Content,
    /// A receipt, from 1.
    Receipt(usize),
    /// A roster, by version.
    Roster(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Envelope => f.write_str("the envelope"),
            Part::Content => f.write_str("the content"),
            Part::Receipt(number) => write!(f, "receipt {number}"),
            Part::Roster(version) => write!(f, "roster {version}"),
        }
    }
}

impl FromStr for ProofFile {
    type Err = ProofFileError;

    fn from_str(text: &str) -> Result<ProofFile, ProofFileError> {
        if text.len() > PROOF_FILE_BYTES_MAX {
            return Err(ProofFileError::TooLong);
        }
        let file = read(&mut Lines { rest: text, line: 0 })?;
        file.check_order()?;
        let mut rest = Same(text);
        let is_same = write!(rest, "{file}").is_ok() && rest.0.is_empty();
        if is_same { Ok(file) } else { Err(ProofFileError::Changed) }
    }
}

/// Part after part: a tree of all that TOML may say would take many times the room of a hostile file.
fn read(lines: &mut Lines<'_>) -> Result<ProofFile, ProofFileError> {
    lines.expect("format = \"pouch-proof/v1\"")?;
    lines.expect("")?;
    lines.expect("[envelope]")?;
    let (envelope, _) = lines.item(Part::Envelope, "header")?;
    let mut file = ProofFile { envelope, ciphertext: None, receipts: Vec::new(), rosters: Vec::new() };
    while !lines.rest.is_empty() {
        lines.expect("")?;
        match lines.next() {
            "[content]" if file.ciphertext.is_none() => {
                file.ciphertext = Some(bytes(Part::Content, lines.field("ciphertext")?)?);
            }
            "[[receipt]]" if file.receipts.len() < PROOF_FILE_RECEIPTS_MAX => {
                let (item, details) = lines.item(Part::Receipt(file.receipts.len() + 1), "item")?;
                file.receipts.push(FiledReceipt { item, details });
            }
            "[[roster]]" if file.rosters.len() < ROSTER_VERSIONS_MAX => file.rosters.push(lines.roster()?),
            _ => return Err(lines.wrong("is no heading that may stand here")),
        }
    }
    if file.rosters.is_empty() {
        return Err(field(Part::Roster(0), "there is none"));
    }
    Ok(file)
}

/// What is left to be read, and the number of the line read last. It may be laxer than the one form: that is looked at
/// in the end.
struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line
    }

    fn wrong(&self, problem: &'static str) -> ProofFileError {
        ProofFileError::Form { line: self.line, problem }
    }

    fn expect(&mut self, line: &str) -> Result<(), ProofFileError> {
        if self.next() == line { Ok(()) } else { Err(self.wrong("is not what stands here in a proof file")) }
    }

    /// The value behind a name.
    fn value(&mut self, name: &str) -> Result<&'a str, ProofFileError> {
        let value = self.next().strip_prefix(name).and_then(|rest| rest.strip_prefix(" = "));
        value.ok_or(self.wrong("has not the name that stands here in a proof file"))
    }

    /// A string.
    fn field(&mut self, name: &str) -> Result<&'a str, ProofFileError> {
        let value = self.value(name)?;
        self.unquoted(value)
    }

    fn unquoted(&self, value: &'a str) -> Result<&'a str, ProofFileError> {
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        value.ok_or(self.wrong("holds no string in quotation marks"))
    }

    fn number(&mut self, name: &str) -> Result<u32, ProofFileError> {
        self.value(name)?.parse().map_err(|_| self.wrong("holds no number"))
    }

    /// The hashes of a batch signature's path, one behind the other.
    fn path(&mut self, part: Part) -> Result<Vec<u8>, ProofFileError> {
        let list = self.value("path")?;
        let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
        let list = list.ok_or(self.wrong("holds no list"))?;
        let mut path = Vec::new();
        for hash in list.split(", ").filter(|hash| !hash.is_empty()) {
            path.extend(bytes(part, self.unquoted(hash)?)?);
        }
        Ok(path)
    }

    fn leaf(&mut self, part: Part) -> Result<LeafProof, ProofFileError> {
        self.expect("proof = '''")?;
        let text = self.rest;
        let mut length = 0;
        loop {
            match self.next() {
                "'''" => break,
                _ if self.rest.is_empty() => return Err(self.wrong("ends a proof that has no end")),
                line => length += line.len() + 1,
            }
        }
        leaf(part, &text[..length])
    }

    /// An item, and the details that may stand beside a receipt's.
    fn item(&mut self, part: Part, name: &str) -> Result<(SignedItem, Vec<u8>), ProofFileError> {
        let signed = bytes(part, self.field(name)?)?;
        let (count, index, path) = (self.number("count")?, self.number("index")?, self.path(part)?);
        let signature = bytes(part, self.field("signature")?)?;
        let signature = Proof::from_parts(count, index, &path, &signature)
            .map_err(|source| ProofFileError::Signature { part, source })?;
        let has_details = part != Part::Envelope && self.rest.starts_with("details");
        let details = if has_details { bytes(part, self.field("details")?)? } else { Vec::new() };
        Ok((SignedItem { bytes: signed, signature, leaf: self.leaf(part)? }, details))
    }

    fn roster(&mut self) -> Result<FiledRoster, ProofFileError> {
        let version = self.number("version")?;
        let part = Part::Roster(version);
        let note = bytes(part, self.field("note")?)?;
        let leaf = self.rest.starts_with("proof").then(|| self.leaf(part)).transpose()?;
        Ok(FiledRoster { version, note, leaf })
    }
}

/// Holds what is written against a text, and keeps none of it.
struct Same<'a>(&'a str);

impl fmt::Write for Same<'_> {
    fn write_str(&mut self, written: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(written).ok_or(fmt::Error)?;
        Ok(())
    }
}

impl ProofFile {
    /// Puts receipts and rosters into the order of the file; each once.
    pub fn sort(&mut self) {
        self.receipts.sort_by(|a, b| a.place().cmp(&b.place()));
        self.receipts.dedup_by(|a, b| a.place() == b.place());
        self.rosters.sort_by_key(|roster| roster.version);
        self.rosters.dedup_by_key(|roster| roster.version);
    }

    /// Every leaf that is proven.
    pub fn leaves(&self) -> impl Iterator<Item = &LeafProof> {
        let receipts = self.receipts.iter().map(|receipt| &receipt.item.leaf);
        let rosters = self.rosters.iter().filter_map(|roster| roster.leaf.as_ref());
        [&self.envelope.leaf].into_iter().chain(receipts).chain(rosters)
    }

    fn check_order(&self) -> Result<(), ProofFileError> {
        for (number, pair) in (2..).zip(self.receipts.windows(2)) {
            if pair[0].place() >= pair[1].place() {
                return Err(field(Part::Receipt(number), "is not in the order of leaves"));
            }
        }
        for pair in self.rosters.windows(2) {
            if pair[0].version.checked_add(1) != Some(pair[1].version) {
                return Err(field(Part::Roster(pair[1].version), "does not follow the one before"));
            }
        }
        Ok(())
    }
}

impl FiledReceipt {
    fn place(&self) -> (u64, &[u8]) {
        (self.item.leaf.index, &self.item.bytes)
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format = \"pouch-proof/v1\"\n\n[envelope]")?;
        write_item(f, "header", &self.envelope)?;
        write_proof(f, &self.envelope.leaf)?;
        if let Some(ciphertext) = &self.ciphertext {
            writeln!(f, "\n[content]\nciphertext = \"{}\"", BASE64.encode(ciphertext))?;
        }
        for receipt in &self.receipts {
            writeln!(f, "\n[[receipt]]")?;
            write_item(f, "item", &receipt.item)?;
            if !receipt.details.is_empty() {
                writeln!(f, "details = \"{}\"", BASE64.encode(&receipt.details))?;
            }
            write_proof(f, &receipt.item.leaf)?;
        }
        for roster in &self.rosters {
            let note = BASE64.encode(&roster.note);
            writeln!(f, "\n[[roster]]\nversion = {}\nnote = \"{note}\"", roster.version)?;
            roster.leaf.iter().try_for_each(|leaf| write_proof(f, leaf))?;
        }
        Ok(())
    }
}

fn write_item(f: &mut fmt::Formatter<'_>, name: &str, item: &SignedItem) -> fmt::Result {
    let Proof { count, index, path, signature } = &item.signature;
    let path: Vec<String> =
        path.iter().map(|hash| format!("\"{}\"", BASE64.encode(hash.as_bytes()))).collect();
    writeln!(f, "{name} = \"{}\"\ncount = {count}\nindex = {index}", BASE64.encode(&item.bytes))?;
    writeln!(f, "path = [{}]\nsignature = \"{}\"", path.join(", "), BASE64.encode(signature))
}

/// A literal string: its lines stand as they are, for whoever hands them to another tool.
fn write_proof(f: &mut fmt::Formatter<'_>, leaf: &LeafProof) -> fmt::Result {
    writeln!(f, "proof = '''\n{leaf}'''")
}

fn leaf(part: Part, proof: &str) -> Result<LeafProof, ProofFileError> {
    let leaf: LeafProof = proof.parse().map_err(|source| ProofFileError::Leaf { part, source })?;
    if leaf.extra.is_none() {
        return Err(field(part, "its proof has no `extra`, which opens the leaf"));
    }
    Ok(leaf)
}

fn bytes(part: Part, base64: &str) -> Result<Vec<u8>, ProofFileError> {
    base64_bytes(base64).ok_or_else(|| field(part, "holds what is not base64"))
}

fn field(part: Part, problem: &'static str) -> ProofFileError {
    ProofFileError::Field { part, problem }
}
