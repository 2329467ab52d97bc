//! A bloc in memory that writes whole logs.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use pouch::{
    audit::{Checkpoint, witness_name},
    keys::SigningKey,
    merkle::{Hash, leaf_hash, sha256},
    note::Note,
    record::{
        administrative::{Act, AdministrativeLeaf, ChainHead},
        leaf::{Opening, OpeningKind},
    },
    roster::{BundleFormat, LabelPolicy, Party, Roster, RosterDraft, RosterKeys, TrustBundle, verify_first},
    tiles::{Folder, View, roster_file, signed_note},
    wire::Position,
};

/// The log's name.
pub const ORIGIN: &str = "relay.bloc.example/log";

/// The files of a log, in memory.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Vec<u8>>>>, Made);

/// What was made and not shown.
type Made = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

impl Files {
    /// All of them, by path.
    pub fn all(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    /// Writes them below a folder.
    #[allow(dead_code, reason = "not every test needs files")]
    pub fn write_to(&self, folder: &std::path::Path) {
        for (path, bytes) in self.all() {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// These and no others.
    pub fn of(files: BTreeMap<String, Vec<u8>>) -> Files {
        Files(Arc::new(Mutex::new(files)), Made::default())
    }
}

impl Folder for Files {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(path).cloned())
    }

    fn make(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        self.1.lock().unwrap().extend(files.iter().cloned());
        Ok(())
    }

    fn show(&self, paths: &[String]) -> io::Result<()> {
        let mut made = self.1.lock().unwrap();
        let shown = paths.iter().map(|path| (path.clone(), made.remove(path).expect("it was made")));
        self.0.lock().unwrap().extend(shown);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let inside = format!("{path}/");
        self.0.lock().unwrap().retain(|name, _| name != path && !name.starts_with(&inside));
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let (inside, files) = (format!("{path}/"), self.0.lock().unwrap());
        let names = files.keys().filter_map(|name| name.strip_prefix(&inside));
        Ok(names.filter_map(|name| name.split('/').next()).map(str::to_owned).collect())
    }
}

/// A ministry with three missions unless asked for others, all witnesses: two are a quorum.
pub struct Bloc {
    pub log_key: SigningKey,
    /// By the name under which each cosigns.
    pub witnesses: Vec<(String, SigningKey)>,
    /// The roster.
    pub note: Vec<u8>,
    pub trust: TrustBundle,
    /// Who signs rosters.
    pub roster_key: SigningKey,
    /// By code.
    #[allow(dead_code, reason = "not every test signs")]
    pub signers: BTreeMap<String, SigningKey>,
}

impl Bloc {
    pub fn new() -> Bloc {
        Bloc::of(&["IDN", "MYS", "PHL"])
    }

    /// With these missions.
    pub fn of(missions: &[&str]) -> Bloc {
        let (roster_key, log_key) = (key(), key());
        let keys = RosterKeys { threshold: 1, keys: vec![roster_key.vkey("bloc.example/roster-1").unwrap()] };
        let labels = LabelPolicy { policy: "BLOC".into(), classifications: vec!["OPEN".into()] };
        let mut draft = RosterDraft::init("bloc.example", keys.clone(), ORIGIN, labels);
        draft.log.keys = vec![log_key.vkey(ORIGIN).unwrap()];
        draft.relay_addresses = vec!["relay.bloc.example:7443".to_owned()];
        let (mut witnesses, mut signers) = (Vec::new(), BTreeMap::new());
        let missions = missions.iter().map(|code| (format!("mission/{}", code.to_lowercase()), *code));
        for (path, code) in
            [("relay/a".to_owned(), "RELAY"), ("hub".to_owned(), "MOD")].into_iter().chain(missions)
        {
            let id: pouch::identity::SpiffeId = format!("spiffe://bloc.example/{path}").parse().unwrap();
            let sign = key();
            let mut party = Party::new(draft.next_number(), id.clone(), code, code, sign.public());
            signers.insert(code.to_owned(), sign);
            if path != "relay/a" {
                let witness = key();
                party.witness = Some(witness.public());
                party.is_witness = path != "hub";
                party.clearance = "OPEN".into();
                if party.is_witness {
                    witnesses.push((witness_name(&id), witness));
                }
            }
            draft.add(party);
        }
        let note = signed_roster(&roster_key, &draft);
        let trust = TrustBundle {
            format: BundleFormat::V1,
            trust_domain: "bloc.example".into(),
            root_key_sha256: Hash::ZERO,
            roster_version: 1,
            roster_hash: sha256(&note),
            log_origin: ORIGIN.into(),
            threshold: 1,
            roster_keys: keys.keys,
        };
        verify_first(&note, &trust).expect("a first roster");
        Bloc { log_key, witnesses, note, trust, roster_key, signers }
    }

