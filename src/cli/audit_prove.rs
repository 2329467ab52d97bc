//! `pouch audit prove`: writes the proof file of a dispatch from what the desk keeps. No relay is asked.

use std::path::PathBuf;

use clap::Args;

use crate::audit::{self, FiledReceipt, FiledRoster, LeafProof, ProofFile, ProofFileError, SignedItem};
use crate::batch::Proof;
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{DeskArgs, safe_text};
use crate::desk::client::DeskClient;
use crate::desk::view::{BatchShare, ProvenRoster};
use crate::note;
use crate::pki;
use crate::roster::TrustBundle;

/// Write the proof file of a dispatch that was sent or received here; exit 9 while the log's proof of it is owed
#[derive(Args)]
pub struct ProveArgs {
    #[command(flatten)]
    pub desk: DeskArgs,
    /// The dispatch, by UUID or short id
    #[arg(value_name = "ID")]
    id: String,
    /// Put in what it says, and who acknowledged with what remark: whoever has the file can read it
    #[arg(long)]
    with_content: bool,
    /// Where the file goes; without it to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Gathers, checks and writes.
pub async fn run(args: &ProveArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let evidence = desk.evidence(&args.id).await?;
    let envelope = &evidence.envelope;
    let proof = envelope.leaf.proof.as_deref();
    let proof = proof.ok_or_else(|| Failure::ProofOwed { id: args.id.clone() })?;
    let mut file = ProofFile {
        envelope: item(&envelope.header, &envelope.signature, proof)?,
        ciphertext: args.with_content.then(|| bytes(&envelope.ciphertext)).transpose()?,
        receipts: Vec::new(),
        rosters: Vec::new(),
    };
    let (mut names, mut owed) = (Vec::new(), Vec::new());
    for receipt in &evidence.receipts {
        let name = format!("{} by {}", receipt.kind, receipt.from);
        let Some(proof) = &receipt.leaf.proof else {
            owed.push(name);
            continue;
        };
        file.receipts.push(FiledReceipt {
            item: item(&receipt.item, &receipt.signature, proof)?,
            details: if args.with_content { bytes(&receipt.details)? } else { Vec::new() },
        });
        names.push(name);
    }
    for version in evidence.rosters {
        file.rosters.push(roster(desk.proven_roster(version).await?)?);
    }
    keep_without_gap(&mut file.rosters);
    let trust: TrustBundle = desk.trust().await?.bundle.parse().map_err(|_| Failure::Answer(BUNDLE))?;
    let misfits = audit::sift(&mut file, &trust)?;
    let misfits: Vec<&str> = misfits.into_iter().map(|place| names[place].as_str()).collect();
    file.sort();
    // Whoever gets it reads and checks it likewise: it is not given away before it holds.
    let text = file.to_string();
    let file: ProofFile = text.parse()?;
    audit::check(&file, Some(&trust), None)?;

    match &args.out {
        Some(out) => {
            pki::write_public(out, text.as_bytes())?;
            let (receipts, out) = (file.receipts.len(), safe_text::line(&out.display().to_string()));
            screen
                .text(&format!("Wrote the proof of {} with {receipts} receipts to {out}.\n", evidence.id))?;
        }
        None => screen.text(&safe_text::body(&text))?,
    }
    if !owed.is_empty() {
        let words =
            format!("left out, for their proofs are still owed: {}: make it again later", owed.join(", "));
        screen.beside(&safe_text::line(&words))?;
    }
    if !misfits.is_empty() {
        let words = format!(
            "left out, for they do not fit this dispatch, its place in the log or its addressees: {}: ask who signed them why",
            misfits.join(", ")
        );
        screen.beside(&safe_text::line(&words))?;
    }
    Ok(())
}

/// The versions up to the newest; what lies before a gap cannot be followed.
fn keep_without_gap(rosters: &mut Vec<FiledRoster>) {
    let follows = |pair: &[FiledRoster]| pair[0].version.checked_add(1) == Some(pair[1].version);
    if let Some(gap) = rosters.windows(2).rposition(|pair| !follows(pair)) {
        rosters.drain(..=gap);
    }
}

fn roster(held: ProvenRoster) -> Result<FiledRoster, Failure> {
    let leaf = match (&held.leaf, &held.proof) {
        (Some(entry), Some(proof)) => Some(LeafProof { extra: Some(bytes(entry)?), ..leaf(proof)? }),
        (None, _) | (_, None) => None,
    };
    Ok(FiledRoster { version: held.version, note: held.note.into_bytes(), leaf })
}

fn item(signed: &str, share: &BatchShare, proof: &str) -> Result<SignedItem, Failure> {
    let (path, signature) = (bytes(&share.path)?, bytes(&share.signature)?);
    let signature = Proof::from_parts(share.count, share.index, &path, &signature);
    let part = audit::Part::Envelope;
    let signature = signature.map_err(|source| ProofFileError::Signature { part, source })?;
    Ok(SignedItem { bytes: bytes(signed)?, signature, leaf: leaf(proof)? })
}

fn leaf(proof: &str) -> Result<LeafProof, Failure> {
    let part = audit::Part::Envelope;
    Ok(proof.parse().map_err(|source| ProofFileError::Leaf { part, source })?)
}

fn bytes(base64: &str) -> Result<Vec<u8>, Failure> {
    note::base64_bytes(base64).ok_or(Failure::Answer("holds what is not base64"))
}

const BUNDLE: &str = "holds no trust bundle";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosters_before_a_gap_are_left_out() {
        let kept = |versions: &[u32]| {
            let held = |version: &u32| FiledRoster { version: *version, note: Vec::new(), leaf: None };
            let mut rosters: Vec<FiledRoster> = versions.iter().map(held).collect();
            keep_without_gap(&mut rosters);
            rosters.iter().map(|roster| roster.version).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(kept(&[1, 3, 4, 6, 7]), [6, 7]);
        assert_eq!(kept(&[5]), [5]);
    }
}
