//! Administrative leaves: in clear, chained to one another, at most 60 KiB (FORMATS 8).
//!
//! Layout, big endian: `01 02 || u8 act || u64 log time_us || u64 position of the administrative leaf
//! before || its leaf hash[32] || act`. At the first one the position is 2^64-1 and the hash zeros.

use bytes::Bytes;

use crate::{
    limits,
    merkle::{self, Hash},
    record::leaf::{ADMINISTRATIVE, LEAF_VERSION},
    roster::PartyNumber,
    wire::{Malformed, Position, order::SignedOrder},
};

/// Place and hash of an administrative leaf: the head of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Where the leaf stands.
    pub position: Position,
    /// RFC 6962 hash of the leaf.
    pub hash: Hash,
}

impl ChainHead {
    /// Before the first administrative leaf.
    pub const START: ChainHead = ChainHead { position: Position::NONE, hash: Hash::ZERO };
}

/// What the log says is erased of its traffic records: salts, openings, headers and bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The last position that it is about.
    pub through: Position,
    /// Of the leaf that says so.
    pub at: Position,
}

/// What an administrative leaf records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A roster version came into force; its note lies beside the leaf.
    Roster {
        /// Its version.
        version: u32,
        /// SHA-256 of the note.
        hash: Hash,
        /// Bytes of the note.
        length: u32,
    },
    /// A desk's store was made, restored or replaced.
    Incarnation {
        /// Whose.
        party: PartyNumber,
        /// From 1, rising.
        incarnation: u32,
        /// Random, made with the store.
        store_id: [u8; 16],
    },
    /// The relay started.
    Started {
        /// Name and version.
        software: String,
    },
    /// The relay stopped in order.
    Stopped,
    /// Refusals that were only counted.
    Refusals {
        /// Whose submissions.
        party: PartyNumber,
        /// Refusal code.
        code: u16,
        /// Minute of log time, since 1970.
        minute: u64,
        /// How many.
        count: u32,
    },
    /// The hub's order, in force from here on.
    Order(Box<SignedOrder>),
    /// Two machines take turns as one party.
    Cloned {
        /// Which.
        party: PartyNumber,
        /// The process whose session stays.
        stays: [u8; 16],
        /// The process that was refused.
        refused: [u8; 16],
    },
    /// The operator has accepted the machine's clock, which was in doubt.
    ClockAccepted {
        /// What it said, microseconds since 1970.
        wall_us: u64,
    },
    /// Salt, opening, header and body of every traffic record up to here are erased, but of what still waits for a
    /// desk; the leaves stay.
    Erasures {
        /// The last position, before this leaf's own.
        through: Position,
    },
    /// What the relay runs with from here on.
    Configuration {
        /// SHA-256 of what `pouch config show relay` prints.
        hash: Hash,
    },
}

/// One administrative leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdministrativeLeaf {
    /// The relay's log time.
    pub log_time_us: u64,
    /// The administrative leaf before it.
    pub previous: ChainHead,
    /// What it records.
    pub act: Act,
}

impl Erasure {
    /// What a record at a position says is erased, where it is such a leaf.
    pub fn of(position: Position, leaf: &[u8]) -> Option<Erasure> {
        if !leaf.starts_with(&[LEAF_VERSION, ADMINISTRATIVE, ERASURES]) {
            return None;
        }
        match AdministrativeLeaf::decode(leaf).ok()?.act {
            Act::Erasures { through } => Some(Erasure { through, at: position }),
            _ => None,
        }
    }
}

const ERASURES: u8 = 9;
const HEAD_BYTES: usize = 2 + 1 + 8 + 8 + 32;
const SOFTWARE_BYTES_MAX: usize = 64;
const _: () = assert!(HEAD_BYTES + SOFTWARE_BYTES_MAX < limits::ADMINISTRATIVE_LEAF_BYTES_MAX);