    /// The version after `before`, with a change.
    #[allow(dead_code, reason = "not every test has a second roster")]
    pub fn next_roster(&self, before: &Roster, change: impl FnOnce(&mut RosterDraft)) -> Vec<u8> {
        let mut draft = RosterDraft::next(before).unwrap();
        change(&mut draft);
        draft.retire_keys_of(before);
        signed_roster(&self.roster_key, &draft)
    }

    fn leaves(&self, size: u64) -> Vec<Bytes> {
        let act = Act::Roster {
            version: 1,
            hash: sha256(&self.note),
            length: u32::try_from(self.note.len()).unwrap(),
        };
        let first = AdministrativeLeaf { log_time_us: 5, previous: ChainHead::START, act }.encode();
        let head = ChainHead { position: Position(0), hash: leaf_hash(&first) };
        let second = AdministrativeLeaf { log_time_us: 6, previous: head, act: Act::Stopped }.encode();
        let traffic = (2..size).map(|index| {
            let hash = sha256(&index.to_be_bytes());
            let opening =
                Opening { kind: OpeningKind::Envelope, log_time_us: index, roster_version: 1, hash };
            Bytes::copy_from_slice(&opening.leaf(hash.as_bytes()))
        });
        [first, second].into_iter().chain(traffic).take(usize::try_from(size).unwrap()).collect()
    }

    /// Writes leaves up to a size, with a restart before each checkpoint, and publishes the last one.
    pub fn log(&self, sizes: &[u64]) -> Files {
        let files = Files::default();
        files.put(&[(roster_file(1), self.note.clone())]).unwrap();
        let mut signed: Option<Checkpoint> = None;
        for size in sizes {
            let mut view = View::open(Arc::new(files.clone()), signed.as_ref()).unwrap();
            let from = usize::try_from(view.size()).unwrap();
            self.leaves(*size)[from..].iter().for_each(|leaf| view.take(leaf.clone()).unwrap());
            view.write().unwrap();
            signed = Some(Checkpoint { origin: ORIGIN.into(), size: *size, root: view.root() });
            view.publish(&self.checkpoint(signed.as_ref().unwrap(), 3)).unwrap();
        }
        files
    }

    /// A checkpoint with so many cosignatures.
    pub fn checkpoint(&self, checkpoint: &Checkpoint, cosignatures: usize) -> Vec<u8> {
        let mut note = Note::parse(&signed_note(&self.log_key, checkpoint)).unwrap();
        for (name, witness) in self.witnesses.iter().take(cosignatures) {
            note.add(witness.cosign(name, 1_795_000_000, &checkpoint.to_string()).unwrap()).unwrap();
        }
        note.to_bytes()
    }
}

fn signed_roster(key: &SigningKey, draft: &RosterDraft) -> Vec<u8> {
    let text = draft.text().unwrap();
    let mut note = Note::new(&text).unwrap();
    note.add(key.sign_note("bloc.example/roster-1", &text).unwrap()).unwrap();
    note.to_bytes()
}

pub fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}
