//! The core of a header: what the sender signs and the relay routes by, parsed from the bytes that were
//! signed (FORMATS 5).

use bytes::{BufMut, Bytes};

use crate::{
    limits,
    line::misleads,
    merkle::Hash,
    roster::PartyNumber,
    wire::{
        DispatchId, Malformed, Precedence, Role, SubmissionNumber,
        fields::{Fields, Value, put_bytes, put_number},
        pb,
    },
};

/// One addressee of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Addressee {
    /// Who.
    pub party: PartyNumber,
    /// For action or information.
    pub role: Role,
}

/// An attachment as the core names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachmentName {
    /// SHA-256 of its ciphertext.
    pub ciphertext_hash: Hash,
    /// Bytes of its ciphertext.
    pub bytes: u64,
}

/// Whether the dispatch inside is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// The ciphertext field is the dispatch in clear: the relay could read it.
    Clear,
}

/// What the sender signs and the relay routes by. Field bounds stand in `proto/pouch/v1/envelope.proto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// Must be the relay's own.
    pub trust_domain: String,
    /// Kept until the dispatch is accepted.
    pub id: DispatchId,
    /// Checked against the certificate.
    pub sender: PartyNumber,
    /// What the relay deduplicates by.
    pub submission: SubmissionNumber,
    /// Roster that the sender addressed by.
    pub roster_version: u32,
    /// Its SHA-256.
    pub roster_hash: Hash,
    /// 1 to 128, no party twice.
    pub addressees: Vec<Addressee>,
    /// Precedence towards TO.
    pub precedence_action: Precedence,
    /// Precedence towards INFO, never above the other.
    pub precedence_info: Precedence,
    /// Topic id.
    pub topic: String,
    /// Label of the roster's policy.
    pub label: String,
    /// EXERCISE traffic.
    pub exercise: bool,
    /// Seconds since 1970.
    pub expires_s: u64,
    /// Bytes, 0 in clear.
    pub size_bucket: u32,
    /// Commitment to the envelope's key; `None` in clear.
    pub commitment: Option<Hash>,
    /// At most 16.
    pub attachments: Vec<AttachmentName>,
    /// The dispatch that this one replaces.
    pub supersedes: Option<DispatchId>,
    /// Size of the author's newest verified checkpoint.
    pub checkpoint_size: u64,
    /// Its root.
    pub checkpoint_root: Hash,
    /// Sealed or clear.
    pub sealing: Sealing,
}

/// Bytes of a core without texts and lists: 6 hashes and ids, 9 numbers, keys and lengths.
const OTHER_BYTES_MAX: usize = 6 * 36 + 9 * 12 + 5 * 6;
const ADDRESSEE_BYTES: usize = 5;
const ATTACHMENT_BYTES: usize = 40;

impl Core {
    /// Parses and checks the bytes of a core.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that breaks its bound.
    pub fn decode(bytes: &[u8]) -> Result<Core, Malformed> {
        let core = CoreFields::of(bytes).ok_or(Malformed::new("core", "is not protobuf"))?;
        bounded(core.trust_domain, limits::TRUST_DOMAIN_BYTES_MAX, "trust domain")?;
        bounded(core.topic, limits::TOPIC_BYTES_MAX, "topic")?;
        bounded(core.label, limits::TOPIC_BYTES_MAX, "label")?;
        let precedence_action = precedence(core.precedence_action, "precedence")?;
        let precedence_info = precedence(core.precedence_info, "precedence for info")?;
        if precedence_info > precedence_action {
            return Err(Malformed::new("precedence for info", "is above the one for action"));
        }
        if core.submission == 0 {
            return Err(Malformed::new("submission number", "is zero"));
        }
        let sealing = match pb::Sealing::try_from(core.sealing) {
            Ok(pb::Sealing::Clear) => Sealing::Clear,
            Ok(pb::Sealing::Unspecified) | Err(_) => {
                return Err(Malformed::new("sealing", "is of an unknown kind"));
            }
        };
        Ok(Core {
            id: dispatch_id(core.id, "id")?,
            sender: PartyNumber(core.sender),
            submission: SubmissionNumber(core.submission),
            roster_version: core.roster_version,
            roster_hash: hash(core.roster_hash, "roster hash")?,
            addressees: addressees(core.addressees)?,
            precedence_action,
            precedence_info,
            exercise: core.exercise,
            expires_s: core.expires_s,
            size_bucket: core.size_bucket,
            commitment: optional(core.commitment, |bytes| hash(bytes, "commitment"))?,
            attachments: attachments(core.attachments)?,
            supersedes: optional(core.supersedes, |bytes| dispatch_id(bytes, "supersedes"))?,
            checkpoint_size: core.checkpoint_size,
            checkpoint_root: hash(core.checkpoint_root, "checkpoint root")?,
            sealing,
            trust_domain: core.trust_domain.to_owned(),
            topic: core.topic.to_owned(),
            label: core.label.to_owned(),
        })
    }