impl AdministrativeLeaf {
    /// The leaf's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![LEAF_VERSION, ADMINISTRATIVE, self.act.code()];
        out.extend_from_slice(&self.log_time_us.to_be_bytes());
        out.extend_from_slice(&self.previous.position.0.to_be_bytes());
        out.extend_from_slice(self.previous.hash.as_bytes());
        self.act.encode(&mut out);
        out.into()
    }

    /// Reads a leaf.
    ///
    /// # Errors
    /// [`Malformed`] for another kind of leaf, an unknown act or a wrong length.
    pub fn decode(bytes: &[u8]) -> Result<AdministrativeLeaf, Malformed> {
        let (head, act) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(Malformed::new("administrative leaf", "is too short"))?;
        if head[..2] != [LEAF_VERSION, ADMINISTRATIVE] {
            return Err(Malformed::new("leaf", "is not administrative"));
        }
        let (time, rest) = head[3..].split_first_chunk().expect("the head holds the time");
        let (position, hash) = rest.split_first_chunk().expect("the head holds the position");
        let previous = ChainHead {
            position: Position(u64::from_be_bytes(*position)),
            hash: Hash(hash.try_into().expect("32 bytes of the head are left")),
        };
        Ok(AdministrativeLeaf {
            log_time_us: u64::from_be_bytes(*time),
            previous,
            act: Act::decode(head[2], act)?,
        })
    }

    /// Where the chain stands once this leaf is at a position.
    pub fn head_at(&self, position: Position) -> ChainHead {
        ChainHead { position, hash: merkle::leaf_hash(&self.encode()) }
    }
}

impl Act {
    fn code(&self) -> u8 {
        match self {
            Act::Roster { .. } => 1,
            Act::Incarnation { .. } => 2,
            Act::Started { .. } => 3,
            Act::Stopped => 4,
            Act::Refusals { .. } => 5,
            Act::Order(_) => 6,
            Act::Cloned { .. } => 7,
            Act::ClockAccepted { .. } => 8,
            Act::Erasures { .. } => ERASURES,
            Act::Configuration { .. } => 10,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Act::Roster { version, hash, length } => {
                out.extend_from_slice(&version.to_be_bytes());
                out.extend_from_slice(hash.as_bytes());
                out.extend_from_slice(&length.to_be_bytes());
            }
            Act::Incarnation { party, incarnation, store_id } => {
                out.extend_from_slice(&party.0.to_be_bytes());
                out.extend_from_slice(&incarnation.to_be_bytes());
                out.extend_from_slice(store_id);
            }
            Act::Started { software } => {
                out.extend_from_slice(
                    &software.as_bytes()[..software.floor_char_boundary(SOFTWARE_BYTES_MAX)],
                );
            }
            Act::Stopped => {}
            Act::Refusals { party, code, minute, count } => {
                out.extend_from_slice(&party.0.to_be_bytes());
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(&minute.to_be_bytes());
                out.extend_from_slice(&count.to_be_bytes());
            }
            Act::Order(signed) => out.extend_from_slice(&signed.encode()),
            Act::Cloned { party, stays, refused } => {
                out.extend_from_slice(&party.0.to_be_bytes());
                out.extend_from_slice(stays);
                out.extend_from_slice(refused);
            }
            Act::ClockAccepted { wall_us } => out.extend_from_slice(&wall_us.to_be_bytes()),
            Act::Erasures { through } => out.extend_from_slice(&through.0.to_be_bytes()),
            Act::Configuration { hash } => out.extend_from_slice(hash.as_bytes()),
        }
    }

