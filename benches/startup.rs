//! How long a relay takes to start on a full journal, and with how much memory.
//!
//! `cargo bench --bench startup [-- MIB]` writes a journal of so many MiB (1,024 unless told): envelopes of
//! 1 KiB from eight missions to the hub, and the receipts that settle them. Then it starts a relay
//! on it, in a process of its own, until it has written the audit log's files, as one that was running has them. Then it
//! starts one twice, and prints one JSON line each: the time from the start of the process to its first accepted
//! connection, its processor time and its peak of memory. Before the first of the two the page cache is told to forget
//! the journal, so that it is read from the disk; the second finds in memory what the first has read.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use pouch::{
    batch::Proof,
    exchange::Exchange,
    identity::Kind,
    journal::{self, FileDisk, JournalError, Options, Writer},
    limits::Limits,
    merkle::{self, Hash},
    pki::{self, Example},
    record::{
        Record,
        administrative::{Act, AdministrativeLeaf, ChainHead},
        content::{AcceptedEnvelope, AcceptedReceipts, AdministrativeRecord, Content, Traffic},
        leaf::{Opening, OpeningKind},
    },
    roster::PartyNumber,
    seal::{self, Slip},
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber,
        envelope::{Addressee, Core, Envelope, Sealing},
        receipt::{ReceiptBatch, ReceiptItem, ReceiptKind, ReceiptPart},
    },
};

const SENDERS: u64 = 8;
/// Envelopes of one sender in a row, settled together, and the records of one batch of the journal.
const ENVELOPES: usize = 64;
const TEXT_BYTES: usize = 1024;
const LOG_TIME_US: u64 = 1_790_000_000_000_000;
const MIB: u64 = 1024 * 1024;

fn main() {
    let asked = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let mib = asked.unwrap_or(1024);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let example = example(&folder.path().join("pki"));
    let records = Traffics::new(&example).fill(&folder.path().join("relay"), mib);
    write_log(folder.path(), &example);
    forget(&folder.path().join("relay/journal"));
    for start in ["from disk", "from memory"] {
        let Start { seconds, processor_seconds, peak_mib } = start_relay(folder.path(), &example);
        let per_gib = 1024.0 / mib as f64;
        println!(
            "{{\"workload\":\"startup\",\"read\":\"{start}\",\"journal_mib\":{mib},\"records\":{records},\
             \"s_per_gib\":{:.2},\"relay_cpu_s_per_gib\":{:.2},\"relay_peak_mib\":{peak_mib}}}",
            seconds * per_gib,
            processor_seconds * per_gib,
        );
    }
}

fn example(folder: &Path) -> Example {
    let mut parties =
        vec![pki::example_party("relay/a", "RELAY", "Relay"), pki::example_party("hub", "MOD", "Consumer")];
    for number in 1..=SENDERS {
        let (path, code) = (format!("mission/p{number}"), format!("P{number}"));
        parties.push(pki::example_party(&path, &code, &format!("Publisher {number}")));
    }
    pki::make_example(folder, &parties, &[], SystemTime::now()).expect("the folder is new")
}

/// Makes the records that a relay would have made.
struct Traffics {
    exchange: Exchange,
    note: Bytes,
    hub: PartyNumber,
    senders: Vec<PartyNumber>,
    core: Core,
    stored: u64,
}

impl Traffics {
    fn new(example: &Example) -> Traffics {
        let roster = &example.roster;
        let of_kind = |kind| roster.parties().filter(move |party| party.id.kind() == kind);
        let hub = of_kind(Kind::Hub).next().expect("the example has a hub").number;
        let content = roster.content();
        let core = Core {
            trust_domain: roster.trust_domain().to_owned(),
            id: DispatchId([1; 16]),
            sender: PartyNumber(0),
            submission: SubmissionNumber(0),
            roster_version: roster.version(),
            roster_hash: roster.hash(),
            addressees: vec![Addressee { party: hub, role: Role::To }],
            precedence_action: Precedence::Routine,
            precedence_info: Precedence::Routine,
            topic: content.topics[0].id.clone(),
            label: content.labels.classifications[0].clone(),
            exercise: true,
            expires_s: LOG_TIME_US / 1_000_000 + 86_400,
            size_bucket: 0,
            commitment: None,
            attachments: Vec::new(),
            supersedes: None,
            checkpoint_size: 0,
            checkpoint_root: merkle::empty_root(),
            sealing: Sealing::Clear,
        };
        Traffics {
            exchange: Exchange::new(Limits::DEFAULT, example.trust.clone()),
            note: fs::read(example.folder.join("roster.note")).expect("the example has a roster").into(),
            hub,
            senders: of_kind(Kind::Mission).map(|party| party.number).collect(),
            core,
            stored: 0,
        }
    }