    /// The bytes to sign. They are never made a second time for one envelope.
    pub fn encode(&self) -> Bytes {
        let mut addressees = Vec::with_capacity(self.addressees.len() * ADDRESSEE_BYTES);
        for addressee in &self.addressees {
            addressees.put_u32(addressee.party.0);
            addressees.put_u8(match addressee.role {
                Role::To => 1,
                Role::Info => 2,
            });
        }
        let mut attachments = Vec::with_capacity(self.attachments.len() * ATTACHMENT_BYTES);
        for attachment in &self.attachments {
            attachments.put_slice(attachment.ciphertext_hash.as_bytes());
            attachments.put_u64(attachment.bytes);
        }
        let texts = self.trust_domain.len() + self.topic.len() + self.label.len();
        let mut out = Vec::with_capacity(OTHER_BYTES_MAX + texts + addressees.len() + attachments.len());
        put_bytes(1, self.trust_domain.as_bytes(), &mut out);
        put_bytes(2, &self.id.0, &mut out);
        put_number(3, self.sender.0, &mut out);
        put_number(4, self.submission.0, &mut out);
        put_number(5, self.roster_version, &mut out);
        put_bytes(6, self.roster_hash.as_bytes(), &mut out);
        put_bytes(7, &addressees, &mut out);
        put_number(8, code(precedence_code(self.precedence_action)), &mut out);
        put_number(9, code(precedence_code(self.precedence_info)), &mut out);
        put_bytes(10, self.topic.as_bytes(), &mut out);
        put_bytes(11, self.label.as_bytes(), &mut out);
        put_number(12, self.exercise, &mut out);
        put_number(13, self.expires_s, &mut out);
        put_number(14, self.size_bucket, &mut out);
        put_bytes(15, self.commitment.as_ref().map_or(&[], |hash| &hash.0), &mut out);
        put_bytes(16, &attachments, &mut out);
        put_bytes(17, self.supersedes.as_ref().map_or(&[], |id| &id.0), &mut out);
        put_number(18, self.checkpoint_size, &mut out);
        put_bytes(19, self.checkpoint_root.as_bytes(), &mut out);
        put_number(20, code(pb::Sealing::Clear), &mut out);
        out.into()
    }

    /// The precedence towards one role.
    pub fn precedence(&self, role: Role) -> Precedence {
        match role {
            Role::To => self.precedence_action,
            Role::Info => self.precedence_info,
        }
    }
}

/// The fields of a core as they were written: what is missing is zero or empty, and of what comes twice the last counts.
#[derive(Default)]
struct CoreFields<'a> {
    trust_domain: &'a str,
    id: &'a [u8],
    sender: u32,
    submission: u64,
    roster_version: u32,
    roster_hash: &'a [u8],
    addressees: &'a [u8],
    precedence_action: i32,
    precedence_info: i32,
    topic: &'a str,
    label: &'a str,
    exercise: bool,
    expires_s: u64,
    size_bucket: u32,
    commitment: &'a [u8],
    attachments: &'a [u8],
    supersedes: &'a [u8],
    checkpoint_size: u64,
    checkpoint_root: &'a [u8],
    sealing: i32,
}

impl<'a> CoreFields<'a> {
    /// Nothing where the bytes are no message, or a field is not of the contract's type.
    fn of(bytes: &'a [u8]) -> Option<CoreFields<'a>> {
        let mut core = CoreFields::default();
        for field in Fields::of(bytes) {
            let (number, value) = field.ok()?;
            core.take(number, value)?;
        }
        Some(core)
    }

    fn take(&mut self, number: u64, value: Value<'a>) -> Option<()> {
        match (number, value) {
            (1, Value::Bytes(text)) => self.trust_domain = str::from_utf8(text).ok()?,
            (2, Value::Bytes(bytes)) => self.id = bytes,
            (3, Value::Number(number)) => self.sender = low(number),
            (4, Value::Number(number)) => self.submission = number,
            (5, Value::Number(number)) => self.roster_version = low(number),
            (6, Value::Bytes(bytes)) => self.roster_hash = bytes,
            (7, Value::Bytes(bytes)) => self.addressees = bytes,
            (8, Value::Number(number)) => self.precedence_action = low(number).cast_signed(),
            (9, Value::Number(number)) => self.precedence_info = low(number).cast_signed(),
            (10, Value::Bytes(text)) => self.topic = str::from_utf8(text).ok()?,
            (11, Value::Bytes(text)) => self.label = str::from_utf8(text).ok()?,
            (12, Value::Number(number)) => self.exercise = number != 0,
            (13, Value::Number(number)) => self.expires_s = number,
            (14, Value::Number(number)) => self.size_bucket = low(number),
            (15, Value::Bytes(bytes)) => self.commitment = bytes,
            (16, Value::Bytes(bytes)) => self.attachments = bytes,
            (17, Value::Bytes(bytes)) => self.supersedes = bytes,
            (18, Value::Number(number)) => self.checkpoint_size = number,
            (19, Value::Bytes(bytes)) => self.checkpoint_root = bytes,
            (20, Value::Number(number)) => self.sealing = low(number).cast_signed(),
            (1..=20, _) => return None,
            // Of a later version.
            _ => {}
        }
        Some(())
    }
}

/// The low half: how protobuf reads a number that is too large for its field.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("32 bits are left")
}

