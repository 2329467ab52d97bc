//! A whole example PKI in one call: CA, a box for each party, roster, trust bundle.
//!
//! For `pouch demo`, tests and benches. All private keys are made in one place here, which a real
//! ministry must never do; so everything lives in a trust domain under `.example`, which daemons
//! refuse.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::roster_files::{self, Entry};
use super::{Applicant, PkiError, init, request, write_public};
use crate::identity::{Kind, SpiffeId};
use crate::keys::SigningKey;
use crate::limits::{ROSTER_LIST_MAX, ROSTER_WITNESSES_MAX};
use crate::roster::{Group, Roster, TrustBundle};
use crate::tls;

/// Trust domain of every example.
pub const EXAMPLE_TRUST_DOMAIN: &str = "mod.example";

/// Parties of an example that get their own copies of what all share: a roster of thousands has a megabyte.
const COPIES_MAX: usize = 64;

/// An example PKI on disk.
///
/// In `folder`: `ca/`, `roster/` (the roster keys), `root.pem`, `trust.toml`, `roster.note`; and
/// for each party a folder as on its own box (`relay/`, `hub/`, `idn/`…) with its keys,
/// `tls.pem`, `request.toml`, and, of the first 64 parties, copies of `root.pem`, `trust.toml` and
/// `roster.note`.
#[derive(Debug)]
pub struct Example {
    /// Where it is.
    pub folder: PathBuf,
    /// What every box trusts from the start.
    pub trust: TrustBundle,
    /// The roster, version 1, verified.
    pub roster: Roster,
}

/// The relay, the hub and four embassies, as in the issue's demo.
pub fn example_parties() -> Vec<Applicant> {
    [
        ("relay/a", "RELAY", "Relay A"),
        ("hub", "MOD", "Ministry of Defence"),
        ("mission/idn", "IDN", "Embassy of the Republic of Indonesia"),
        ("mission/mys", "MYS", "High Commission of Malaysia"),
        ("mission/phl", "PHL", "Embassy of the Republic of the Philippines"),
        ("mission/vnm", "VNM", "Embassy of the Socialist Republic of Viet Nam"),
    ]
    .map(|(path, code, name)| example_party(path, code, name))
    .to_vec()
}

/// A relay, a hub, and missions that have numbers for names, for a bench: `m1` and on.
pub fn example_bloc(missions: usize) -> Vec<Applicant> {
    let mut parties = vec![
        example_party("relay/a", "RELAY", "Relay A"),
        example_party("hub", "MOD", "Ministry of Defence"),
    ];
    parties.extend((1..=missions).map(|number| {
        example_party(&format!("mission/m{number}"), &format!("M{number}"), &format!("Mission {number}"))
    }));
    parties
}

/// A party of the example trust domain; `path` is `mission/idn`, `hub` or `relay/a`.
///
/// # Panics
/// When `path` makes no identity: examples are written by us.
pub fn example_party(path: &str, code: &str, name: &str) -> Applicant {
    let id = SpiffeId::parse(&format!("spiffe://{EXAMPLE_TRUST_DOMAIN}/{path}"));
    let id = id.expect("an example's path names a party");
    Applicant { id, code: code.to_owned(), name: name.to_owned() }
}

/// Makes an example PKI in `folder` for these parties, numbered from 1 in their order. All may use
/// every topic and label; missions are witnesses and form the group `ACI`, as many as a roster takes.
///
/// # Errors
/// [`PkiError`] when `folder` cannot be written or holds one already.
pub fn make_example(
    folder: &Path,
    parties: &[Applicant],
    relay_addresses: &[String],
    now: SystemTime,
) -> Result<Example, PkiError> {
    let mut ca = init(&folder.join("ca"), EXAMPLE_TRUST_DOMAIN, now)?;
    let keys_folder = folder.join("roster");
    let mut draft = roster_files::init(&keys_folder, EXAMPLE_TRUST_DOMAIN, 3, 2)?;
    draft.relay_addresses = relay_addresses.to_vec();
    let topics: Vec<String> = draft.topics.iter().map(|topic| topic.id.clone()).collect();
    let clearance = draft.labels.classifications.last().cloned().unwrap_or_default();
    let requests =
        at_once(parties, |applicant| request(&folder.join(folder_name(&applicant.id)), applicant))?;
    let certified = ca.issue_all(&requests, now)?;
    let boxes: Vec<_> = requests.iter().zip(&certified).collect();
    at_once(&boxes, |(request, issued)| {
        let chain = folder.join(folder_name(&request.id)).join("tls.pem");
        write_public(&chain, issued.chain_pem.as_bytes())
    })?;
    let mut missions = 0;
    for (request, issued) in boxes {
        let mut entry = Entry::new(request, issued);
        entry.permit(&topics, &clearance);
        missions += usize::from(request.id.kind() == Kind::Mission);
        if missions > ROSTER_WITNESSES_MAX {
            entry.excuse_witness();
        }
        roster_files::add(&mut draft, entry)?;
    }
    let missions = draft.parties.iter().filter(|party| party.kind == Kind::Mission);
    let members: Vec<_> = missions.map(|party| party.number).take(ROSTER_LIST_MAX).collect();
    if !members.is_empty() {
        let (code, name) = ("ACI".to_owned(), "All missions of the bloc".to_owned());
        draft.groups.push(Group { code, name, members });
    }

    let mut keys = Vec::new();
    for number in 1..=draft.roster.threshold {
        keys.push(SigningKey::load(&roster_files::key_path(&keys_folder, number))?);
    }
    let note = roster_files::sign(&draft.text()?, &keys, &[])?.to_bytes();
    let root = tls::read_certificates(&ca.root_path())?.swap_remove(0);
    let trust = roster_files::trust_bundle(&note, &root)?;
    let roster = roster_files::verify(&trust, std::slice::from_ref(&note))?;

    let root_pem = super::read_text(&ca.root_path())?;
    let mut folders = vec![folder.to_owned()];
    folders.extend(parties.iter().take(COPIES_MAX).map(|party| folder.join(folder_name(&party.id))));
    for folder in folders {
        write_public(&folder.join("root.pem"), root_pem.as_bytes())?;
        write_public(&folder.join("trust.toml"), trust.to_string().as_bytes())?;
        write_public(&folder.join("roster.note"), &note)?;
    }
    Ok(Example { folder: folder.to_owned(), trust, roster })
}

/// Works on many parties at once, because most of the time is waiting for the disk.
fn at_once<T: Sync, U: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<U, PkiError> + Sync,
) -> Result<Vec<U>, PkiError> {
    const THREADS: usize = 32;
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(items.len().div_ceil(THREADS).max(1))
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Result<Vec<_>, _>>()))
            .collect();
        let mut done = Vec::with_capacity(items.len());
        for part in parts {
            done.extend(part.join().expect("a panic there is one here")?);
        }
        Ok(done)
    })
}

impl Example {
    /// The folder of a party's box.
    pub fn party_folder(&self, id: &SpiffeId) -> PathBuf {
        self.folder.join(folder_name(id))
    }
}

/// `idn` for a mission, `hub`, and `relay` whatever its name.
fn folder_name(id: &SpiffeId) -> &str {
    match (id.kind(), id.name()) {
        (Kind::Mission | Kind::Operator | Kind::Auditor, Some(name)) => name,
        (kind, _) => kind.as_str(),
    }
}