    /// Fills the journal of a relay's folder, and tells how many records that took.
    fn fill(mut self, folder: &Path, mib: u64) -> u64 {
        fs::create_dir_all(folder).expect("the folder is new");
        let disk = Arc::new(FileDisk::open(&folder.join("journal")).expect("the folder is new"));
        let recovered = journal::recover::<JournalError>(disk, Options::DEFAULT, &mut |_| Ok(()));
        let base = self.exchange.base();
        let opened = recovered.expect("an empty journal").open::<JournalError>(&base, &mut |_| Ok(()));
        let (mut writer, _) = opened.expect("the disk is well");
        let roster = self.roster();
        self.append(&mut writer, vec![roster]);
        let mut bytes = 0;
        for turn in 0.. {
            let sender = self.senders[turn % self.senders.len()];
            bytes += self.append_envelopes(&mut writer, sender, turn as u64);
            if bytes > mib * MIB {
                break;
            }
        }
        writer.seal().expect("the disk is well");
        self.exchange.tree().size()
    }

    /// Envelopes of one sender in one batch, and in the next one the receipts that settle them.
    fn append_envelopes(&mut self, writer: &mut Writer, sender: PartyNumber, turn: u64) -> u64 {
        let first = self.exchange.tree().size();
        let (mut records, mut settled) = (Vec::new(), Vec::new());
        for index in 0..ENVELOPES {
            let number = 1 + turn / SENDERS * ENVELOPES as u64 + index as u64;
            let (record, hash) = self.envelope(sender, number, index);
            settled.push((hash, Position(first + index as u64)));
            records.push(record);
        }
        let written = self.append(writer, records);
        let receipts = self.receipts(sender, settled);
        written + self.append(writer, vec![receipts])
    }

    fn append(&mut self, writer: &mut Writer, records: Vec<Record>) -> u64 {
        let bytes = records.iter().map(Record::encoded_len).sum();
        if writer.needs_segment(records.len(), bytes) {
            writer.roll(&self.exchange.base()).expect("the disk is well");
        }
        let first = writer.append(&records).expect("the disk is well").0;
        for (position, record) in (first..).map(Position).zip(&records) {
            self.exchange.replay(position, record).expect("made as a relay makes it");
        }
        (bytes as u64).next_multiple_of(4096)
    }

    fn roster(&self) -> Record {
        let act = Act::Roster {
            version: self.core.roster_version,
            hash: merkle::sha256(&self.note),
            length: u32::try_from(self.note.len()).expect("a note is short"),
        };
        let leaf = AdministrativeLeaf { log_time_us: LOG_TIME_US, previous: ChainHead::START, act };
        Content::Administrative(AdministrativeRecord { leaf, beside: self.note.clone() }).to_record()
    }

    fn envelope(&mut self, sender: PartyNumber, number: u64, index: usize) -> (Record, EnvelopeHash) {
        self.core.sender = sender;
        self.core.submission = SubmissionNumber(number);
        self.core.id.0[8..].copy_from_slice(&number.to_be_bytes());
        let mut text = vec![b'x'; TEXT_BYTES];
        text[..8].copy_from_slice(&number.to_be_bytes());
        let slip = Slip { epoch: 1, number, previous: Hash::ZERO, voided: Vec::new() };
        let sealed = seal::seal(&self.core, text.into(), &[slip]);
        let hash = sealed.hash();
        // A relay verifies signatures when an envelope comes, and never again.
        let index = u8::try_from(index).expect("below 64");
        let path = vec![Hash::ZERO; 6];
        let proof = Proof { count: 64, index, path, signature: [7; 64] };
        let (envelope, core) =
            Envelope::from_submit(&sealed.submit(&proof), &proof).expect("made as a desk makes it");
        let traffic = self.traffic(OpeningKind::Envelope, hash.0);
        let accepted = AcceptedEnvelope { traffic, envelope: Arc::new(envelope), core: Box::new(core), hash };
        (Content::Envelope(accepted).to_record(), hash)
    }

