//! Leaves to tiles and bundles.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{CHECKPOINT_FILE, Folder, LogError, roster_file, serve};
use crate::{
    audit::{Bundle, BundlePath, Checkpoint, TILE_HASHES, TilePath, bundles_between, tiles_between},
    limits::HASH_BYTES,
    merkle::{self, Hash, leaf_hash, node_hash},
};

/// Full tiles and bundles kept in memory before they are made as files, about 9 KiB each.
const FULL_KEPT_MAX: usize = 256;
/// Files that are made before they are shown and synced at the latest: two million leaves'.
const MADE_MAX: usize = 16_384;
/// Levels of tiles that a tree of 2^64 leaves has.
const LEVELS: usize = 8;

/// The right edge of the log's tiles. Memory: below 70 KiB, 3 MiB of full tiles not yet made as files, and 1 MiB of the
/// names of those that are made.
pub struct View {
    folder: Arc<dyn Folder>,
    /// Leaves taken.
    size: u64,
    /// Leaves whose tiles, partial ones too, are durable.
    written: u64,
    /// Entries of the newest bundle.
    bundle: Bundle,
    /// For each level the hashes of its newest tile, fewer than 256.
    edges: [Vec<Hash>; LEVELS],
    /// Files ready to be made: full ones, whose bytes will not change again.
    full: Vec<(String, Vec<u8>)>,
    /// Full ones that are made: they are shown together, so that the disk syncs once for a checkpoint.
    made: Vec<String>,
}

