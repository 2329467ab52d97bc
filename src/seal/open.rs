//! Opening: from a ciphertext and a wrap to a dispatch that is what its core says.

use bytes::Bytes;
use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};

use super::Slip;
use crate::{
    limits,
    line::is_line,
    merkle,
    wire::{
        Malformed, Role,
        envelope::{Core, Sealing},
        pb,
        receipt::SetAsideReason,
    },
};

/// Bytes of a body (FORMATS 6: what a bucket holds beside the rest of a draft).
pub const BODY_BYTES_MAX: usize = 200 * 1024;
/// Bytes of a subject (`proto/pouch/v1/dispatch.proto`, as the next ones).
pub const SUBJECT_BYTES_MAX: usize = 200;
/// Bytes of an office or a person.
pub const ORIGINATOR_BYTES_MAX: usize = 100;
/// Bytes of a language tag.
pub const LANGUAGE_BYTES_MAX: usize = 35;
/// Bytes of a reference.
pub const REFERENCE_BYTES_MAX: usize = 64;
const DTG_BYTES_MAX: usize = 32;
const MATTER_BYTES_MAX: usize = 100;
const REFERENCES_MAX: usize = 16;
const ATTACHMENT_NAME_BYTES_MAX: usize = 200;
/// Fields of a draft: the single ones with room for more, and every list at its bound. A draft of more is
/// refused before any is parsed, because a list's element takes a hundred bytes in memory and two on the wire.
const DRAFT_FIELDS_MAX: usize = 64 + REFERENCES_MAX + limits::ATTACHMENTS_MAX + 3 * limits::ADDRESSEES_MAX;
const ID_BYTES: usize = 16;
const SALT_BYTES: usize = 32;

/// What an envelope holds for this desk. The slip counts even where the dispatch does not open.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Where the wrap could be read.
    pub slip: Option<Slip>,
    /// The dispatch, or why it must be set aside.
    pub dispatch: Result<OpenedDispatch, SetAsideReason>,
}

/// A dispatch whose release names its draft. From [`open`], it fits its core too and keeps every bound.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedDispatch {
    bytes: Bytes,
    draft: pb::Draft,
    release: pb::Release,
}

impl OpenedDispatch {
    /// Reads a dispatch that this desk keeps; what comes from a peer goes through [`open`].
    ///
    /// # Errors
    /// [`Malformed`] names the part that cannot be read.
    pub fn decode(bytes: &Bytes) -> Result<OpenedDispatch, Malformed> {
        let unreadable = |what| move |_| Malformed { what, problem: "is not protobuf" };
        let dispatch = pb::Dispatch::decode(bytes.clone()).map_err(unreadable("dispatch"))?;
        let release = pb::Release::decode(dispatch.release.clone()).map_err(unreadable("release"))?;
        let signed = merkle::sha256_parts(&[&dispatch.draft, &dispatch.draft_signature]);
        if release.draft_hash != signed.as_bytes()[..] {
            return Err(Malformed { what: "release", problem: "names another draft" });
        }
        if !has_at_most(&dispatch.draft, DRAFT_FIELDS_MAX) {
            return Err(Malformed { what: "draft", problem: "is not protobuf, or has too many fields" });
        }
        let draft = pb::Draft::decode(dispatch.draft).map_err(unreadable("draft"))?;
        Ok(OpenedDispatch { bytes: bytes.clone(), draft, release })
    }

    /// As sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What a person wrote.
    pub fn draft(&self) -> &pb::Draft {
        &self.draft
    }

    /// What another person released.
    pub fn release(&self) -> &pb::Release {
        &self.release
    }
}

/// Opens an envelope whose signature and wrap path the caller has verified. A failure is part of the
/// result: the envelope is then set aside, never dropped.
pub fn open(core: &Core, ciphertext: &Bytes, wrap: &[u8]) -> Opened {
    let slip = Slip::decode(wrap).ok();
    let dispatch = match (&slip, core.sealing) {
        (None, _) => Err(SetAsideReason::Malformed),
        (Some(_), Sealing::Clear) => open_clear(core, ciphertext),
    };
    Opened { slip, dispatch }
}

fn open_clear(core: &Core, ciphertext: &Bytes) -> Result<OpenedDispatch, SetAsideReason> {
    let opened = OpenedDispatch::decode(ciphertext).map_err(|_| SetAsideReason::Unopened)?;
    let fits = ciphertext.len() <= limits::DISPATCH_BYTES_MAX
        && core.commitment.is_none()
        && core.size_bucket == 0
        && fits_core(&opened.draft, core)
        && within_bounds(&opened);
    if fits { Ok(opened) } else { Err(SetAsideReason::Unopened) }
}

/// Sender, addressees, exercise and attachments inside are those outside: nobody re-addresses a dispatch.
fn fits_core(draft: &pb::Draft, core: &Core) -> bool {
    let role = |role: Role| core.addressees.iter().filter(move |a| a.role == role).map(|a| a.party.0);
    let attachments = core.attachments.iter().map(|attachment| &attachment.ciphertext_hash.as_bytes()[..]);
    draft.from.as_ref().is_some_and(|from| from.party == core.sender.0)
        && role(Role::To).eq(draft.to.iter().copied())
        && role(Role::Info).eq(draft.info.iter().copied())
        && draft.exercise == core.exercise
        && attachments.eq(draft.attachments.iter().map(|attachment| &*attachment.hash))
}

fn within_bounds(opened: &OpenedDispatch) -> bool {
    let OpenedDispatch { draft, release, .. } = opened;
    let originator = draft.from.as_ref().is_some_and(|from| {
        is_line(&from.office, ORIGINATOR_BYTES_MAX) && is_line(&from.person, ORIGINATOR_BYTES_MAX)
    });
    originator
        && draft.r#type() != pb::DispatchType::Unspecified
        && !draft.subject.is_empty()
        && is_line(&draft.subject, SUBJECT_BYTES_MAX)
        && draft.body.len() <= BODY_BYTES_MAX
        && is_line(&draft.language, LANGUAGE_BYTES_MAX)
        && is_line(&draft.matter, MATTER_BYTES_MAX)
        && draft.exempt.len() <= limits::ADDRESSEES_MAX
        && (draft.in_reply_to.is_empty() || draft.in_reply_to.len() == ID_BYTES)
        && draft.references.len() <= REFERENCES_MAX
        && draft.references.iter().all(|id| id.len() == ID_BYTES)
        && draft.attachments.iter().all(|file| is_line(&file.name, ATTACHMENT_NAME_BYTES_MAX))
        && draft.salt.len() == SALT_BYTES
        && is_line(&release.reference, REFERENCE_BYTES_MAX)
        && is_line(&release.dtg, DTG_BYTES_MAX)
}

/// Whether bytes are protobuf of at most so many fields, whatever they are.
fn has_at_most(mut bytes: &[u8], fields_max: usize) -> bool {
    let mut fields = 0;
    while !bytes.is_empty() {
        let skipped = decode_key(&mut bytes)
            .and_then(|(tag, wire_type)| skip_field(wire_type, tag, &mut bytes, DecodeContext::default()));
        fields += 1;
        if skipped.is_err() || fields > fields_max {
            return false;
        }
    }
    true
}
