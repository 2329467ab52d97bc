//! Tests of the log's files: the bytes, restarts and crashes between any two of them, and histories that do not fit.

#[path = "../../tests/simulator/shelf.rs"]
mod shelf;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;

use super::*;
use crate::{
    audit::{Checkpoint, LogTrust},
    keys::SigningKey,
    merkle::{Frontier, Hash, leaf_hash, sha256},
    wire::Position,
};
use shelf::Shelf;

const ORIGIN: &str = "bloc.example/log";

fn leaf(index: u64) -> Bytes {
    // As the vectors' log has them: tests/vectors/make.py.
    use crate::record::leaf::{Opening, OpeningKind};
    let hash = sha256(format!("envelope {index}").as_bytes());
    let log_time_us = 1_795_000_000_000_000 + index;
    let opening = Opening { kind: OpeningKind::Envelope, log_time_us, roster_version: 3, hash };
    Bytes::copy_from_slice(&opening.leaf(sha256(format!("salt {index}").as_bytes()).as_bytes()))
}

fn tree(size: u64) -> Frontier {
    let mut tree = Frontier::new();
    (0..size).for_each(|index| tree.append(leaf_hash(&leaf(index))));
    tree
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size, root: tree(size).root() }
}

fn grown(view: &mut View, size: u64) -> Result<(), LogError> {
    (view.size()..size).try_for_each(|index| view.take(leaf(index)))?;
    view.write()
}

fn opened(shelf: &Arc<Shelf>, signed: Option<u64>) -> View {
    View::open(shelf.clone(), signed.map(checkpoint).as_ref()).unwrap()
}

/// The files of a log that is written in one go.
fn expected(size: u64) -> BTreeMap<String, Vec<u8>> {
    let shelf = Arc::new(Shelf::default());
    grown(&mut opened(&shelf, None), size).unwrap();
    shelf.files()
}

/// Without the partial tiles of smaller sizes, which stay until the full one is there.
fn newest(files: BTreeMap<String, Vec<u8>>, size: u64) -> BTreeMap<String, Vec<u8>> {
    let wanted = expected(size);
    files.into_iter().filter(|(path, _)| wanted.contains_key(path)).collect()
}

#[test]
fn the_files_of_a_log_equal_those_computed_elsewhere() {
    #[derive(serde::Deserialize)]
    struct Vectors {
        logs: Vec<Log>,
    }
    #[derive(serde::Deserialize)]
    struct Log {
        size: u64,
        tiles: BTreeMap<String, String>,
        bundles: BTreeMap<String, String>,
    }
    let vectors: Vectors = serde_json::from_str(include_str!("../../tests/vectors/audit.json")).unwrap();
    for log in vectors.logs {
        let hashed = |(path, bytes): (String, Vec<u8>)| (path, sha256(&bytes).to_string());
        let made: BTreeMap<String, String> = expected(log.size).into_iter().map(hashed).collect();
        let elsewhere: BTreeMap<String, String> = log.tiles.into_iter().chain(log.bundles).collect();
        assert_eq!(made, elsewhere, "size {}", log.size);
    }
}

#[test]
fn a_log_that_is_written_with_restarts_between_has_the_same_files() {
    let sizes = [0, 1, 2, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_539];
    let shelf = Arc::new(Shelf::default());
    let mut signed = None;
    for size in sizes {
        let mut view = opened(&shelf, signed);
        assert_eq!(view.size(), signed.unwrap_or(0), "nothing is asked for again");
        grown(&mut view, size).unwrap();
        assert_eq!(view.root(), tree(size).root());
        signed = Some(size);
    }
    // Partial tiles went once the full one was there.
    assert_eq!(shelf.files(), expected(65_539));
}

