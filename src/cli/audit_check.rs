//! `pouch audit check`: what a proof file proves, in plain words, with no network and no daemon.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use prost::Message;
use serde::Serialize;

use crate::audit::{
    self, KeyInForce, LogFacts, Outcome, ProofFault, ProofFile, ProvenDispatch, ProvenLeaf, Revocation,
    Ruling, Standing,
};
use crate::cli::audit::{self as audit_log, ReaderArgs};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{safe_text, time};
use crate::config;
use crate::limits::PROOF_FILE_BYTES_MAX;
use crate::roster::{PartyNumber, TrustBundle};
use crate::seal::OpenedDispatch;
use crate::tiles;
use crate::wire::pb;
use crate::wire::receipt::{ReceiptKind, SetAsideReason};

/// Check a proof file offline, and say what it proves and what not; exit 0, 8 where something is wrong, 9 where nothing
/// is proven
#[derive(Args)]
pub struct CheckArgs {
    /// The proof file, as `pouch audit prove` wrote it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Trust bundle, as you got it from the ministry; without it nothing is proven
    #[arg(long, value_name = "BUNDLE")]
    trust: Option<PathBuf>,
    /// Folder or address of the log: it shows outright which roster was in force, and every later revocation and suspension
    #[arg(long, value_name = "DIR|URL", requires = "trust")]
    log: Option<String>,
    #[command(flatten)]
    reader: ReaderArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What was proven, for programs.
#[derive(Serialize)]
struct Verdict {
    proven: bool,
    id: String,
    envelope_hash: String,
    sender: String,
    to: Vec<String>,
    info: Vec<String>,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_at_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_at_us: Option<u64>,
    roster_version: u32,
    witnesses: usize,
    quorum: usize,
    counted_by_roster: u32,
    key_in_force: bool,
    receipts: Vec<ReceiptLine>,
    revoked_since: Vec<RevocationLine>,
    newest_roster: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

#[derive(Serialize)]
struct ReceiptLine {
    kind: &'static str,
    by: String,
    addressee: String,
    time_us: u64,
    position: u64,
    witnesses: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<String>,
}

#[derive(Serialize)]
struct RevocationLine {
    party: String,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    roster_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<OrderLine>,
}

#[derive(Serialize)]
struct OrderLine {
    number: u32,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifted_by: Option<u32>,
}

/// What the file was held against.
#[derive(Clone, Copy)]
struct Shown {
    is_trusted: bool,
    has_log: bool,
}

/// Checks a file.
pub fn run(args: &CheckArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let file: ProofFile = read(&args.file)?.parse()?;
    let trust = args.trust.as_deref().map(config::trust_bundle).transpose()?;
    let facts = match (&args.log, &trust) {
        (Some(log), Some(trust)) => Some(facts(log, &args.reader, trust, &file)?),
        (None, _) | (_, None) => None,
    };
    let proven = audit::check(&file, trust.as_ref(), facts.as_ref())?;
    let is_trusted = trust.is_some();
    let shown = Shown { is_trusted, has_log: facts.is_some() };
    let content = content(&file, &proven)?;
    if screen.json {
        screen.object(&verdict(&proven, is_trusted, content.as_ref()))?;
    } else {
        screen.text(&said(&proven, shown, content.as_ref()))?;
    }
    if is_trusted { Ok(()) } else { Err(Failure::NoTrust) }
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::File { path: path.display().to_string(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(PROOF_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| Failure::ProofFile(audit::ProofFileError::Changed))
}

fn facts(log: &str, reader: &ReaderArgs, trust: &TrustBundle, file: &ProofFile) -> Result<LogFacts, Failure> {
    let folder = audit_log::folder(log, reader, trust)?;
    let unread = |fault| audit_log::unread(log, fault);
    let found = tiles::verify(&*folder, trust, None).map_err(unread)?;
    if !found.is_witnessed {
        return Err(Failure::NothingProven { found: found.witnesses.len(), quorum: found.quorum });
    }
    tiles::facts(&*folder, &found, file.leaves().map(|leaf| leaf.index)).map_err(unread)
}

/// What was written, where the file has it. Its hash is proven; that it reads as a dispatch is looked at here.
fn content(file: &ProofFile, proven: &ProvenDispatch) -> Result<Option<pb::Draft>, Failure> {
    let Some(ciphertext) = file.ciphertext.as_ref().filter(|_| proven.has_content) else { return Ok(None) };
    let part = audit::Part::Content;
    let opened = OpenedDispatch::decode(&Bytes::copy_from_slice(ciphertext));
    let opened = opened.map_err(|source| ProofFault::Malformed { part, source })?;
    Ok(Some(opened.draft().clone()))
}

fn verdict(proven: &ProvenDispatch, is_trusted: bool, content: Option<&pb::Draft>) -> Verdict {
    let code = |party| code(proven, party);
    let receipt = |receipt: &audit::ProvenReceipt| ReceiptLine {
        kind: receipt.item.kind.name(),
        by: code(receipt.item.receiptor),
        addressee: code(receipt.item.addressee),
        time_us: receipt.item.time_us,
        position: receipt.leaf.position,
        witnesses: receipt.leaf.witnesses,
        words: words(receipt),
    };
    let is_refused = proven.outcome == Outcome::Refused;
    let at = Some(proven.leaf.log_time_us);
    Verdict {
        proven: is_trusted,
        id: uuid::Uuid::from_bytes(proven.core.id.0).to_string(),
        envelope_hash: proven.hash.to_string(),
        sender: code(proven.core.sender),
        to: addressees(proven, crate::wire::Role::To),
        info: addressees(proven, crate::wire::Role::Info),
        position: proven.leaf.position,
        accepted_at_us: at.filter(|_| !is_refused),
        refused_at_us: at.filter(|_| is_refused),
        roster_version: proven.leaf.roster_version,
        witnesses: proven.leaf.witnesses,
        quorum: proven.leaf.quorum,
        counted_by_roster: proven.leaf.counted_by,
        key_in_force: !matches!(proven.key_in_force, KeyInForce::Unproven { .. }),
        receipts: proven.receipts.iter().map(receipt).collect(),
        revoked_since: proven.revoked_since.iter().map(|found| revocation(proven, found)).collect(),
        newest_roster: proven.newest_roster,
        subject: content.map(|draft| draft.subject.clone()),
        body: content.map(|draft| draft.body.clone()),
    }
}

fn revocation(proven: &ProvenDispatch, found: &Revocation) -> RevocationLine {
    let (roster_version, order) = match found.by {
        Ruling::Roster(version) => (Some(version), None),
        Ruling::Order { number, position, until_s, lifted_by } => {
            let until_s = Some(until_s).filter(|until_s| *until_s < u64::MAX);
            (None, Some(OrderLine { number, position, until_s, lifted_by }))
        }
    };
    RevocationLine { party: code(proven, found.party), what: standing(found.standing), roster_version, order }
}

fn said(proven: &ProvenDispatch, shown: Shown, content: Option<&pb::Draft>) -> String {
    let ProvenDispatch { core, leaf, .. } = proven;
    let outcome = match proven.outcome {
        Outcome::Accepted => "accepted",
        Outcome::Refused => "refused",
    };
    let sender = code(proven, core.sender);
    let mut lines = vec![
        ("dispatch", uuid::Uuid::from_bytes(core.id.0).to_string()),
        ("envelope", proven.hash.to_string()),
        ("from", sender.clone()),
        ("to", addressees(proven, crate::wire::Role::To).join(" ")),
        ("info", addressees(proven, crate::wire::Role::Info).join(" ")),
        (outcome, format!("by the relay at {}, {}", time::seconds(leaf.log_time_us), placed(leaf))),
    ];
    for receipt in &proven.receipts {
        let (item, by) = (&receipt.item, code(proven, receipt.item.receiptor));
        let of = if item.receiptor == item.addressee {
            String::new()
        } else {
            format!(" for {}", code(proven, item.addressee))
        };
        let words = words(receipt).map_or(String::new(), |words| format!(": {words}"));
        let at = time::seconds(item.time_us);
        lines.push((
            "receipt",
            format!("{} by {by}{of} at {at}, {}{words}", item.kind.name(), placed(&receipt.leaf)),
        ));
    }
    if let Some(draft) = content {
        lines.push(("subject", draft.subject.clone()));
    }
    lines.push(("key", key_words(proven, &sender)));
    for found in &proven.revoked_since {
        let party = code(proven, found.party);
        lines.push(("since", format!("{party} {} by {}", standing(found.standing), ruling(found.by))));
    }
    lines.extend(not_proven(proven, shown, content.is_some()).into_iter().map(|words| ("unproven", words)));
    let filled = lines.iter().filter(|(_, value)| !value.is_empty());
    let mut text: String =
        filled.map(|(name, value)| format!("{name:<9} {}\n", safe_text::line(value))).collect();
    if let Some(draft) = content {
        text.push_str(&format!("\n{}\n", safe_text::body(draft.body.trim_end())));
    }
    text
}

fn placed(leaf: &ProvenLeaf) -> String {
    let ProvenLeaf { position, witnesses, quorum, counted_by, .. } = leaf;
    format!("leaf {position}, witnessed by {witnesses} ({quorum} are a quorum of roster {counted_by})")
}

fn key_words(proven: &ProvenDispatch, sender: &str) -> String {
    match proven.key_in_force {
        KeyInForce::ByLog(version) => {
            format!("of {sender}, in force: the log shows roster {version} before the envelope")
        }
        KeyInForce::ByAgreement { first, last } if first == last => {
            format!("of {sender}, in force: sender, relay and an addressee each name roster {first}")
        }
        KeyInForce::ByAgreement { first, last } => format!(
            "of {sender}, in force: sender, relay and an addressee name rosters of {first} to {last}, and it is the same, and \
             not revoked, in each of them"
        ),
        KeyInForce::Unproven { header, opening } if header == opening => {
            format!("of {sender} in roster {opening}, by the word of sender and relay")
        }
        KeyInForce::Unproven { header, opening } => {
            format!("of {sender}; the sender names roster {header}, the relay {opening}")
        }
    }
}

/// What nobody should read into the lines above.
fn not_proven(proven: &ProvenDispatch, shown: Shown, has_content: bool) -> Vec<String> {
    let mut words = Vec::new();
    if !shown.is_trusted {
        words.push(
            "all of it: the file fits itself, and brings its own keys: give the trust bundle with --trust"
                .to_owned(),
        );
    }
    if matches!(proven.key_in_force, KeyInForce::Unproven { .. }) {
        words.push("that the key was in force then: give the log with --log".to_owned());
    }
    if !shown.has_log {
        let leaves = [&proven.leaf].into_iter().chain(proven.receipts.iter().map(|receipt| &receipt.leaf));
        let oldest = leaves.map(|leaf| leaf.counted_by).min().unwrap_or_default();
        if oldest < proven.newest_roster {
            words.push(format!(
                "that the log went on from here: witnesses are counted by roster {oldest}, and whoever has a quorum of their \
                 keys and the log's, also of those that roster {} replaced, can make this anew: give the log with --log",
                proven.newest_roster
            ));
        }
        words
            .push("that no order suspended a signer: orders stand in the log: give it with --log".to_owned());
    }
    if proven.outcome == Outcome::Refused {
        words.push("that the relay was right to refuse it: the reason is its own word".to_owned());
    }
    let silent = proven.core.addressees.iter().map(|addressee| addressee.party);
    let silent = silent.filter(|party| {
        let settled = |kind: ReceiptKind| kind.settles() || kind == ReceiptKind::Expired;
        !proven.receipts.iter().any(|receipt| receipt.item.addressee == *party && settled(receipt.item.kind))
    });
    let silent: Vec<String> = silent.map(|party| code(proven, party)).collect();
    if !silent.is_empty() && proven.outcome == Outcome::Accepted {
        words.push(format!(
            "what became of it at {}: no receipt is no proof that it did not arrive",
            silent.join(" ")
        ));
    }
    if !has_content {
        words.push("what it said: the file was made without --with-content".to_owned());
    }
    words.push("which person wrote or released it: a desk signs, and its people are its own".to_owned());
    words
}

fn addressees(proven: &ProvenDispatch, role: crate::wire::Role) -> Vec<String> {
    let with_role = proven.core.addressees.iter().filter(|addressee| addressee.role == role);
    with_role.map(|addressee| code(proven, addressee.party)).collect()
}

fn code(proven: &ProvenDispatch, party: PartyNumber) -> String {
    proven.codes.get(&party).cloned().unwrap_or_else(|| format!("party {party}"))
}

fn words(receipt: &audit::ProvenReceipt) -> Option<String> {
    match receipt.item.kind {
        ReceiptKind::SetAside => return Some(SetAsideReason::words(receipt.item.reason).to_owned()),
        ReceiptKind::Refused => return Some(refusal_name(receipt.item.reason)),
        ReceiptKind::Delivered
        | ReceiptKind::Read
        | ReceiptKind::Acknowledged
        | ReceiptKind::Withdrawn
        | ReceiptKind::Expired => {}
    }
    let details = pb::Details::decode(receipt.details.get(SALT_BYTES..)?).ok()?;
    let said = [details.who, details.remark].into_iter().filter(|said| !said.is_empty());
    Some(said.collect::<Vec<_>>().join(": ")).filter(|said| !said.is_empty())
}

/// As `pouch outbox` shows it.
fn refusal_name(code: u16) -> String {
    let known = pb::RefusalCode::try_from(i32::from(code)).unwrap_or(pb::RefusalCode::Unspecified);
    known.as_str_name().trim_start_matches("REFUSAL_CODE_").to_owned()
}

fn ruling(by: Ruling) -> String {
    match by {
        Ruling::Roster(version) => format!("roster {version}"),
        Ruling::Order { number, position, until_s, lifted_by } => {
            let ends = match (lifted_by, until_s.checked_mul(1_000_000)) {
                (Some(order), _) => format!("lifted by order {order}"),
                (None, Some(until_us)) => format!("until {}", time::seconds(until_us)),
                (None, None) => "until it is lifted".to_owned(),
            };
            format!("order {number} (leaf {position}), {ends}")
        }
    }
}

/// Before a receipt's details.
const SALT_BYTES: usize = 32;

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Suspended => "was suspended",
        Standing::Revoked => "was revoked",
        Standing::KeyReplaced => "got another key",
    }
}
