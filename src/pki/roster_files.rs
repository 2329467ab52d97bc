//! Making rosters: the keys that sign them, drafts, signatures, trust bundles (FORMATS 3, 11).
//!
//! A draft is the roster's TOML, edited by these functions or by hand. The holders of the roster
//! keys sign it one after the other, each on a machine that no daemon runs on; with enough
//! signatures the note is the roster, and its hash is final.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{Issued, PkiError, Request};
use crate::batch::PublicKey;
use crate::identity::Kind;
use crate::keys::SigningKey;
use crate::merkle;
use crate::note::{KeyKind, Note, Vkey};
use crate::roster::{
    self, BundleFormat, LabelPolicy, Party, Quotas, Roster, RosterDraft, RosterKeys, Status, Topic,
    TrustBundle,
};
use crate::tls;

/// Topics that a new roster starts with: id, and what people read. Edit the draft for others.
const TOPICS: [(&str, &str); 5] = [
    ("maritime", "Maritime security"),
    ("cyber", "Cybersecurity"),
    ("intelligence", "Intelligence sharing"),
    ("peacekeeping", "Peacekeeping operations"),
    ("industry", "Defence industry"),
];

/// Labels that a new roster starts with, lowest first.
const LABELS: [&str; 3] = ["BLOC UNCLASSIFIED", "BLOC RESTRICTED", "BLOC CONFIDENTIAL"];

/// What `pouch pki issue` prints about a party, and `pouch roster add` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Public half of a relay's log key, in hex; it goes into the roster's `[log]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_key: Option<String>,
    /// One party, as it will stand in the roster; or several, whose entries were put together.
    #[serde(rename = "party")]
    parties: Vec<Party>,
}

impl Entry {
    /// The entry of a party that was certified just now: active, without topics or clearance,
    /// which the ministry gives it; a mission counts as a witness.
    pub fn new(request: &Request, issued: &Issued) -> Entry {
        let kind = request.id.kind();
        let party = Party {
            number: issued.number,
            id: request.id.clone(),
            code: request.code.clone(),
            name: request.name.clone(),
            kind,
            status: Status::Active,
            sign: request.sign,
            witness: request.witness,
            is_witness: kind == Kind::Mission,
            topics: Vec::new(),
            clearance: String::new(),
            revoked_serials: Vec::new(),
            time_zone: "UTC".to_owned(),
            holidays: Vec::new(),
            quotas: Quotas::default(),
            working_hours: Vec::new(),
            schedule: Vec::new(),
            duty: Vec::new(),
        };
        Entry { log_key: request.log.map(|key| key.to_string()), parties: vec![party] }
    }

    /// Reads the entry that [`Entry::to_toml`] wrote, or an officer changed.
    ///
    /// # Errors
    /// [`PkiError::Entry`] with line and key.
    pub fn load(path: &Path) -> Result<Entry, PkiError> {
        toml::from_str(&super::read_text(path)?)
            .map_err(|problem| PkiError::Entry { path: path.to_owned(), problem: Box::new(problem) })
    }

    /// The entry as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain keys and values are TOML")
    }

    /// Gives the parties topics and a clearance.
    pub fn permit(&mut self, topics: &[String], clearance: &str) {
        for party in &mut self.parties {
            party.topics = topics.to_vec();
            party.clearance = clearance.to_owned();
        }
    }

    /// Has the parties not be witnesses: a roster takes few.
    pub(super) fn excuse_witness(&mut self) {
        for party in &mut self.parties {
            party.is_witness = false;
        }
    }
}

/// Makes `keys` roster keys in `folder` (`roster-1.key` and on), and the draft of version 1 with
/// five topics, three labels and no party. The keys are for `keys` different people: each takes
/// one file away.
///
/// # Errors
/// [`PkiError::Key`] when the folder holds keys already, [`PkiError::Roster`] when numbers or
/// names are out of bounds.
pub fn init(folder: &Path, trust_domain: &str, keys: u32, threshold: u32) -> Result<RosterDraft, PkiError> {
    super::create_private_folder(folder)?;
    let mut vkeys = Vec::new();
    for number in 1..=keys {
        let key = SigningKey::create(&key_path(folder, number))?;
        vkeys.push(key.vkey(&format!("roster.{trust_domain}"))?);
    }
    let labels =
        LabelPolicy { policy: "BLOC".to_owned(), classifications: LABELS.map(str::to_owned).to_vec() };
    let roster_keys = RosterKeys { threshold, keys: vkeys };
    let origin = format!("{}/log", tls::relay_host(trust_domain));
    let mut draft = RosterDraft::init(trust_domain, roster_keys, &origin, labels);
    let topic = |(id, name): (&str, &str)| Topic { id: id.to_owned(), name: name.to_owned() };
    draft.topics = TOPICS.map(topic).to_vec();
    Ok(draft)
}

/// Where [`init`] puts the roster key of that number.
pub fn key_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("roster-{number}.key"))
}

/// Puts an entry's parties into the draft. One that is there already (its box was replaced) gets
/// the entry's keys, and those it had can never come back.
///
/// # Errors
/// [`PkiError::EntryKey`] when the log key is none; whatever else is wrong shows when the draft is
/// checked.
pub fn add(draft: &mut RosterDraft, entry: Entry) -> Result<(), PkiError> {
    if let Some(hex) = entry.log_key {
        let key: PublicKey = hex.parse()?;
        let vkey = Vkey::new(&draft.log.origin, KeyKind::Ed25519, key.0)?;
        if !draft.log.keys.contains(&vkey) {
            draft.log.keys.push(vkey);
        }
    }
    for party in entry.parties {
        match draft.parties.iter_mut().find(|known| known.id == party.id) {
            Some(known) => draft.revoked_keys.extend(replace_keys(known, &party)),
            None => draft.add(party),
        }
    }
    Ok(())
}