/// FAULTS 24.
#[test]
fn files_that_are_missing_or_damaged_are_written_anew_with_the_same_bytes() {
    let good = expected(600);
    for path in ["tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/002.p/88"] {
        for damage in ["gone", "short", "flipped"] {
            let shelf = Arc::new(Shelf::default());
            shelf.change(|files| *files = good.clone());
            match damage {
                "gone" => shelf.change(|files| drop(files.remove(path))),
                "short" => shelf.change(|files| files.get_mut(path).unwrap().truncate(7)),
                _ => shelf.change(|files| files.get_mut(path).unwrap()[3] ^= 1),
            }
            let mut view = opened(&shelf, Some(600));
            assert_eq!(view.size(), 0, "{path} {damage}");
            grown(&mut view, 600).unwrap();
            assert_eq!(shelf.files(), good, "{path} {damage}");
        }
    }
}

/// FAULTS 25, for the view.
#[test]
fn a_crash_between_any_two_files_loses_nothing() {
    for cut in 0..40 {
        let shelf = Arc::new(Shelf::default());
        grown(&mut opened(&shelf, None), 250).unwrap();
        shelf.fail_after(Some(cut));
        let ended = grown(&mut opened(&shelf, Some(250)), 520);
        shelf.fail_after(None);
        // Whether the second checkpoint came to be signed or not, its files can be gone on from.
        let signed = if ended.is_ok() { 520 } else { 250 };
        let mut view = opened(&shelf, Some(signed));
        assert_eq!(view.size(), signed, "cut at {cut}: what was signed needs nothing anew");
        grown(&mut view, 600).unwrap();
        assert_eq!(newest(shelf.files(), 600), expected(600), "cut at {cut}");
    }
}

#[test]
fn a_partial_tile_that_is_gone_is_cut_from_a_wider_one() {
    let shelf = Arc::new(Shelf::default());
    let mut view = opened(&shelf, None);
    for size in [5, 9, 300] {
        grown(&mut view, size).unwrap();
    }
    let small = expected(5);
    for path in ["tile/0/000.p/5", "tile/entries/000.p/5"] {
        assert!(!shelf.files().contains_key(path));
        assert_eq!(serve(&*shelf, path).unwrap(), Served::Tile(small[path].clone()), "{path}");
    }
    grown(&mut view, 305).unwrap();
    let at_300 = expected(300);
    for path in ["tile/0/001.p/44", "tile/entries/001.p/44", "tile/0/000", "tile/entries/000"] {
        assert_eq!(serve(&*shelf, path).unwrap(), Served::Tile(at_300[path].clone()), "{path}");
    }
    let cut = expected(301);
    assert_eq!(serve(&*shelf, "tile/0/001.p/45").unwrap(), Served::Tile(cut["tile/0/001.p/45"].clone()));
    for path in ["tile/0/001.p/50", "tile/0/002.p/1", "tile/2/000.p/1", "tile/0/../checkpoint", "signed", ""]
    {
        assert_eq!(serve(&*shelf, path).unwrap(), Served::Absent, "{path}");
    }
    assert_eq!(serve(&*shelf, "checkpoint").unwrap(), Served::Absent);
    view.publish(b"a note").unwrap();
    assert_eq!(serve(&*shelf, "checkpoint").unwrap(), Served::Checkpoint(b"a note".to_vec()));
    assert_eq!(inclusion_path(&*shelf, 7, 305).unwrap().len(), 9);
    assert!(
        crate::merkle::verify_consistency(
            300,
            tree(300).root(),
            305,
            tree(305).root(),
            &consistency_path(&*shelf, 300, 305, tree(305).root()).unwrap()
        )
        .is_ok()
    );
}

/// A folder whose full files come, and whose partial ones go, while somebody looks into it.
struct Turns {
    shelf: Arc<Shelf>,
    view: Mutex<View>,
    is_before_list: bool,
}

impl Folder for Turns {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.shelf.read(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let grow = || grown(&mut self.view.lock().unwrap(), 512).map_err(io::Error::other);
        if self.is_before_list {
            grow()?;
        }
        let names = self.shelf.list(path);
        grow()?;
        names
    }

    fn make(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        self.shelf.make(files)
    }

    fn show(&self, paths: &[String]) -> io::Result<()> {
        self.shelf.show(paths)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.shelf.remove(path)
    }
}

