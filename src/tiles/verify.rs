//! Verifies a whole log from its files and a trust bundle: every leaf, every tile, signatures, and the quorum.
//!
//! Rosters come with the log, and count only as far as the bundle's keys lead to them and the log's own
//! administrative leaves name them. Memory: one bundle and one tile a level.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CHECKPOINT_FILE, Folder, LogError, roster_file, serve, view::file};
use crate::{
    audit::{
        AuditError, Bundle, BundlePath, Checkpoint, Followed, Follower, LogFacts, LogTrust, SignedCheckpoint,
        TILE_HASHES, TilePath, bundles_between,
    },
    limits::{HASH_BYTES, LOG_ORDERS_MAX},
    merkle::{self, Hash, leaf_hash},
    note::Note,
    record::{
        administrative::{Act, AdministrativeLeaf},
        leaf,
    },
    roster::{self, PartyNumber, Roster, RosterError, TrustBundle},
    wire::{
        Malformed,
        order::{OrderKind, SignedOrder},
    },
};

/// What was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLog {
    /// The checkpoint that all of it leads to.
    pub checkpoint: Checkpoint,
    /// Who cosigned it, by party number.
    pub witnesses: Vec<PartyNumber>,
    /// How many a quorum takes, and whether there was one. Without it nothing is proven.
    pub quorum: usize,
    /// See [`VerifiedLog::quorum`].
    pub is_witnessed: bool,
    /// Administrative leaves among all.
    pub administrative: u64,
    /// The newest roster that the log leads to.
    pub roster: Roster,
    /// Where each version came into force, those before the bundle's too.
    pub roster_positions: BTreeMap<u32, u64>,
    /// Orders that suspend or lift, by position; their signatures are not verified.
    pub orders: Vec<(u64, SignedOrder)>,
}

/// Why a log is not what it claims.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The files cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no checkpoint, so nothing is claimed.
    #[error("there is no checkpoint: the log was never witnessed, or this is not its folder")]
    NoCheckpoint,
    /// A roster that is needed is missing or is none.
    #[error("{name}: {problem}", name = roster_file(*version))]
    Roster {
        /// Its version.
        version: u32,
        /// What is wrong.
        problem: String,
    },
    /// The checkpoint, this one or an older one, is not believed.
    #[error("the {which}: {source}")]
    Checkpoint {
        /// Which of the two.
        which: &'static str,
        /// Why.
        source: AuditError,
    },
    /// A leaf or a tile is wrong.
    #[error("leaf {index}: {problem} ({path})")]
    Index {
        /// The first leaf that is wrong, or that lies under a hash that is.
        index: u64,
        /// What is wrong.
        problem: String,
        /// The file that shows it.
        path: String,
    },
    /// All files fit each other, and not the checkpoint.
    #[error("the {size} leaves make another root than the {which} has: all of them were written anew")]
    Root {
        /// Leaves.
        size: u64,
        /// Which checkpoint.
        which: &'static str,
    },
}

const NEWEST: &str = "checkpoint";
const OLD: &str = "older checkpoint";

/// Verifies a log. `old` is a checkpoint that somebody kept: the log must begin with what it covers.
///
/// # Errors
/// [`Fault`], the first that is found from the first leaf on.
pub fn verify(folder: &dyn Folder, bundle: &TrustBundle, old: Option<&[u8]>) -> Result<VerifiedLog, Fault> {
    let note = folder.read(CHECKPOINT_FILE).map_err(|source| file(CHECKPOINT_FILE, source))?;
    let note = note.ok_or(Fault::NoCheckpoint)?;
    let rosters = Rosters::read(folder, bundle)?;
    let open = |which, note: &[u8]| {
        rosters.open_log_alone(note).map_err(|source| Fault::Checkpoint { which, source })
    };
    let checkpoint = open(NEWEST, &note)?.checkpoint;
    let old = old.map(|old| open(OLD, old)).transpose()?.map(|signed| signed.checkpoint);
    if let Some(old) = old.as_ref().filter(|old| old.size > checkpoint.size) {
        return Err(Fault::Root { size: old.size, which: OLD });
    }
    let mut walk = Walk::new(folder, &rosters, checkpoint.size);
    walk.leaves(old.as_ref())?;
    walk.finish()?;
    if walk.follower.root() != checkpoint.root {
        return Err(Fault::Root { size: checkpoint.size, which: NEWEST });
    }
    let covered = walk.covered.ok_or(Fault::NoCheckpoint)?;
    let signed = rosters.open_with_witnesses(&note, covered);
    let signed = signed.map_err(|source| Fault::Checkpoint { which: NEWEST, source })?;
    Ok(VerifiedLog {
        is_witnessed: signed.is_witnessed(),
        checkpoint,
        witnesses: signed.witnesses,
        quorum: signed.quorum,
        administrative: walk.administrative,
        roster_positions: walk.roster_positions,
        orders: walk.orders,
        roster: rosters.versions.into_iter().nth(covered).expect("it was found among them"),
    })
}

