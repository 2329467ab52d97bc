//! Names and widths of tiles and bundles (tlog-tiles).

use std::{fmt, str::FromStr};

use super::{AuditError, checkpoint::decimal};

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_HASHES: u64 = 1 << TILE_HEIGHT;
/// Levels of the tree in one tile.
const TILE_HEIGHT: u32 = 8;
/// A tree of 2^64 leaves has eight levels of tiles.
const LEVELS: u8 = 8;

/// Names a tile of hashes: `tile/<L>/<N>[.p/<W>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    /// Its level: 0 holds the leaves' hashes, 1 the roots of 256 of them.
    pub level: u8,
    /// From the left.
    pub index: u64,
    /// How many hashes it holds, 1 to 256.
    pub width: u16,
}

/// Names a bundle of entries: `tile/entries/<N>[.p/<W>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundlePath {
    /// From the left.
    pub index: u64,
    /// How many entries it holds, 1 to 256.
    pub width: u16,
}

impl TilePath {
    /// The tile at a place of a tree of so many leaves, as wide as it is there; `None` where there is none.
    pub fn in_tree(level: u8, index: u64, size: u64) -> Option<TilePath> {
        let width = width(nodes_at(level, size), index)?;
        Some(TilePath { level, index, width })
    }

    /// Whether it holds all the hashes that it ever will.
    pub fn is_full(self) -> bool {
        u64::from(self.width) == TILE_HASHES
    }
}

impl BundlePath {
    /// The bundle at a place of a log of so many entries, as wide as it is there; `None` where there is none.
    pub fn in_log(index: u64, size: u64) -> Option<BundlePath> {
        let width = width(size, index)?;
        Some(BundlePath { index, width })
    }

    /// Whether it holds all the entries that it ever will.
    pub fn is_full(self) -> bool {
        u64::from(self.width) == TILE_HASHES
    }
}

/// The tiles that a log has to write when it grows: new ones, and those that became wider.
pub fn tiles_between(old_size: u64, size: u64) -> Vec<TilePath> {
    let mut tiles = Vec::new();
    for level in 0..LEVELS {
        let (old, new) = (nodes_at(level, old_size), nodes_at(level, size));
        if new <= old {
            break;
        }
        for index in old / TILE_HASHES..new.div_ceil(TILE_HASHES) {
            tiles.extend(TilePath::in_tree(level, index, size));
        }
    }
    tiles
}

/// The bundles that a log has to write when it grows.
pub fn bundles_between(old_size: u64, size: u64) -> Vec<BundlePath> {
    if old_size >= size {
        return Vec::new();
    }
    (old_size / TILE_HASHES..size.div_ceil(TILE_HASHES))
        .filter_map(|index| BundlePath::in_log(index, size))
        .collect()
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/{}", self.level, Name(self.index, self.width))
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/entries/{}", Name(self.index, self.width))
    }
}

impl FromStr for TilePath {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<TilePath, AuditError> {
        let (level, name) =
            text.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(AuditError::Path)?;
        let level = decimal(level).filter(|level| *level < LEVELS).ok_or(AuditError::Path)?;
        let Name(index, width) = name.parse()?;
        Ok(TilePath { level, index, width })
    }
}

impl FromStr for BundlePath {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<BundlePath, AuditError> {
        let Name(index, width) = text.strip_prefix("tile/entries/").ok_or(AuditError::Path)?.parse()?;
        Ok(BundlePath { index, width })
    }
}

/// `<N>[.p/<W>]`: the index in groups of three digits, all but the last marked by an x, and a width below 256.
struct Name(u64, u16);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = vec![self.0 % 1_000];
        let mut rest = self.0 / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        for (place, group) in groups.iter().enumerate().rev() {
            let (mark, end) = if place > 0 { ("x", "/") } else { ("", "") };
            write!(f, "{mark}{group:03}{end}")?;
        }
        if u64::from(self.1) < TILE_HASHES { write!(f, ".p/{}", self.1) } else { Ok(()) }
    }
}

impl FromStr for Name {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Name, AuditError> {
        let (number, width) = match text.split_once(".p/") {
            Some((number, width)) => (number, decimal(width).ok_or(AuditError::Path)?),
            None => (text, 256),
        };
        let mut index = 0_u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let value = (digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| digits.parse::<u64>().ok());
            let value = value.flatten().ok_or(AuditError::Path)?;
            index = index
                .checked_mul(1_000)
                .and_then(|index| index.checked_add(value))
                .ok_or(AuditError::Path)?;
        }
        let name = Name(index, width);
        // One tile has one name: leading groups of zeros, misplaced marks and `.p/256` are none.
        if width > 0 && name.to_string() == text { Ok(name) } else { Err(AuditError::Path) }
    }
}

/// Complete subtrees of 256^level leaves.
fn nodes_at(level: u8, size: u64) -> u64 {
    size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0)
}

fn width(nodes: u64, index: u64) -> Option<u16> {
    let before = index.checked_mul(TILE_HASHES)?;
    let width = nodes.checked_sub(before)?.min(TILE_HASHES);
    if width == 0 { None } else { u16::try_from(width).ok() }
}