/// Gives a party the keys of its new box, and returns those that are in use no longer.
fn replace_keys(known: &mut Party, new: &Party) -> Vec<PublicKey> {
    let mut gone = Vec::new();
    if known.sign != new.sign {
        gone.push(known.sign);
    }
    if known.witness != new.witness {
        gone.extend(known.witness);
    }
    (known.sign, known.witness) = (new.sign, new.witness);
    gone
}

/// Adds the signatures of `keys` to a draft, or to a note that others have signed already.
///
/// What is signed is the draft's own text, written anew from its checked content; `former` are the
/// keys of the version before, which sign too where a version changes the keys.
///
/// # Errors
/// [`PkiError::Roster`] when the draft does not hold, [`PkiError::Altered`] when a note's text is
/// not in the form in which drafts are written, [`PkiError::NotRosterKey`] for a key that signs no
/// roster of this kind.
pub fn sign(draft_or_note: &str, keys: &[SigningKey], former: &[Vkey]) -> Result<Note, PkiError> {
    let signed = Note::parse(draft_or_note.as_bytes()).ok();
    let draft = RosterDraft::parse(signed.as_ref().map_or(draft_or_note, Note::text))?;
    let text = draft.text()?;
    let mut note = match signed {
        Some(note) if note.text() != text => return Err(PkiError::Altered),
        Some(note) => note,
        None => Note::new(&text)?,
    };
    for key in keys {
        let public = key.public().0;
        let mut vkeys = draft.roster.keys.iter().chain(former);
        let vkey = vkeys.find(|vkey| *vkey.public() == public);
        let vkey = vkey.ok_or(PkiError::NotRosterKey(key.public()))?;
        note.add(key.sign_note(vkey.name(), &text)?)?;
    }
    Ok(note)
}

/// Verifies a chain of roster versions, the first of which the trust bundle names.
///
/// # Errors
/// [`PkiError::NoRoster`] for no notes; [`PkiError::Roster`] for the first that does not hold.
pub fn verify(bundle: &TrustBundle, notes: &[Vec<u8>]) -> Result<Roster, PkiError> {
    let (first, later) = notes.split_first().ok_or(PkiError::NoRoster)?;
    let first = roster::verify_first(first, bundle)?;
    Ok(later.iter().try_fold(first, |current, note| roster::verify_next(note, &current))?)
}

/// The trust bundle of a roster that has its signatures, and of the root CA: what each box gets by
/// hand, once, and every later check starts from.
///
/// # Errors
/// [`PkiError::Roster`] when the note lacks signatures or does not hold.
pub fn trust_bundle(note: &[u8], root: &CertificateDer<'_>) -> Result<TrustBundle, PkiError> {
    let draft = RosterDraft::parse(Note::parse(note)?.text())?;
    let bundle = TrustBundle {
        format: BundleFormat::V1,
        trust_domain: draft.trust_domain,
        root_key_sha256: tls::spki_sha256(root).ok_or(rcgen::Error::CouldNotParseCertificate)?,
        roster_version: draft.version,
        roster_hash: merkle::sha256(note),
        roster_keys: draft.roster.keys,
        threshold: draft.roster.threshold,
        log_origin: draft.log.origin,
    };
    roster::verify_first(note, &bundle)?;
    Ok(bundle)
}

/// Says in words what a draft or a note holds. Nobody's signature is checked for it.
///
/// # Errors
/// [`PkiError::Roster`] when it is no roster.
pub fn show(draft_or_note: &str) -> Result<String, PkiError> {
    let signed = Note::parse(draft_or_note.as_bytes()).ok();
    let draft = RosterDraft::parse(signed.as_ref().map_or(draft_or_note, Note::text))?;
    let signatures = signed.map_or(0, |note| note.signatures().len());
    Ok(describe(&draft, signatures).expect("a String takes all"))
}

fn describe(draft: &RosterDraft, signatures: usize) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let RosterKeys { threshold, keys } = &draft.roster;
    writeln!(text, "roster version {} of {}", draft.version, draft.trust_domain)?;
    writeln!(
        text,
        "  {signatures} signatures on it, not checked here; {threshold} of {} keys must sign",
        keys.len()
    )?;
    writeln!(text, "  log      {} ({} keys)", draft.log.origin, draft.log.keys.len())?;
    writeln!(text, "  relay    {}", draft.relay_addresses.join(", "))?;
    writeln!(text, "  labels   {}", draft.labels.classifications.join(", "))?;
    for topic in &draft.topics {
        writeln!(text, "  topic    {:<16} {}", topic.id, topic.name)?;
    }
    for group in &draft.groups {
        writeln!(text, "  group    {:<16} {} ({} parties)", group.code, group.name, group.members.len())?;
    }
    for office in &draft.offices {
        writeln!(text, "  office   {:<16} {}", office.code, office.name)?;
    }
    for party in &draft.parties {
        let status = match party.status {
            Status::Active => "active",
            Status::Suspended => "suspended",
            Status::Revoked => "revoked",
        };
        let witness = if party.is_witness { ", witness" } else { "" };
        writeln!(text, "  party {:>3} {:<16} {} ({status}{witness})", party.number, party.code, party.name)?;
        writeln!(text, "            {}", party.id)?;
        writeln!(text, "            topics {}; cleared {}", list(&party.topics), none(&party.clearance))?;
    }
    Ok(text)
}

fn list(words: &[String]) -> String {
    none(&words.join(", ")).to_owned()
}

fn none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