/// What a verified log says of some of its leaves and of its rosters: for a proof file to be held against.
///
/// # Errors
/// [`Fault::Log`] or [`Fault::Index`] where a file cannot be read any more.
pub fn facts(
    folder: &dyn Folder,
    found: &VerifiedLog,
    indices: impl Iterator<Item = u64>,
) -> Result<LogFacts, Fault> {
    let size = found.checkpoint.size;
    let (origin, rosters) = (found.checkpoint.origin.clone(), found.roster_positions.clone());
    let orders = found.orders.clone();
    let mut facts = LogFacts { origin, size, rosters, orders, ..LogFacts::default() };
    for index in indices.filter(|index| *index < size) {
        let path =
            BundlePath::in_log(index / TILE_HASHES, size).expect("a leaf below the size has its bundle");
        let within = usize::try_from(index % TILE_HASHES).expect("below 256");
        let bundle = bundle(folder, path)?;
        facts.leaves.insert(index, leaf_hash(&bundle.entries()[within]));
    }
    for version in facts.rosters.keys().copied() {
        let name = roster_file(version);
        let note = folder.read(&name).map_err(|source| file(&name, source))?;
        facts.notes.extend(note.map(|note| (version, note)));
    }
    Ok(facts)
}

/// Hands every leaf of a log to `line`: an administrative one in clear, and nothing of any other. Only the form of
/// leaves is looked at: [`verify`] says whether they are the log's.
///
/// # Errors
/// [`Fault`] as `E`, and whatever `line` answers, at once.
pub fn leaves<E: From<Fault>>(
    folder: &dyn Folder,
    line: &mut dyn FnMut(u64, Option<AdministrativeLeaf>) -> Result<(), E>,
) -> Result<(), E> {
    let note = folder.read(CHECKPOINT_FILE).map_err(|source| Fault::from(file(CHECKPOINT_FILE, source)))?;
    let note = Note::parse(&note.ok_or(Fault::NoCheckpoint)?).map_err(AuditError::from);
    let checkpoint = note.and_then(|note| note.text().parse::<Checkpoint>());
    let checkpoint = checkpoint.map_err(|source| Fault::Checkpoint { which: NEWEST, source })?;
    let mut index = 0;
    for path in bundles_between(0, checkpoint.size) {
        for entry in bundle(folder, path)?.entries() {
            let leaf = if leaf::is_administrative(entry) {
                let wrong = |error: Malformed| fault(index, error.to_string(), path.to_string());
                Some(AdministrativeLeaf::decode(entry).map_err(wrong)?)
            } else {
                None
            };
            line(index, leaf)?;
            index += 1;
        }
    }
    Ok(())
}

fn bundle(folder: &dyn Folder, path: BundlePath) -> Result<Bundle, Fault> {
    let bytes = match serve::bundle(folder, path) {
        Err(LogError::Damaged { source, .. }) => Err(source.to_string()),
        Err(error) => return Err(error.into()),
        Ok(None) => Err("the bundle that holds it is missing".to_owned()),
        Ok(Some(bytes)) => Ok(bytes),
    };
    let bundle = bytes
        .and_then(|bytes| Bundle::parse(&Bytes::from(bytes), path.width).map_err(|error| error.to_string()));
    bundle.map_err(|problem| fault(path.index * TILE_HASHES, problem, path.to_string()))
}

/// The versions from the bundle's on, each verified by the one before it.
struct Rosters {
    versions: Vec<Roster>,
}