#[test]
fn a_partial_tile_is_found_while_the_full_one_takes_its_place() {
    for is_before_list in [false, true] {
        for (path, full) in [("tile/0/001.p/20", "tile/0/001"), ("tile/entries/001.p/20", "tile/entries/001")]
        {
            let shelf = Arc::new(Shelf::default());
            let mut view = opened(&shelf, None);
            grown(&mut view, 300).unwrap();
            let turns = Turns { shelf, view: Mutex::new(view), is_before_list };
            let Served::Tile(bytes) = serve(&turns, path).unwrap() else { panic!("{path} is absent") };
            assert!(turns.shelf.files()[full].starts_with(&bytes) && !bytes.is_empty());
        }
    }
}

#[test]
fn a_path_through_a_damaged_tile_is_an_error_and_never_a_path() {
    let shelf = Arc::new(Shelf::default());
    grown(&mut opened(&shelf, None), 700).unwrap();
    let (root, written) = (tree(700).root(), shelf.files());
    for old_size in [1, 256, 300, 512, 699, 700] {
        let path = consistency_path(&*shelf, old_size, 700, root).unwrap();
        let old_root = tree(old_size).root();
        assert!(crate::merkle::verify_consistency(old_size, old_root, 700, root, &path).is_ok());
    }
    // One bit in the middle of a full tile, which a start does not look at.
    shelf.change(|files| files.get_mut("tile/0/000").unwrap()[3_000] ^= 1);
    for old_size in [1, 200, 300] {
        let found = consistency_path(&*shelf, old_size, 700, root);
        let is_needed = old_size < 256;
        assert_eq!(matches!(found, Err(LogError::Tiles { size: 700 })), is_needed, "{old_size}: {found:?}");
    }
    shelf.change(|files| *files = written);
    assert!(consistency_path(&*shelf, 200, 700, root).is_ok());
}

struct World {
    served: Arc<Shelf>,
    kept: Arc<Shelf>,
    key: SigningKey,
}

impl World {
    fn new() -> World {
        let key = SigningKey::generate().unwrap();
        World { served: Arc::default(), kept: Arc::default(), key }
    }

    fn files(&self) -> LogFiles {
        LogFiles { served: self.served.clone(), kept: self.kept.clone() }
    }

    fn trust(&self) -> LogTrust {
        LogTrust::new(ORIGIN, vec![self.key.vkey(ORIGIN).unwrap()], Vec::new(), 0)
    }

    fn note(&self, size: u64) -> Bytes {
        signed_note(&self.key, &checkpoint(size))
    }

    fn sign(&self, size: u64) {
        self.kept.put(&[(SIGNED_FILE.to_owned(), self.note(size).to_vec())]).unwrap();
    }

    /// A relay's start over a journal of these leaves.
    fn start(&self, leaves: &[Bytes]) -> Result<View, LogError> {
        let mut opening = Opening::new(self.files(), &self.trust())?;
        let mut tree = Frontier::new();
        for (position, leaf) in (0..).zip(leaves) {
            tree.append(leaf_hash(leaf));
            opening.take(Position(position), leaf)?;
        }
        opening.finish(&tree).map(|continued| continued.view)
    }
}

fn leaves(size: u64) -> Vec<Bytes> {
    (0..size).map(leaf).collect()
}

/// FAULTS 7: a last record that a start dropped and a checkpoint covers, as well.
#[test]
fn a_journal_that_tells_another_history_than_what_was_signed_stops_the_relay() {
    let mut changed = leaves(400);
    changed[17] = leaf(1_000);
    let mut cut_tail_and_grown = leaves(280);
    cut_tail_and_grown.extend((0..200).map(|index| leaf(2_000 + index)));
    let histories = [leaves(299), changed, cut_tail_and_grown, Vec::new()];
    for tiles_are_there in [true, false] {
        for (place, history) in histories.iter().enumerate() {
            let world = World::new();
            if tiles_are_there {
                grown(&mut opened(&world.served, None), 300).unwrap();
            }
            world.sign(300);
            let ended = world.start(history).map(|_| ());
            assert!(matches!(ended, Err(LogError::Forked { size: 300, .. })), "{place}: {ended:?}");
            assert_eq!(ended.unwrap_err().exit_code(), 72);
        }
    }
}

