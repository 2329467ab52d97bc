//! Verifying item by item, at the cost of one signature for each batch.

use super::{BatchError, Proof, PublicKey, SIGNATURE_BYTES, Tag, verify_root};
use crate::limits::BATCH_ITEMS_MAX;
use crate::merkle::{self, Hash, Sibling, node_hash};

/// Verifies items and remembers the last few batches that verified, with their known nodes.
///
/// The first item of a batch costs a signature verification and its path; each further one the
/// hashes up to the first node known, one in the mean, and no allocation. Whether an item verifies
/// never depends on what is remembered. Failures are not remembered; their cost is the caller's to
/// budget. Memory: about 4.5 KiB for each remembered batch.
#[derive(Debug)]
pub struct Verifier {
    batches: Vec<Batch>,
    batches_max: usize,
    /// The slot that the next batch takes once all are taken: the oldest.
    oldest: usize,
    signatures_verified: u64,
}

impl Verifier {
    /// Remembers the last `batches` batches, at least one.
    pub fn new(batches: usize) -> Verifier {
        Verifier { batches: Vec::new(), batches_max: batches.max(1), oldest: 0, signatures_verified: 0 }
    }

    /// Verifies that `key` signed the item with this leaf.
    ///
    /// # Errors
    /// Any of [`BatchError`] but its lengths of bytes.
    ///
    /// # Panics
    /// As [`super::signed_bytes`].
    pub fn verify(
        &mut self,
        trust_domain: &str,
        tag: Tag,
        key: &PublicKey,
        leaf: Hash,
        proof: &Proof,
    ) -> Result<(), BatchError> {
        let levels = proof.climb()?.count();
        if let Some(batch) = self.batches.iter_mut().find(|known| known.is(trust_domain, tag, key, proof)) {
            return batch.admit(leaf, proof);
        }
        let root = merkle::root_from_inclusion(leaf, proof.index.into(), proof.count.into(), &proof.path)
            .map_err(|_| BatchError::PathLength)?;
        self.signatures_verified += 1;
        verify_root(trust_domain, tag, key, proof.count, &root, &proof.signature)?;
        let mut batch = Batch::new(trust_domain, tag, key, proof, levels, root);
        batch.admit(leaf, proof)?;
        self.remember(batch);
        Ok(())
    }

    /// How many Ed25519 verifications were done, successful or not: one a batch if all goes well.
    pub fn signatures_verified(&self) -> u64 {
        self.signatures_verified
    }

    fn remember(&mut self, batch: Batch) {
        if self.batches.len() < self.batches_max {
            self.batches.push(batch);
        } else {
            self.batches[self.oldest] = batch;
            self.oldest = (self.oldest + 1) % self.batches_max;
        }
    }
}

/// A batch whose signature verified, and the nodes of its tree that are known by now.
///
/// A node becomes known together with its sibling, its ancestors and theirs: all of them hashed
/// into the signed root. So a path may stop at the first known node, and the rest of it must be
/// what is known.
#[derive(Debug)]
struct Batch {
    trust_domain: String,
    tag: Tag,
    key: PublicKey,
    count: u8,
    signature: [u8; SIGNATURE_BYTES],
    nodes: Box<[Option<Hash>; NODES]>,
}

/// Levels of a tree of 64 leaves, the root's included.
const LEVELS: usize = BATCH_ITEMS_MAX.ilog2() as usize + 1;
/// Nodes of such a tree.
const NODES: usize = 2 * BATCH_ITEMS_MAX - 1;
const _: () = assert!(BATCH_ITEMS_MAX.is_power_of_two());

impl Batch {
    fn new(trust_domain: &str, tag: Tag, key: &PublicKey, proof: &Proof, levels: usize, root: Hash) -> Batch {
        let mut nodes = Box::new([None; NODES]);
        nodes[place(levels, 0)] = Some(root);
        Batch {
            trust_domain: trust_domain.to_owned(),
            tag,
            key: *key,
            count: proof.count,
            signature: proof.signature,
            nodes,
        }
    }

    fn is(&self, trust_domain: &str, tag: Tag, key: &PublicKey, proof: &Proof) -> bool {
        // The signature first: it alone tells nearly all batches apart.
        self.signature == proof.signature
            && self.count == proof.count
            && self.tag == tag
            && self.key == *key
            && self.trust_domain == trust_domain
    }

    /// Proves one more item, from its leaf up to the first node that is known.
    fn admit(&mut self, leaf: Hash, proof: &Proof) -> Result<(), BatchError> {
        let index = usize::from(proof.index);
        let mut climb = proof.climb()?;
        let mut path = proof.path.iter();
        let mut fresh = [None; LEVELS];
        let (mut node, mut level) = (leaf, 0);
        let known = loop {
            if let Some(known) = self.nodes[place(level, index >> level)] {
                break known;
            }
            let (parent, sibling) = match climb.next().ok_or(BatchError::Signature)? {
                Sibling::Left => {
                    let left = path.next().ok_or(BatchError::PathLength)?;
                    (node_hash(left, &node), Some(*left))
                }
                Sibling::Right => {
                    let right = path.next().ok_or(BatchError::PathLength)?;
                    (node_hash(&node, right), Some(*right))
                }
                Sibling::Absent => (node, None),
            };
            fresh[level] = Some((node, sibling));
            node = parent;
            level += 1;
        };
        let rest = climb.enumerate().filter(|(_, step)| *step != Sibling::Absent);
        let rest_is_known = rest
            .zip(path)
            .all(|((up, _), hash)| self.nodes[place(level + up, (index >> (level + up)) ^ 1)] == Some(*hash));
        if node != known || !rest_is_known {
            return Err(BatchError::Signature);
        }
        for (level, (node, sibling)) in fresh.into_iter().flatten().enumerate() {
            let at = index >> level;
            self.nodes[place(level, at)] = Some(node);
            if let Some(sibling) = sibling {
                self.nodes[place(level, at ^ 1)] = Some(sibling);
            }
        }
        Ok(())
    }
}

/// Where a node is kept: level after level, each half as long as the one below.
fn place(level: usize, index: usize) -> usize {
    2 * BATCH_ITEMS_MAX - ((2 * BATCH_ITEMS_MAX) >> level) + index
}