impl Rosters {
    fn read(folder: &dyn Folder, bundle: &TrustBundle) -> Result<Rosters, Fault> {
        let mut versions: Vec<Roster> = Vec::new();
        loop {
            let version = versions.last().map_or(bundle.roster_version, |roster| roster.version() + 1);
            let name = roster_file(version);
            let note = folder.read(&name).map_err(|source| file(&name, source))?;
            let problem = |problem: String| Fault::Roster { version, problem };
            let Some(note) = note else {
                let missing = "the roster that the trust bundle names is not beside the log";
                return if versions.is_empty() {
                    Err(problem(missing.to_owned()))
                } else {
                    Ok(Rosters { versions })
                };
            };
            let verified = match versions.last() {
                None => roster::verify_first(&note, bundle),
                Some(before) => roster::verify_next(&note, before),
            };
            versions.push(verified.map_err(|error: RosterError| problem(error.to_string()))?);
        }
    }

    /// Whether the log's leaf of a version names what was verified; versions before the bundle's are not known.
    fn place(&self, version: u32, hash: Hash) -> Option<Result<usize, ()>> {
        let first = self.versions.first()?.version();
        let at = usize::try_from(version.checked_sub(first)?).ok()?;
        Some(self.versions.get(at).filter(|roster| roster.hash() == hash).map(|_| at).ok_or(()))
    }

    /// Opens a checkpoint by the log's keys, the newest first.
    fn open_log_alone(&self, note: &[u8]) -> Result<SignedCheckpoint, AuditError> {
        let mut opened = Err(AuditError::Unsigned);
        for roster in self.versions.iter().rev() {
            opened = LogTrust::of(roster).log_alone().open(note);
            if opened.is_ok() {
                break;
            }
        }
        opened
    }

    /// Opens it with the witnesses of the newest version that it covers, or of the one before that: the first
    /// checkpoint that covers a version needs the quorum of the one before (FORMATS 9).
    fn open_with_witnesses(&self, note: &[u8], covered: usize) -> Result<SignedCheckpoint, AuditError> {
        let signed = LogTrust::of(&self.versions[covered]).open(note);
        match (signed, covered.checked_sub(1)) {
            (Ok(signed), _) if signed.is_witnessed() => Ok(signed),
            (signed, Some(before)) => match LogTrust::of(&self.versions[before]).open(note) {
                Ok(before) if before.is_witnessed() => Ok(before),
                _ => signed,
            },
            (signed, None) => signed,
        }
    }
}

/// From the first leaf to the last, and up the tiles.
struct Walk<'a> {
    folder: &'a dyn Folder,
    rosters: &'a Rosters,
    size: u64,
    follower: Follower,
    administrative: u64,
    /// The newest roster that a leaf names, by its place among those that were verified.
    covered: Option<usize>,
    roster_positions: BTreeMap<u32, u64>,
    orders: Vec<(u64, SignedOrder)>,
    /// Hashes of the newest tile of each level above the leaves'.
    edges: Vec<Vec<Hash>>,
}