#[test]
fn a_journal_that_goes_on_from_what_was_signed_is_taken() {
    for tiles in [0, 300] {
        let world = World::new();
        grown(&mut opened(&world.served, None), tiles).unwrap();
        world.sign(300);
        for size in [300, 301, 400] {
            assert_eq!(world.start(&leaves(size)).unwrap().root(), tree(size).root());
        }
    }
    // No checkpoint yet: whatever tiles there are count for nothing.
    let world = World::new();
    grown(&mut opened(&world.served, None), 3).unwrap();
    assert_eq!(world.start(&leaves(7)).unwrap().root(), tree(7).root());
}

/// FAULTS 24: whatever became of the view, the journal's own tree comes of it. A full tile that no newer one needs is
/// looked at when somebody asks for it (tests/rollback.rs).
#[test]
fn a_start_makes_the_journals_tree_of_files_that_are_gone_damaged_ahead_of_it_or_of_another_log() {
    type Spoil = fn(&mut BTreeMap<String, Vec<u8>>);
    let spoils: [Spoil; 5] = [
        |files| files.clear(),
        |files| drop(files.remove("tile/0/001.p/44")),
        |files| files.get_mut("tile/0/001.p/44").unwrap()[5] ^= 1,
        |files| *files = expected(400),
        |files| {
            let other = Arc::new(Shelf::default());
            let mut view = opened(&other, None);
            (300..700).try_for_each(|index| view.take(leaf(index))).and_then(|()| view.write()).unwrap();
            *files = other.files();
        },
    ];
    for (place, spoil) in spoils.into_iter().enumerate() {
        let world = World::new();
        grown(&mut opened(&world.served, None), 300).unwrap();
        world.sign(300);
        world.served.change(spoil);
        let mut view = world.start(&leaves(310)).unwrap();
        assert_eq!((view.size(), view.root()), (310, tree(310).root()), "{place}");
        grown(&mut view, 320).unwrap();
        assert_eq!(newest(world.served.files(), 320), expected(320), "{place}");
    }
}

#[test]
fn files_that_were_lost_serve_what_was_signed_as_soon_as_the_journal_is_read() {
    let world = World::new();
    world.sign(300);
    world.start(&leaves(310)).unwrap();
    assert_eq!(world.served.files(), expected(300));
    assert!(consistency_path(&*world.served, 7, 300, tree(300).root()).is_ok());
}

#[test]
fn a_checkpoint_that_an_earlier_log_key_signed_is_held_against_the_journal_as_well() {
    let world = World::new();
    let note = signed_note(&SigningKey::generate().unwrap(), &checkpoint(3));
    world.kept.put(&[(SIGNED_FILE.to_owned(), note.to_vec())]).unwrap();
    assert_eq!(world.start(&leaves(5)).unwrap().root(), tree(5).root());
    let mut changed = leaves(5);
    changed[1] = leaf(1_000);
    assert!(matches!(world.start(&changed).map(|_| ()), Err(LogError::Forked { size: 3, .. })));
    // One by the own key that does not verify is no checkpoint of anybody's.
    let mut forged = signed_note(&world.key, &checkpoint(3)).to_vec();
    let at = forged.len() - 10;
    forged[at] ^= 1;
    world.kept.put(&[(SIGNED_FILE.to_owned(), forged)]).unwrap();
    let ended = world.start(&leaves(5)).map(|_| ());
    assert!(matches!(ended, Err(LogError::Damaged { .. })), "{ended:?}");
}

/// What the thread answers to commands.
fn outcomes(world: &World, commands: Vec<Command>) -> Vec<Outcome> {
    outcomes_of(world, commands, 0)
}

