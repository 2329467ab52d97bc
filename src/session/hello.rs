//! Hello and Welcome: signed, and bound to the TLS session that they travel on (FORMATS 4).

use bytes::Bytes;

use crate::{
    batch::{self, BatchError, PublicKey, Tag},
    line::is_line,
    merkle::{self, Hash},
    wire::{Malformed, convert, pb},
};

/// The protocol version that this build speaks.
pub const PROTOCOL: u32 = 1;
/// Name and version as the peer and the log see them.
pub const SOFTWARE: &str = concat!("pouch ", env!("CARGO_PKG_VERSION"));
/// Bytes of the peer's name and version. A longer one, or one that is no line, refuses its Hello or Welcome.
const SOFTWARE_BYTES_MAX: usize = 64;
/// Longest checkpoint note in a Hello or Welcome, in bytes: with the log's signature alone.
const CHECKPOINT_BYTES_MAX: usize = 2 * 1024;

/// Which end signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Hello.
    Desk,
    /// Welcome.
    Relay,
}

impl End {
    /// 1 or 2, as it is signed.
    pub fn code(self) -> u8 {
        match self {
            End::Desk => 1,
            End::Relay => 2,
        }
    }
}

/// What Hello and Welcome sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// TLS exporter of the connection, label `EXPORTER-Channel-Binding`.
    pub exporter: [u8; 32],
    /// Who signs.
    pub end: End,
    /// The signer's incarnation.
    pub incarnation: u32,
    /// Random at each start of the signer.
    pub instance: [u8; 16],
    /// The signer's newest verified checkpoint note, or empty.
    pub checkpoint: Bytes,
}

impl Binding {
    /// The batch leaf to sign or to verify, tag `hello`.
    pub fn leaf(&self) -> Hash {
        let mut item = Vec::with_capacity(32 + 1 + 4 + 16 + 32);
        item.extend_from_slice(&self.exporter);
        item.push(self.end.code());
        item.extend_from_slice(&self.incarnation.to_be_bytes());
        item.extend_from_slice(&self.instance);
        item.extend_from_slice(merkle::sha256(&self.checkpoint).as_bytes());
        batch::item_leaf(Tag::Hello, &item)
    }
}

/// Why a Hello or Welcome is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// No protocol version in common.
    #[error("the peer speaks protocol version {0}, this build speaks {PROTOCOL}")]
    Version(u32),
    /// A field breaks its bound.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not signed by the roster's key for this party, or for another TLS session.
    #[error("not signed by the roster's key for this connection: {0}")]
    Signature(#[from] BatchError),
}

/// A Hello whose signature was verified; nothing but [`VerifiedHello::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHello {
    hello: pb::Hello,
    key: PublicKey,
    store_id: [u8; 16],
    instance: [u8; 16],
}

impl VerifiedHello {
    /// Checks version, bounds and the signature over this connection's exporter.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn verify(
        hello: pb::Hello,
        exporter: [u8; 32],
        trust_domain: &str,
        key: &PublicKey,
    ) -> Result<VerifiedHello, HelloError> {
        check_speaker(hello.protocol, &hello.software, hello.role, End::Desk)?;
        let instance = check_process(&hello.instance, &hello.checkpoint)?;
        let store_id =
            (&*hello.store_id).try_into().map_err(|_| Malformed::new("store id", "is not 16 bytes"))?;
        if hello.incarnation == 0 {
            return Err(Malformed::new("incarnation", "is zero").into());
        }
        let binding = Binding {
            exporter,
            end: End::Desk,
            incarnation: hello.incarnation,
            instance,
            checkpoint: hello.checkpoint.clone(),
        };
        verify_binding(&binding, hello.proof.as_ref(), trust_domain, key)?;
        Ok(VerifiedHello { hello, key: *key, store_id, instance })
    }

    /// What it says.
    pub fn fields(&self) -> &pb::Hello {
        &self.hello
    }

    /// The key that signed it.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Names the desk's store.
    pub fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// Names the desk's process.
    pub fn instance(&self) -> [u8; 16] {
        self.instance
    }
}

/// Verifies a Welcome on the desk's end.
///
/// # Errors
/// [`HelloError`].
pub fn verify_welcome(
    welcome: &pb::Welcome,
    exporter: [u8; 32],
    trust_domain: &str,
    key: &PublicKey,
) -> Result<(), HelloError> {
    check_speaker(welcome.protocol, &welcome.software, welcome.role, End::Relay)?;
    let instance = check_process(&welcome.instance, &welcome.checkpoint)?;
    let binding = Binding {
        exporter,
        end: End::Relay,
        incarnation: welcome.incarnation,
        instance,
        checkpoint: welcome.checkpoint.clone(),
    };
    verify_binding(&binding, welcome.proof.as_ref(), trust_domain, key)
}

fn check_speaker(protocol: u32, software: &str, role: u32, end: End) -> Result<(), HelloError> {
    if protocol != PROTOCOL {
        return Err(HelloError::Version(protocol));
    }
    if !is_line(software, SOFTWARE_BYTES_MAX) {
        return Err(Malformed::new("software", "is no line of at most 64 bytes").into());
    }
    if role != u32::from(end.code()) {
        return Err(Malformed::new("role", "is not the one of this end").into());
    }
    Ok(())
}

fn check_process(instance: &[u8], checkpoint: &[u8]) -> Result<[u8; 16], HelloError> {
    if checkpoint.len() > CHECKPOINT_BYTES_MAX {
        return Err(Malformed::new("checkpoint", "is longer than 2 KiB").into());
    }
    Ok(instance.try_into().map_err(|_| Malformed::new("instance", "is not 16 bytes"))?)
}

fn verify_binding(
    binding: &Binding,
    proof: Option<&pb::BatchProof>,
    trust_domain: &str,
    key: &PublicKey,
) -> Result<(), HelloError> {
    let proof = convert::proof(proof)?;
    batch::Verifier::new(1).verify(trust_domain, Tag::Hello, key, binding.leaf(), &proof)?;
    Ok(())
}