fn addressees(bytes: &[u8]) -> Result<Vec<Addressee>, Malformed> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(ADDRESSEE_BYTES) {
        return Err(Malformed::new("addressees", "are not 5 bytes each, at least one"));
    }
    if bytes.len() > limits::ADDRESSEES_MAX * ADDRESSEE_BYTES {
        return Err(Malformed::new("addressees", "are more than 128"));
    }
    let mut addressees = Vec::with_capacity(bytes.len() / ADDRESSEE_BYTES);
    for entry in bytes.chunks_exact(ADDRESSEE_BYTES) {
        let party = PartyNumber(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]));
        // At most 128: looking at each of them costs less than a set.
        if addressees.iter().any(|before: &Addressee| before.party == party) {
            return Err(Malformed::new("addressees", "name a party twice"));
        }
        let role = match entry[4] {
            1 => Role::To,
            2 => Role::Info,
            _ => return Err(Malformed::new("addressees", "have an unknown role")),
        };
        addressees.push(Addressee { party, role });
    }
    Ok(addressees)
}

fn attachments(bytes: &[u8]) -> Result<Vec<AttachmentName>, Malformed> {
    if !bytes.len().is_multiple_of(ATTACHMENT_BYTES)
        || bytes.len() > limits::ATTACHMENTS_MAX * ATTACHMENT_BYTES
    {
        return Err(Malformed::new("attachments", "are not 40 bytes each, at most 16"));
    }
    let parse = |entry: &[u8]| {
        let (name, size) = entry.split_at(limits::HASH_BYTES);
        let size = size.try_into().expect("40 bytes less 32 are 8");
        Ok(AttachmentName { ciphertext_hash: hash(name, "attachment")?, bytes: u64::from_be_bytes(size) })
    };
    bytes.chunks_exact(ATTACHMENT_BYTES).map(parse).collect()
}

fn bounded(text: &str, bytes_max: usize, what: &'static str) -> Result<(), Malformed> {
    if text.is_empty() || text.len() > bytes_max {
        return Err(Malformed::new(what, "is empty or too long"));
    }
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !is_plain && text.chars().any(misleads) {
        return Err(Malformed::new(what, "holds control characters or marks of direction"));
    }
    Ok(())
}

fn optional<T>(
    bytes: &[u8],
    parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if bytes.is_empty() { Ok(None) } else { parse(bytes).map(Some) }
}

fn dispatch_id(bytes: &[u8], what: &'static str) -> Result<DispatchId, Malformed> {
    bytes.try_into().map(DispatchId).map_err(|_| Malformed::new(what, "is not 16 bytes"))
}

fn precedence(code: i32, what: &'static str) -> Result<Precedence, Malformed> {
    match pb::Precedence::try_from(code) {
        Ok(pb::Precedence::Routine) => Ok(Precedence::Routine),
        Ok(pb::Precedence::Priority) => Ok(Precedence::Priority),
        Ok(pb::Precedence::Immediate) => Ok(Precedence::Immediate),
        Ok(pb::Precedence::Flash) => Ok(Precedence::Flash),
        Ok(pb::Precedence::Unspecified) | Err(_) => Err(Malformed::new(what, "is missing or unknown")),
    }
}

fn precedence_code(precedence: Precedence) -> pb::Precedence {
    match precedence {
        Precedence::Routine => pb::Precedence::Routine,
        Precedence::Priority => pb::Precedence::Priority,
        Precedence::Immediate => pb::Precedence::Immediate,
        Precedence::Flash => pb::Precedence::Flash,
    }
}

/// What an enumeration is written as.
fn code(variant: impl Into<i32>) -> u32 {
    variant.into().unsigned_abs()
}

pub(super) fn hash(bytes: &[u8], what: &'static str) -> Result<Hash, Malformed> {
    Hash::try_from(bytes).map_err(|_| Malformed::new(what, "is not 32 bytes"))
}
