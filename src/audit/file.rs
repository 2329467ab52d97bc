//! The proof file of one dispatch: all that shows who sent it, that the log holds it, and what became of it.
//!
//! TOML in one form alone: [`ProofFile`] writes it, and what does not read back to the same bytes is refused, so
//! that nothing can be changed in a file without being seen. Byte strings are base64 with padding. Nothing is
//! verified here: [`super::check`] does.

use std::{fmt, str::FromStr};

use data_encoding::BASE64;
use serde::Deserialize;

use super::{AuditError, LeafProof};
use crate::{
    batch::{BatchError, Proof},
    limits::{PROOF_FILE_BYTES_MAX, PROOF_FILE_RECEIPTS_MAX, ROSTER_VERSIONS_MAX},
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
    /// Not TOML, or without a field that every proof file has.
    #[error("line {line}: {problem}; get the file anew from whoever made it")]
    Form {
        /// From 1.
        line: usize,
        /// What the parser says.
        problem: String,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    format: Format,
    envelope: ItemText,
    content: Option<ContentText>,
    #[serde(rename = "receipt", default)]
    receipts: Vec<ReceiptText>,
    #[serde(rename = "roster", default)]
    rosters: Vec<RosterText>,
}

#[derive(Deserialize)]
enum Format {
    #[serde(rename = "pouch-proof/v1")]
    V1,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemText {
    header: String,
    count: u32,
    index: u32,
    path: Vec<String>,
    signature: String,
    proof: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContentText {
    ciphertext: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptText {
    item: String,
    count: u32,
    index: u32,
    path: Vec<String>,
    signature: String,
    details: Option<String>,
    proof: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RosterText {
    version: u32,
    note: String,
    proof: Option<String>,
}

impl FromStr for ProofFile {
    type Err = ProofFileError;

    fn from_str(text: &str) -> Result<ProofFile, ProofFileError> {
        if text.len() > PROOF_FILE_BYTES_MAX {
            return Err(ProofFileError::TooLong);
        }
        let FileText { format: Format::V1, envelope, content, receipts, rosters } =
            toml::from_str(text).map_err(|error| form(text, &error))?;
        if receipts.len() > PROOF_FILE_RECEIPTS_MAX {
            return Err(field(Part::Receipt(receipts.len()), "is more than a proof file has"));
        }
        if rosters.is_empty() || rosters.len() > ROSTER_VERSIONS_MAX {
            let version = rosters.last().map_or(0, |roster| roster.version);
            return Err(field(Part::Roster(version), "there are none, or more than a proof file has"));
        }
        let ItemText { header, count, index, path, signature, proof } = envelope;
        let file = ProofFile {
            envelope: item(Part::Envelope, &header, (count, index, &path, &signature), &proof)?,
            ciphertext: content.map(|content| bytes(Part::Content, &content.ciphertext)).transpose()?,
            receipts: (1..).zip(&receipts).map(receipt).collect::<Result<_, _>>()?,
            rosters: rosters.iter().map(roster).collect::<Result<_, _>>()?,
        };
        file.check_order()?;
        if file.to_string() == text { Ok(file) } else { Err(ProofFileError::Changed) }
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

fn receipt((number, text): (usize, &ReceiptText)) -> Result<FiledReceipt, ProofFileError> {
    let part = Part::Receipt(number);
    let signature = (text.count, text.index, &text.path[..], &text.signature[..]);
    let details = text.details.as_deref().map(|details| bytes(part, details)).transpose()?;
    Ok(FiledReceipt {
        item: item(part, &text.item, signature, &text.proof)?,
        details: details.unwrap_or_default(),
    })
}

fn roster(text: &RosterText) -> Result<FiledRoster, ProofFileError> {
    let part = Part::Roster(text.version);
    let leaf = text.proof.as_deref().map(|proof| leaf(part, proof)).transpose()?;
    Ok(FiledRoster { version: text.version, note: bytes(part, &text.note)?, leaf })
}

fn item(
    part: Part,
    text: &str,
    (count, index, path, signature): (u32, u32, &[String], &str),
    proof: &str,
) -> Result<SignedItem, ProofFileError> {
    let path: Vec<Vec<u8>> = path.iter().map(|hash| bytes(part, hash)).collect::<Result<_, _>>()?;
    let signature = Proof::from_parts(count, index, &path.concat(), &bytes(part, signature)?)
        .map_err(|source| ProofFileError::Signature { part, source })?;
    Ok(SignedItem { bytes: bytes(part, text)?, signature, leaf: leaf(part, proof)? })
}

fn leaf(part: Part, proof: &str) -> Result<LeafProof, ProofFileError> {
    let leaf: LeafProof = proof.parse().map_err(|source| ProofFileError::Leaf { part, source })?;
    if leaf.extra.is_none() {
        return Err(field(part, "its proof has no `extra`, which opens the leaf"));
    }
    Ok(leaf)
}

fn bytes(part: Part, base64: &str) -> Result<Vec<u8>, ProofFileError> {
    BASE64.decode(base64.as_bytes()).map_err(|_| field(part, "holds what is not base64"))
}

fn field(part: Part, problem: &'static str) -> ProofFileError {
    ProofFileError::Field { part, problem }
}

/// Without the line itself, which may be megabytes long.
fn form(text: &str, error: &toml::de::Error) -> ProofFileError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    ProofFileError::Form { line: before.matches('\n').count() + 1, problem: error.message().to_owned() }
}