    fn receipts(&mut self, sender: PartyNumber, envelopes: Vec<(EnvelopeHash, Position)>) -> Record {
        self.stored += 1;
        let item = ReceiptItem {
            kind: ReceiptKind::Delivered,
            reason: 0,
            receiptor: self.hub,
            sender,
            addressee: self.hub,
            time_us: LOG_TIME_US,
            roster_version: self.core.roster_version,
            checkpoint_size: 0,
            checkpoint_root: merkle::empty_root(),
            details_hash: Hash::ZERO,
            envelopes,
        };
        let part = ReceiptPart { bytes: item.encode(), details: Bytes::new(), item };
        let batch = ReceiptBatch::new(self.stored, vec![part], [7; 64]);
        let traffic = self.traffic(OpeningKind::Receipts, batch.tree.root());
        let receipts = AcceptedReceipts { traffic, receiptor: self.hub, batch: Arc::new(batch) };
        Content::Receipts(receipts).to_record()
    }

    fn traffic(&self, kind: OpeningKind, hash: Hash) -> Traffic {
        let roster_version = self.core.roster_version;
        Traffic { salt: hash.0, opening: Opening { kind, log_time_us: LOG_TIME_US, roster_version, hash } }
    }
}

/// What a relay took until it listened.
struct Start {
    seconds: f64,
    /// User and system time of all its threads.
    processor_seconds: f64,
    /// The most memory that it had.
    peak_mib: u64,
}

/// Runs a relay until it has signed its first checkpoint, before which stand all tiles.
fn write_log(folder: &Path, example: &Example) {
    let (mut relay, _) = spawn_relay(folder, example);
    let signed = folder.join("relay/log.kept/signed");
    while !signed.exists() {
        assert!(relay.0.try_wait().expect("our child").is_none(), "the relay did not sign");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Has the page cache forget a folder's files.
fn forget(folder: &Path) {
    for entry in fs::read_dir(folder).expect("our folder") {
        let file = fs::File::open(entry.expect("our folder").path()).expect("our file");
        file.sync_all().expect("our file");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file on a disk");
    }
}

fn start_relay(folder: &Path, example: &Example) -> Start {
    let began = Instant::now();
    let (mut relay, address) = spawn_relay(folder, example);
    while TcpStream::connect(address).is_err() {
        assert!(relay.0.try_wait().expect("our child").is_none(), "the relay did not start");
        thread::sleep(Duration::from_millis(2));
    }
    let seconds = began.elapsed().as_secs_f64();
    let of_relay = |file| fs::read_to_string(format!("/proc/{}/{file}", relay.0.id())).expect("our child");
    // proc(5): fields 14 and 15, behind a name in brackets that is the second.
    let stat = of_relay("stat");
    let (_, fields) = stat.rsplit_once(')').expect("proc(5)");
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    let processor_seconds = ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64;
    let status = of_relay("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak_kib: u64 = peak.and_then(|kib| kib.trim().parse().ok()).expect("proc(5)");
    Start { seconds, processor_seconds, peak_mib: peak_kib / 1024 }
}

fn spawn_relay(folder: &Path, example: &Example) -> (Relay, SocketAddr) {
    let (config, address) = configure(folder, example);
    let relay = Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(["relay", "--example", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .spawn()
        .expect("the program is built");
    (Relay(relay), address)
}

fn configure(folder: &Path, example: &Example) -> (PathBuf, SocketAddr) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let pki = example.folder.join("relay");
    let config = format!(
        "listen = \"{address}\"\ndir = {:?}\npki = {pki:?}\nroster = {:?}\ntrust = {:?}\nroot = {:?}\n\
         [log]\nlevel = \"warn\"\n",
        folder.join("relay"),
        pki.join("roster.note"),
        pki.join("trust.toml"),
        pki.join("root.pem"),
    );
    let file = folder.join("relay.toml");
    fs::write(&file, config).expect("our folder");
    (file, address)
}

/// Ends with the bench.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(|_| ())) {
            eprintln!("the relay could not be ended: {error}");
        }
    }
}