/// The same; the thread is told to end once there are so many.
fn outcomes_of(world: &World, commands: Vec<Command>, waited_for: usize) -> Vec<Outcome> {
    let (report, reported) = mpsc::channel();
    let view = opened(&world.served, None);
    let key = SigningKey::generate().unwrap();
    let log = Log::start(view, world.files(), key, ORIGIN.to_owned(), Duration::ZERO, move |outcome| {
        report.send(outcome).unwrap();
    })
    .unwrap();
    for command in commands {
        assert!(log.tell(command).unwrap().is_none());
    }
    let mut told: Vec<Outcome> = reported.iter().take(waited_for).collect();
    drop(log);
    told.extend(reported);
    told
}

#[test]
fn a_checkpoint_is_reported_when_it_and_its_tiles_are_durable() {
    let world = World::new();
    let root = |size| tree(size).root();
    let told = outcomes(
        &world,
        vec![
            Command::Leaves(leaves(300)),
            Command::Sign { size: 300, root: root(300) },
            Command::Leaves((300..310).map(leaf).collect()),
            Command::Sign { size: 310, root: root(310) },
            Command::Publish(world.note(310)),
        ],
    );
    let [Outcome::Signed(first), Outcome::Signed(second), Outcome::Published(published)] = &told[..] else {
        panic!("{told:?}")
    };
    let first: Checkpoint = crate::note::Note::parse(first).unwrap().text().parse().unwrap();
    assert_eq!(first, checkpoint(300));
    assert_eq!(world.kept.files()[SIGNED_FILE], *second);
    assert_eq!(*published, world.note(310));
    assert_eq!(world.served.files()["checkpoint"], world.note(310));
    world.served.remove("checkpoint").unwrap();
    assert_eq!(world.files().published().unwrap().unwrap(), world.note(310), "no replay gives it again");
    assert_eq!(newest(world.served.files(), 310), expected(310));
}

#[test]
fn what_was_published_last_is_found_where_a_crash_came_between_its_two_copies() {
    let world = World::new();
    let put =
        |shelf: &Shelf, size| shelf.put(&[(CHECKPOINT_FILE.to_owned(), world.note(size).to_vec())]).unwrap();
    let found = || world.files().published().unwrap();
    assert_eq!(found(), None);
    put(&world.served, 9);
    assert_eq!(found(), Some(world.note(9)));
    put(&world.kept, 10);
    assert_eq!(found(), Some(world.note(10)), "kept before it is served");
    put(&world.served, 11);
    assert_eq!(found(), Some(world.note(11)), "whichever is larger");
    world.served.put(&[(CHECKPOINT_FILE.to_owned(), b"no note".to_vec())]).unwrap();
    assert_eq!(world.files().published().unwrap_err().exit_code(), 71);
}

#[test]
fn tiles_that_make_another_root_than_the_exchange_stop_the_relay_before_anything_is_signed() {
    let world = World::new();
    let sign = Command::Sign { size: 3, root: Hash::ZERO };
    let told = outcomes(&world, vec![Command::Leaves(leaves(3)), sign]);
    assert!(matches!(told[..], [Outcome::Failed(LogError::Disagrees { size: 3 })]), "{told:?}");
    assert!(world.kept.files().is_empty() && world.served.files().is_empty());
}

#[test]
fn a_disk_that_fails_ends_the_log_and_nothing_was_signed() {
    for cut in 0..6 {
        let world = World::new();
        world.served.fail_after(Some(cut + 1));
        let told = outcomes(
            &world,
            vec![Command::Leaves(leaves(300)), Command::Sign { size: 300, root: tree(300).root() }],
        );
        assert!(matches!(told[..], [Outcome::Failed(LogError::File { .. })]), "{cut}: {told:?}");
        assert!(world.kept.files().is_empty());
    }
}