impl View {
    /// Opens the files of a log whose newest signed checkpoint is given: it wants all leaves from its size on.
    /// Files that do not make that checkpoint's root are removed, to be written anew from leaf 0 on.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn open(folder: Arc<dyn Folder>, signed: Option<&Checkpoint>) -> Result<View, LogError> {
        let mut view = View::empty(folder);
        if let Some(signed) = signed {
            match view.load(signed)? {
                Some(()) => return Ok(view),
                None => {
                    tracing::warn!(
                        size = signed.size,
                        "the audit log's files are missing or damaged: written anew"
                    );
                    view = View::empty(view.folder);
                }
            }
        }
        view.folder.remove("tile").map_err(|source| file("tile", source))?;
        Ok(view)
    }

    fn empty(folder: Arc<dyn Folder>) -> View {
        View {
            folder,
            size: 0,
            written: 0,
            bundle: Bundle::default(),
            edges: Default::default(),
            full: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Reads the right edge back; `None` where it does not make the checkpoint's root.
    fn load(&mut self, signed: &Checkpoint) -> Result<Option<()>, LogError> {
        let size = signed.size;
        for level in 0..LEVELS {
            let number = u8::try_from(level).expect("eight levels");
            let index = size.checked_shr(8 * u32::from(number) + 8).unwrap_or(0);
            let Some(path) = TilePath::in_tree(number, index, size) else { continue };
            // Cut from a wider one where a crash came after that was written and before it was signed.
            let Some(bytes) = intact(serve::tile(&*self.folder, path))? else { return Ok(None) };
            let hashes = bytes.as_chunks::<HASH_BYTES>().0;
            self.edges[level] = hashes.iter().copied().map(Hash).collect();
        }
        if let Some(path) = BundlePath::in_log(size / TILE_HASHES, size) {
            let Some(bytes) = intact(serve::bundle(&*self.folder, path))? else { return Ok(None) };
            let Ok(bundle) = Bundle::parse(&Bytes::from(bytes), path.width) else { return Ok(None) };
            let hashes = bundle.entries().iter().map(|entry| leaf_hash(entry));
            if !hashes.eq(self.edges[0].iter().copied()) {
                return Ok(None);
            }
            self.bundle = bundle;
        }
        (self.size, self.written) = (size, size);
        Ok((self.root() == signed.root).then_some(()))
    }

    /// Leaves taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over the leaves taken.
    pub fn root(&self) -> Hash {
        let mut complete = Vec::new();
        // From the largest subtrees to the smallest, as they lie from left to right.
        for edge in self.edges.iter().rev() {
            let mut rest = edge.as_slice();
            while !rest.is_empty() {
                let (subtree, others) = rest.split_at(1 << rest.len().ilog2());
                complete.push(merkle::root(subtree));
                rest = others;
            }
        }
        let folded = complete.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(merkle::empty_root)
    }

    /// Takes the next leaf. Full tiles are made as files now and then, and shown by [`View::write`] at the latest.
    ///
    /// # Errors
    /// [`LogError::File`]. Where the disk has no room, the leaf is taken and [`View::write_full`] tries again; after
    /// any other error nothing more may be asked of this view.
    pub fn take(&mut self, leaf: Bytes) -> Result<(), LogError> {
        let mut hash = leaf_hash(&leaf);
        self.bundle.push(leaf);
        if self.bundle.entries().len() == FULL {
            let index = self.size / TILE_HASHES;
            let bundle = std::mem::take(&mut self.bundle);
            self.full.push((BundlePath { index, width: WIDTH }.to_string(), bundle.to_bytes(WIDTH)));
        }
        for level in 0..LEVELS {
            self.edges[level].push(hash);
            if self.edges[level].len() < FULL {
                break;
            }
            let edge = std::mem::take(&mut self.edges[level]);
            hash = merkle::root(&edge);
            let number = u8::try_from(level).expect("eight levels");
            let index = self.size.checked_shr(8 * u32::from(number) + 8).unwrap_or(0);
            let path = TilePath { level: number, index, width: WIDTH };
            self.full.push((path.to_string(), bytes_of(&edge)));
        }
        self.size += 1;
        if self.full.len() >= FULL_KEPT_MAX { self.write_full() } else { Ok(()) }
    }

    /// Whether a checkpoint of at most as many leaves is one of this log's history. Writes as [`View::write`].
    ///
    /// # Errors
    /// As [`View::take`], and [`LogError::Damaged`] or [`LogError::Tiles`] for what was read back.
    pub fn leads_from(&mut self, old: &Checkpoint) -> Result<bool, LogError> {
        self.write()?;
        let (size, root) = (self.size(), self.root());
        let path = serve::consistency_path(&*self.folder, old.size, size, root)?;
        Ok(merkle::verify_consistency(old.size, old.root, size, root, &path).is_ok())
    }

    /// Writes all tiles and bundles of the leaves taken, partial ones too; durable on return.
    ///
    /// # Errors
    /// As [`View::take`].
    pub fn write(&mut self) -> Result<(), LogError> {
        self.make_full()?;
        let mut partial = Vec::new();
        for path in tiles_between(self.written, self.size).into_iter().filter(|path| !path.is_full()) {
            let edge = &self.edges[usize::from(path.level)];
            partial.push((path.to_string(), bytes_of(edge)));
        }
        for path in bundles_between(self.written, self.size).into_iter().filter(|path| !path.is_full()) {
            partial.push((path.to_string(), self.bundle.to_bytes(path.width)));
        }
        // Partial ones change: they are made anew when it is tried again.
        make(&*self.folder, &partial)?;
        let full = self.made.len();
        self.made.extend(partial.into_iter().map(|(path, _)| path));
        self.show().inspect_err(|_| self.made.truncate(full))?;
        self.remove_partials()?;
        self.written = self.size;
        Ok(())
    }

    /// Puts a roster's note beside the tiles, unless it is there; durable on return.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn put_roster(&self, version: u32, note: &[u8]) -> Result<(), LogError> {
        let name = roster_file(version);
        let there = self.folder.read(&name).map_err(|source| file(&name, source))?;
        if there.is_some_and(|there| there == note) {
            return Ok(());
        }
        self.folder.put(&[(name.clone(), note.to_vec())]).map_err(|source| file(&name, source))
    }

    /// Puts the published checkpoint beside the tiles; durable on return.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn publish(&self, note: &[u8]) -> Result<(), LogError> {
        self.folder
            .put(&[(CHECKPOINT_FILE.to_owned(), note.to_vec())])
            .map_err(|source| file(CHECKPOINT_FILE, source))
    }

    /// Makes the tiles and bundles that are full as files, and shows them where there are many. They stay in memory until
    /// they are made.
    ///
    /// # Errors
    /// As [`View::take`].
    pub fn write_full(&mut self) -> Result<(), LogError> {
        self.make_full()?;
        if self.made.len() >= MADE_MAX { self.show() } else { Ok(()) }
    }

    fn make_full(&mut self) -> Result<(), LogError> {
        make(&*self.folder, &self.full)?;
        self.made.extend(self.full.drain(..).map(|(path, _)| path));
        Ok(())
    }

    /// Shows what is made; durable on return.
    fn show(&mut self) -> Result<(), LogError> {
        if let [path, ..] = &self.made[..] {
            self.folder.show(&self.made).map_err(|source| file(path, source))?;
            self.made.clear();
        }
        Ok(())
    }

    /// Partial tiles stay until the full one is there (tlog-tiles).
    fn remove_partials(&self) -> Result<(), LogError> {
        let now_full = |path: String| format!("{path}.p");
        let tiles = tiles_between(self.written, self.size).into_iter().filter(|path| path.is_full());
        let bundles = bundles_between(self.written, self.size).into_iter().filter(|path| path.is_full());
        let names = tiles.map(|path| now_full(path.to_string()));
        for name in names.chain(bundles.map(|path| now_full(path.to_string()))) {
            self.folder.remove(&name).map_err(|source| file(&name, source))?;
        }
        Ok(())
    }
}

fn make(folder: &dyn Folder, files: &[(String, Vec<u8>)]) -> Result<(), LogError> {
    let [(path, _), ..] = files else { return Ok(()) };
    folder.make(files).map_err(|source| file(path, source))
}

/// A damaged file is as good as none: it can be written anew.
fn intact(read: Result<Option<Vec<u8>>, LogError>) -> Result<Option<Vec<u8>>, LogError> {
    match read {
        Err(LogError::Damaged { .. }) => Ok(None),
        read => read,
    }
}

const FULL: usize = 256;
const WIDTH: u16 = 256;

fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(hashes.len() * HASH_BYTES);
    hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
    bytes
}

pub(super) fn file(path: &str, source: std::io::Error) -> LogError {
    LogError::File { path: PathBuf::from(path), source }
}