impl<'a> Walk<'a> {
    fn new(folder: &'a dyn Folder, rosters: &'a Rosters, size: u64) -> Walk<'a> {
        let follower = Follower::new();
        Walk {
            folder,
            rosters,
            size,
            follower,
            administrative: 0,
            covered: None,
            roster_positions: BTreeMap::new(),
            orders: Vec::new(),
            edges: Vec::new(),
        }
    }

    fn leaves(&mut self, old: Option<&Checkpoint>) -> Result<(), Fault> {
        for path in bundles_between(0, self.size) {
            let bundle = bundle(self.folder, path)?;
            let hashes: Vec<Hash> = bundle.entries().iter().map(|entry| leaf_hash(entry)).collect();
            self.compare(TilePath { level: 0, index: path.index, width: path.width }, &hashes, 1)?;
            let first = self.follower.size();
            for ((index, entry), hash) in (first..).zip(bundle.entries()).zip(&hashes) {
                let wrong = |error: AuditError| fault(index, error.to_string(), path.to_string());
                match self.follower.look(index, entry, *hash).map_err(wrong)? {
                    Followed::Traffic => {}
                    Followed::Administrative(leaf) => self.administrative(index, &leaf.act, path)?,
                }
            }
            let ends_within = |old: &Checkpoint| (first..first + TILE_HASHES).contains(&old.size);
            let root = path.is_full().then(|| merkle::root(&hashes));
            match root {
                Some(root) if !old.is_some_and(ends_within) => self.follower.grow(TILE_HASHES.ilog2(), root),
                _ => self.grow_by_leaves(&hashes, old)?,
            }
            compare_old(&self.follower, old)?;
            if let Some(root) = root {
                self.rise(1, root)?;
            }
        }
        Ok(())
    }

    fn grow_by_leaves(&mut self, hashes: &[Hash], old: Option<&Checkpoint>) -> Result<(), Fault> {
        for hash in hashes {
            compare_old(&self.follower, old)?;
            self.follower.grow(0, *hash);
        }
        Ok(())
    }

    fn administrative(&mut self, index: u64, act: &Act, path: BundlePath) -> Result<(), Fault> {
        self.administrative += 1;
        let Act::Roster { version, hash, .. } = act else { return self.order(index, act, path) };
        self.roster_positions.entry(*version).or_insert(index);
        match self.rosters.place(*version, *hash) {
            None => Ok(()),
            Some(Ok(at)) => {
                self.covered = Some(at);
                Ok(())
            }
            Some(Err(())) => {
                let problem = format!("it names another roster {version} than the one beside the log");
                Err(fault(index, problem, path.to_string()))
            }
        }
    }

    fn order(&mut self, index: u64, act: &Act, path: BundlePath) -> Result<(), Fault> {
        let Act::Order(signed) = act else { return Ok(()) };
        match signed.order.kind {
            OrderKind::Minimize { .. } | OrderKind::Erase { .. } => {}
            OrderKind::Suspend { .. } | OrderKind::Lift { .. } if self.orders.len() < LOG_ORDERS_MAX => {
                self.orders.push((index, (**signed).clone()));
            }
            OrderKind::Suspend { .. } | OrderKind::Lift { .. } => {
                let problem = format!("it is one more than the {LOG_ORDERS_MAX} orders that a log may have");
                return Err(fault(index, problem, path.to_string()));
            }
        }
        Ok(())
    }

    /// A node above the leaves is known: its tile is held against it once it is full.
    fn rise(&mut self, level: u8, node: Hash) -> Result<(), Fault> {
        let at = usize::from(level) - 1;
        if self.edges.len() == at {
            self.edges.push(Vec::new());
        }
        self.edges[at].push(node);
        if self.edges[at].len() < usize::try_from(TILE_HASHES).expect("256") {
            return Ok(());
        }
        let edge = std::mem::take(&mut self.edges[at]);
        self.compare_edge(level, &edge)?;
        self.rise(level + 1, merkle::root(&edge))
    }

    /// The last tile of each level.
    fn finish(&self) -> Result<(), Fault> {
        for (level, edge) in (1..).zip(&self.edges).filter(|(_, edge)| !edge.is_empty()) {
            self.compare_edge(level, edge)?;
        }
        Ok(())
    }

    fn compare_edge(&self, level: u8, edge: &[Hash]) -> Result<(), Fault> {
        let below = TILE_HASHES.pow(u32::from(level));
        let index = (self.follower.size() / below - 1) / TILE_HASHES;
        let width = u16::try_from(edge.len()).expect("at most 256");
        self.compare(TilePath { level, index, width }, edge, below)
    }

    /// Holds a tile against its hashes, each of which stands for `below` leaves.
    fn compare(&self, path: TilePath, hashes: &[Hash], below: u64) -> Result<(), Fault> {
        let first = path.index * TILE_HASHES * below;
        let wrong = |at: usize, problem: &str| {
            let at = u64::try_from(at).expect("at most 256");
            fault(first + at * below, problem.to_owned(), path.to_string())
        };
        let bytes = match serve::tile(self.folder, path) {
            Err(LogError::Damaged { .. }) => return Err(wrong(0, "the tile over it is cut short")),
            Err(error) => return Err(error.into()),
            Ok(None) => return Err(wrong(0, "the tile over it is missing")),
            Ok(Some(bytes)) => bytes,
        };
        let shown = bytes.as_chunks::<HASH_BYTES>().0;
        match shown.iter().zip(hashes).position(|(shown, made)| *shown != made.0) {
            None => Ok(()),
            Some(at) => Err(wrong(at, "leaf and tile do not fit each other")),
        }
    }
}

/// An older checkpoint of exactly the leaves that were taken in has their root.
fn compare_old(follower: &Follower, old: Option<&Checkpoint>) -> Result<(), Fault> {
    match old.filter(|old| old.size == follower.size() && old.root != follower.root()) {
        Some(old) => Err(Fault::Root { size: old.size, which: OLD }),
        None => Ok(()),
    }
}

fn fault(index: u64, problem: String, path: String) -> Fault {
    Fault::Index { index, problem, path }
}