    fn decode(code: u8, bytes: &[u8]) -> Result<Act, Malformed> {
        let wrong = Malformed::new("administrative act", "has the wrong length");
        match code {
            1 => {
                let bytes: &[u8; 40] = bytes.try_into().map_err(|_| wrong)?;
                let (version, rest) = bytes.split_first_chunk().expect("40 bytes");
                let (hash, length) = rest.split_first_chunk().expect("36 bytes");
                Ok(Act::Roster {
                    version: u32::from_be_bytes(*version),
                    hash: Hash(*hash),
                    length: u32::from_be_bytes(length.try_into().expect("4 bytes")),
                })
            }
            2 => {
                let bytes: &[u8; 24] = bytes.try_into().map_err(|_| wrong)?;
                let (party, rest) = bytes.split_first_chunk().expect("24 bytes");
                let (incarnation, store_id) = rest.split_first_chunk().expect("20 bytes");
                Ok(Act::Incarnation {
                    party: PartyNumber(u32::from_be_bytes(*party)),
                    incarnation: u32::from_be_bytes(*incarnation),
                    store_id: store_id.try_into().expect("16 bytes"),
                })
            }
            3 if bytes.len() <= SOFTWARE_BYTES_MAX => {
                let software =
                    std::str::from_utf8(bytes).map_err(|_| Malformed::new("software", "is not UTF-8"))?;
                Ok(Act::Started { software: software.to_owned() })
            }
            4 if bytes.is_empty() => Ok(Act::Stopped),
            3 | 4 => Err(wrong),
            5 => {
                let bytes: &[u8; 18] = bytes.try_into().map_err(|_| wrong)?;
                let (party, rest) = bytes.split_first_chunk().expect("18 bytes");
                let (code, rest) = rest.split_first_chunk().expect("14 bytes");
                let (minute, count) = rest.split_first_chunk().expect("12 bytes");
                Ok(Act::Refusals {
                    party: PartyNumber(u32::from_be_bytes(*party)),
                    code: u16::from_be_bytes(*code),
                    minute: u64::from_be_bytes(*minute),
                    count: u32::from_be_bytes(count.try_into().expect("4 bytes")),
                })
            }
            6 => Ok(Act::Order(Box::new(SignedOrder::decode(bytes)?))),
            7 => {
                let bytes: &[u8; 36] = bytes.try_into().map_err(|_| wrong)?;
                let (party, rest) = bytes.split_first_chunk().expect("36 bytes");
                let (stays, refused) = rest.split_first_chunk().expect("32 bytes");
                Ok(Act::Cloned {
                    party: PartyNumber(u32::from_be_bytes(*party)),
                    stays: *stays,
                    refused: refused.try_into().expect("16 bytes"),
                })
            }
            8 => {
                let wall_us = u64::from_be_bytes(bytes.try_into().map_err(|_| wrong)?);
                Ok(Act::ClockAccepted { wall_us })
            }
            ERASURES => {
                let through = Position(u64::from_be_bytes(bytes.try_into().map_err(|_| wrong)?));
                Ok(Act::Erasures { through })
            }
            10 => Ok(Act::Configuration { hash: Hash(bytes.try_into().map_err(|_| wrong)?) }),
            _ => Err(Malformed::new("administrative act", "is of an unknown kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::Proof,
        wire::order::{Order, OrderKind},
    };

    fn acts() -> Vec<Act> {
        vec![
            Act::Roster { version: 3, hash: Hash([7; 32]), length: 900 },
            Act::Incarnation { party: PartyNumber(4), incarnation: 2, store_id: [9; 16] },
            Act::Started { software: "pouch 0.1.0".to_owned() },
            Act::Stopped,
            Act::Refusals { party: PartyNumber(4), code: 3, minute: 29_000_000, count: 17 },
            Act::Order(Box::new(SignedOrder {
                order: Order { number: 3, kind: OrderKind::Minimize { until_s: 9 }, salt: [4; 32] },
                proof: Proof { count: 1, index: 0, path: Vec::new(), signature: [5; 64] },
            })),
            Act::Cloned { party: PartyNumber(4), stays: [1; 16], refused: [2; 16] },
            Act::ClockAccepted { wall_us: 7 },
            Act::Erasures { through: Position(9) },
            Act::Configuration { hash: Hash([6; 32]) },
        ]
    }

    #[test]
    fn every_act_reads_back_and_no_truncation_or_extension_does() {
        for act in acts() {
            let leaf = AdministrativeLeaf { log_time_us: 5, previous: ChainHead::START, act };
            let bytes = leaf.encode();
            assert_eq!(AdministrativeLeaf::decode(&bytes), Ok(leaf.clone()));
            if matches!(leaf.act, Act::Started { .. }) {
                continue; // its text may be of any length up to the bound
            }
            for cut in 0..bytes.len() {
                assert!(AdministrativeLeaf::decode(&bytes[..cut]).is_err(), "{:?} cut at {cut}", leaf.act);
            }
            assert!(AdministrativeLeaf::decode(&[&bytes[..], &[0]].concat()).is_err(), "{:?}", leaf.act);
        }
    }
}
