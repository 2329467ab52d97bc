//! Reads files of the log back: for witnesses, for followers, for whoever may ask over HTTPS.

use super::{CHECKPOINT_FILE, Folder, LogError, roster_file, view::file};
use crate::{
    audit::{AuditError, Bundle, BundlePath, TILE_HASHES, TilePath, TileTree},
    limits::HASH_BYTES,
    merkle::{self, Hash, MerkleError},
};

/// What a name of the log leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// A checkpoint: it changes, so nobody may keep it.
    Checkpoint(Vec<u8>),
    /// A tile or a bundle: it never changes.
    Tile(Vec<u8>),
    /// The name is none of the log's, or the log is not so large yet.
    Absent,
}

/// Finds what is named: `checkpoint`, a tile, a bundle, or a roster's note. A partial one that is gone is cut from a wider one.
///
/// # Errors
/// [`LogError`].
pub fn serve(folder: &dyn Folder, name: &str) -> Result<Served, LogError> {
    if name == CHECKPOINT_FILE {
        let note = folder.read(name).map_err(|source| file(name, source))?;
        return Ok(note.map_or(Served::Absent, Served::Checkpoint));
    }
    let version = name.strip_prefix("roster/").and_then(|version| version.parse::<u32>().ok());
    let found = if let Some(version) = version.filter(|version| roster_file(*version) == name) {
        folder.read(&roster_file(version)).map_err(|source| file(name, source))?
    } else if let Ok(path) = name.parse::<BundlePath>() {
        bundle(folder, path)?
    } else if let Ok(path) = name.parse::<TilePath>() {
        tile(folder, path)?
    } else {
        None
    };
    Ok(found.map_or(Served::Absent, Served::Tile))
}

/// The path that proves a leaf to be in the tree of a size whose tiles are written.
///
/// # Errors
/// [`LogError`].
pub fn inclusion_path(folder: &dyn Folder, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
    TileTree::new(size, |path| read_tile(folder, path)).inclusion_path(index)
}

/// The path from an older tree to one whose tiles are written, and whose root is known. It is held against that
/// root: a damaged tile must make neither a party's checkpoint look like a fork, nor this log to its witnesses.
///
/// # Errors
/// [`LogError`]; [`LogError::Tiles`] where the tiles do not make the root.
pub fn consistency_path(
    folder: &dyn Folder,
    old_size: u64,
    size: u64,
    root: Hash,
) -> Result<Vec<Hash>, LogError> {
    let mut tree = TileTree::new(size, |path| read_tile(folder, path));
    let path = tree.consistency_path(old_size)?;
    let old_root = tree.old_root(old_size)?;
    let fits = merkle::verify_consistency(old_size, old_root, size, root, &path);
    fits.map(|()| path).map_err(|_: MerkleError| LogError::Tiles { size })
}

fn read_tile(folder: &dyn Folder, path: TilePath) -> Result<Vec<u8>, LogError> {
    let absent = || LogError::Damaged { path: path.to_string().into(), source: AuditError::Tile };
    tile(folder, path)?.ok_or_else(absent)
}

pub(super) fn tile(folder: &dyn Folder, path: TilePath) -> Result<Option<Vec<u8>>, LogError> {
    let Some(bytes) = wider(folder, path.width, |width| TilePath { width, ..path }.to_string())? else {
        return Ok(None);
    };
    let cut = bytes.get(..usize::from(path.width) * HASH_BYTES);
    let damaged = || LogError::Damaged { path: path.to_string().into(), source: AuditError::Tile };
    cut.map(|cut| Some(cut.to_vec())).ok_or_else(damaged)
}

pub(super) fn bundle(folder: &dyn Folder, path: BundlePath) -> Result<Option<Vec<u8>>, LogError> {
    let Some(bytes) = wider(folder, path.width, |width| BundlePath { width, ..path }.to_string())? else {
        return Ok(None);
    };
    let damaged = |source| LogError::Damaged { path: path.to_string().into(), source };
    let end = Bundle::end_of(&bytes, path.width).map_err(damaged)?;
    Ok(Some(bytes[..end].to_vec()))
}

/// The file of the width asked for, or the full one, or the narrowest partial one that is wide enough.
fn wider(folder: &dyn Folder, width: u16, name: impl Fn(u16) -> String) -> Result<Option<Vec<u8>>, LogError> {
    let read = |name: &str| folder.read(name).map_err(|source| file(name, source));
    let full = u16::try_from(TILE_HASHES).expect("256");
    for exact in [width, full] {
        if let Some(bytes) = read(&name(exact))? {
            return Ok(Some(bytes));
        }
    }
    let partials = format!("{}.p", name(full));
    let names = folder.list(&partials).map_err(|source| file(&partials, source))?;
    let widths = names.iter().filter_map(|name| name.parse::<u16>().ok());
    let wide = widths.filter(|wide| *wide > width && *wide < full).min();
    let found = wide.map_or(Ok(None), |wide| read(&name(wide)))?;
    // Between two looks the full one may have come, and the partial ones have gone.
    found.map_or_else(|| read(&name(full)), |bytes| Ok(Some(bytes)))
}