#[test]
fn a_full_disk_is_waited_for_and_the_log_goes_on_with_the_same_files() {
    // While leaves come, when a checkpoint is signed, when it is published.
    let size = 33_100;
    for (shelf_is_served, attempts) in [(true, 1), (true, 3), (false, 2)] {
        let world = World::new();
        let shelf = if shelf_is_served { &world.served } else { &world.kept };
        shelf.fill(attempts);
        let commands = vec![
            Command::Leaves(leaves(size)),
            Command::Sign { size, root: tree(size).root() },
            Command::Publish(Bytes::from_static(b"witnessed")),
        ];
        let told = outcomes_of(&world, commands, 4);
        let note = match &told[..] {
            [Outcome::Full(true), Outcome::Full(false), Outcome::Signed(note), Outcome::Published(_)] => note,
            told => panic!("{told:?}"),
        };
        assert_eq!(world.kept.files()[SIGNED_FILE], *note);
        assert_eq!(world.served.files()["checkpoint"], b"witnessed");
        assert_eq!(newest(world.served.files(), size), expected(size));
    }
}

#[test]
fn a_relay_that_stops_does_not_wait_for_a_full_disk() {
    let world = World::new();
    world.served.fill(usize::MAX);
    let commands = vec![Command::Leaves(leaves(3)), Command::Sign { size: 3, root: tree(3).root() }];
    let told = outcomes_of(&world, commands, 1);
    assert!(matches!(told[..], [Outcome::Full(true), Outcome::Failed(LogError::File { .. })]), "{told:?}");
    assert!(world.kept.files().is_empty());
}

#[test]
fn nobody_sees_a_full_tile_before_all_are_shown_for_a_checkpoint() {
    let shelf = Arc::new(Shelf::default());
    let mut view = opened(&shelf, None);
    (0..33_100).try_for_each(|index| view.take(leaf(index))).unwrap();
    assert!(shelf.files().is_empty());
    view.write().unwrap();
    assert_eq!(shelf.files(), expected(33_100));
}

#[test]
fn the_real_folder_shows_few_files_and_many_and_shows_them_once_more() {
    for many in [3, 30] {
        let dir = tempfile::tempdir().unwrap();
        let folder = DiskFolder::open(&dir.path().join("log")).unwrap();
        let files: Vec<_> = (0..many).map(|at| (format!("tile/0/x000/{at:03}"), vec![at; 9])).collect();
        let mut paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
        folder.make(&files).unwrap();
        assert_eq!(folder.list("").unwrap(), [""; 0]);
        // What was shown before an error came is no error when all of it is shown again.
        folder.show(&paths[..2]).unwrap();
        folder.show(&paths).unwrap();
        for (path, bytes) in files {
            assert_eq!(folder.read(&path).unwrap(), Some(bytes));
        }
        paths.push("tile/0/999".to_owned());
        assert!(folder.show(&paths).is_err(), "it was never made");
        assert_eq!(std::fs::read_dir(dir.path().join("log.making")).unwrap().count(), 0);
    }
}

#[test]
fn the_real_folder_keeps_removes_and_lists_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    let folder = DiskFolder::open(&root).unwrap();
    folder.put(&[("tile/0/000".to_owned(), vec![1]), ("checkpoint".to_owned(), vec![2])]).unwrap();
    folder.put(&[("tile/0/000".to_owned(), vec![3])]).unwrap();
    assert_eq!(folder.read("tile/0/000").unwrap(), Some(vec![3]));
    assert_eq!(folder.read("tile/0/001").unwrap(), None);
    assert_eq!(folder.read("checkpoint/x").unwrap(), None);
    assert_eq!(folder.list("tile/0").unwrap(), ["000"]);
    assert_eq!(folder.list("tile/9").unwrap(), [""; 0]);
    assert_eq!(std::fs::read_dir(dir.path().join("log.making")).unwrap().count(), 0);
    folder.remove("tile").unwrap();
    folder.remove("tile").unwrap();
    folder.remove("checkpoint").unwrap();
    assert_eq!(folder.list("").unwrap(), [""; 0]);
    // What a crash left half made is gone at the next start.
    std::fs::write(dir.path().join("log.making").join("0"), "half").unwrap();
    DiskFolder::open(&root).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("log.making")).unwrap().count(), 0);
}
