//! From waiting dispatches to sealed envelopes: numbered, signed and durable before a byte is sent.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use rusqlite::params;

use super::{
    Store, StoreError, Tx,
    addressing::{Addressed, Directory, Naming},
    claims, clocks,
    columns::integer,
    draft, logs, orders,
    outbox::{keep_addressed, names},
    streams,
};
use crate::{
    batch::{self, Tag},
    desk::error::DeskError,
    keys::SigningKey,
    limits,
    merkle::Hash,
    roster::{Party, Roster},
    seal::{self, Sealed, Slip},
    wire::{
        DispatchId, Precedence, Role, SubmissionNumber,
        convert::{self, proof_frame},
        envelope::{Addressee, Core, Sealing},
        pb,
    },
};

/// Times that one dispatch is sealed, those that MINIMIZE undid not counted. Reached: it is given back to a person as refused.
const ATTEMPTS_MAX: u32 = 16;

/// What the relay's window still takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Envelopes.
    pub envelopes: u64,
    /// Bytes; the last envelope may go over (FORMATS 4).
    pub bytes: u64,
}

/// An envelope that is sealed and durable, with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedSubmit {
    /// Its submission number.
    pub number: u64,
    /// Its precedence towards TO.
    pub precedence: Precedence,
    /// The frame, the same bytes each time.
    pub submit: pb::Submit,
}

impl Store {
    /// Whether anything waits that could be sealed now: the roster held knows this desk and is new enough, and
    /// MINIMIZE does not hold it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn waiting(&self, now: Timestamp) -> Result<bool, StoreError> {
        let tx = self.read();
        match (tx.roster, tx.own()) {
            (Some(roster), Some(_)) => {
                Ok(logs::waits(&tx)? || !waiting(&tx, roster.version(), 1, now)?.is_empty())
            }
            _ => Ok(false),
        }
    }

    /// Envelopes that are sealed and unanswered, in the order of their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unanswered(&self) -> Result<Vec<SealedSubmit>, StoreError> {
        unanswered(&self.read())
    }

    /// Gives what has to be sent again to a new log first. Then seals what waits, highest precedence first, then oldest first, as far as `room` goes: at most
    /// [`limits::BATCH_ITEMS_MAX`] under one signature, durable when this returns. What cannot be sealed
    /// (expired, an addressee that the roster does not know) becomes refused. Empty without a roster.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn seal_next(
        &mut self,
        sign: &SigningKey,
        room: Room,
        now: Timestamp,
    ) -> Result<Vec<SealedSubmit>, StoreError> {
        self.write(|tx| match (tx.roster, tx.own()) {
            (Some(_), Some(_)) if logs::waits(tx)? => logs::next(tx, sign, room),
            (Some(roster), Some(own)) => Sealer::start(tx, roster, own, now)?.run(sign, room),
            _ => Ok(Vec::new()),
        })
    }
}

fn waiting(tx: &Tx<'_>, roster_version: u32, most: u64, now: Timestamp) -> Result<Vec<i64>, StoreError> {
    let least = match orders::minimized(tx, now)? {
        Some(_) => Precedence::Immediate,
        None => Precedence::Routine,
    };
    let sql = "SELECT seq FROM outbox WHERE state = 0 AND roster_min <= ?1 AND precedence >= ?3 ORDER BY precedence DESC, seq LIMIT ?2";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map(params![roster_version, integer(most), least], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn unanswered(tx: &Tx<'_>) -> Result<Vec<SealedSubmit>, StoreError> {
    let sql = "SELECT number, precedence, frame FROM submissions JOIN outbox ON dispatch = seq
        WHERE submissions.state = 0 ORDER BY number";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut submits = Vec::new();
    while let Some(row) = rows.next()? {
        let frame = Bytes::from(row.get::<_, Vec<u8>>(2)?);
        let submit =
            pb::Submit::decode(frame).map_err(|_| StoreError::Corrupt { what: "a sealed envelope" })?;
        submits.push(SealedSubmit { number: row.get(0)?, precedence: row.get(1)?, submit });
    }
    Ok(submits)
}

/// What is sealed and unanswered, signed by `sign`. What an earlier key of this desk signed is signed again: the
/// headers stay, and with them numbers and names, so that the relay knows what it has accepted.
pub(super) fn resend(tx: &Tx<'_>, sign: &SigningKey) -> Result<Vec<SealedSubmit>, StoreError> {
    let mut submits = unanswered(tx)?;
    let Some(roster) = tx.roster else { return Ok(submits) };
    let (domain, key) = (roster.trust_domain(), sign.public());
    let leaf = |submit: &SealedSubmit| batch::item_leaf(Tag::Envelope, &submit.submit.header);
    let mut verifier = batch::Verifier::new(1);
    let mut by_another: Vec<&mut SealedSubmit> = submits
        .iter_mut()
        .filter(|submit| {
            let proof = convert::proof(submit.submit.proof.as_ref());
            !proof
                .is_ok_and(|proof| verifier.verify(domain, Tag::Envelope, &key, leaf(submit), &proof).is_ok())
        })
        .collect();
    let sql = "UPDATE submissions SET frame = ?2 WHERE number = ?1";
    let mut statement = tx.db.prepare_cached(sql)?;
    for batch in by_another.chunks_mut(limits::BATCH_ITEMS_MAX) {
        let leaves: Vec<Hash> = batch.iter().map(|submit| leaf(submit)).collect();
        for (submit, proof) in batch.iter_mut().zip(sign.sign_batch(domain, Tag::Envelope, &leaves)) {
            submit.submit.proof = Some(proof_frame(&proof));
            statement.execute(params![integer(submit.number), submit.submit.encode_to_vec()])?;
        }
    }
    Ok(submits)
}

/// A dispatch of the outbox, ready to be sealed.
struct Waiting {
    seq: i64,
    id: DispatchId,
    wire_id: DispatchId,
    precedence: Precedence,
    attempts: u32,
    topic: String,
    label: String,
    expires_s: u64,
    reference: String,
    dtg: String,
    /// Without sender and addressees.
    draft: pb::Draft,
    info_precedence: Precedence,
    names: Vec<(String, Naming)>,
}

/// A sealed envelope of the batch under way.
struct Batched {
    seq: i64,
    number: SubmissionNumber,
    precedence: Precedence,
    sealed: Sealed,
}

/// Seals one batch inside one transaction.
struct Sealer<'a> {
    tx: &'a Tx<'a>,
    directory: Directory<'a>,
    now: Timestamp,
    epoch: u32,
    last: SubmissionNumber,
    /// Size and root of the newest verified checkpoint.
    checkpoint: (u64, Hash),
}

impl<'a> Sealer<'a> {
    fn start(tx: &'a Tx<'a>, roster: &'a Roster, own: &'a Party, now: Timestamp) -> Result<Self, StoreError> {
        let sql = "SELECT incarnation, last_submission FROM desk";
        let (epoch, last) = tx.db.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let directory = Directory::open(tx, roster, own, now)?;
        Ok(Sealer { tx, directory, now, epoch, last, checkpoint: claims::own(tx)? })
    }

    fn run(mut self, sign: &SigningKey, room: Room) -> Result<Vec<SealedSubmit>, StoreError> {
        let most = room.envelopes.min(limits::BATCH_ITEMS_MAX as u64);
        let mut bytes_left = room.bytes;
        let mut batch = Vec::new();
        for seq in waiting(self.tx, self.directory.roster.version(), most, self.now)? {
            if bytes_left == 0 {
                break;
            }
            let dispatch = load(self.tx, seq)?;
            match self.addressed(&dispatch) {
                Ok(addressed) => {
                    let batched = self.seal(dispatch, &addressed)?;
                    bytes_left = bytes_left.saturating_sub(batched.sealed.bytes() as u64);
                    batch.push(batched);
                }
                Err((code, sentence)) => give_back(self.tx, seq, &code, &sentence)?,
            }
        }
        self.finish(sign, batch)
    }

    /// Whom it goes to by the roster in force; or code and sentence of why it cannot go.
    fn addressed(&self, dispatch: &Waiting) -> Result<Addressed<'a>, (String, String)> {
        let refusal = |code: &str, sentence: &str| Err((code.to_owned(), sentence.to_owned()));
        if i64::try_from(dispatch.expires_s).is_ok_and(|expires_s| expires_s <= self.now.as_second()) {
            return refusal(
                "EXPIRY",
                "it expired before it could be sent; send it again if it still matters",
            );
        }
        if dispatch.attempts >= ATTEMPTS_MAX {
            return refusal(
                "ATTEMPTS",
                "the relay refused it 16 times; look at `pouch status` and send it again",
            );
        }
        let by_roster = || {
            let addressed = self.directory.address(&dispatch.names)?;
            draft::permitted(&self.directory, &addressed, &dispatch.topic, &dispatch.label)?;
            Ok(addressed)
        };
        by_roster()
            .map_err(|error: DeskError| (error.code().to_uppercase().replace('-', "_"), error.to_string()))
    }

    fn seal(&mut self, dispatch: Waiting, addressed: &Addressed<'_>) -> Result<Batched, StoreError> {
        self.last = SubmissionNumber(self.last.0 + 1);
        let (number, core) = (self.last, self.core(&dispatch, addressed));
        let slips = core
            .addressees
            .iter()
            .map(|addressee| {
                streams::next(self.tx, addressee.party, core.precedence(addressee.role), self.epoch)
            })
            .collect::<Result<Vec<Slip>, _>>()?;
        let sealed = seal::seal(&core, self.compose(&dispatch, addressed), &slips);
        keep_addressed(self.tx, dispatch.seq, addressed)?;
        for (addressee, slip) in core.addressees.iter().zip(&slips) {
            let precedence = core.precedence(addressee.role);
            streams::sent(self.tx, addressee.party, precedence, slip, number, sealed.hash())?;
        }
        Ok(Batched { seq: dispatch.seq, number, precedence: dispatch.precedence, sealed })
    }

    fn compose(&self, dispatch: &Waiting, addressed: &Addressed<'_>) -> Bytes {
        let numbers = |role: Role| {
            let of_role = addressed.addressees.iter().filter(|(_, its_role)| *its_role == role);
            of_role.map(|(party, _)| party.number.0).collect()
        };
        let mut draft = dispatch.draft.clone();
        draft.to = numbers(Role::To);
        draft.info = numbers(Role::Info);
        draft.exempt = addressed.exempt.iter().map(|party| party.0).collect();
        if let Some(from) = &mut draft.from {
            from.party = self.directory.own.number.0;
        }
        seal::compose(&draft, &dispatch.reference, &dispatch.dtg)
    }

    fn core(&self, dispatch: &Waiting, addressed: &Addressed<'_>) -> Core {
        let addressee = |(party, role): &(&Party, Role)| Addressee { party: party.number, role: *role };
        Core {
            trust_domain: self.directory.roster.trust_domain().to_owned(),
            id: dispatch.wire_id,
            sender: self.directory.own.number,
            submission: self.last,
            roster_version: self.directory.roster.version(),
            roster_hash: self.directory.roster.hash(),
            addressees: addressed.addressees.iter().map(addressee).collect(),
            precedence_action: dispatch.precedence,
            precedence_info: dispatch.info_precedence,
            topic: dispatch.topic.clone(),
            label: draft::label(self.directory.roster, &dispatch.label).to_owned(),
            exercise: dispatch.draft.exercise,
            expires_s: dispatch.expires_s,
            size_bucket: 0,
            commitment: None,
            attachments: Vec::new(),
            supersedes: (dispatch.wire_id != dispatch.id).then_some(dispatch.id),
            checkpoint_size: self.checkpoint.0,
            checkpoint_root: self.checkpoint.1,
            sealing: Sealing::Clear,
        }
    }

    fn finish(self, sign: &SigningKey, batch: Vec<Batched>) -> Result<Vec<SealedSubmit>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let leaves: Vec<Hash> = batch.iter().map(|batched| batched.sealed.hash().0).collect();
        let proofs = sign.sign_batch(self.directory.roster.trust_domain(), Tag::Envelope, &leaves);
        let mut submits = Vec::with_capacity(batch.len());
        for (batched, proof) in batch.into_iter().zip(&proofs) {
            let Batched { seq, number, precedence, sealed } = batched;
            let hash = sealed.hash();
            let submit = sealed.submit(proof);
            let sql = "INSERT INTO submissions (number, dispatch, state, roster_version, hash, frame)
                VALUES (?1, ?2, 0, ?3, ?4, ?5)";
            let (roster, frame) = (self.directory.roster.version(), submit.encode_to_vec());
            self.tx.db.prepare_cached(sql)?.execute(params![number, seq, roster, hash, frame])?;
            let sql = "UPDATE outbox SET state = 1, hash = ?2, attempts = attempts + 1 WHERE seq = ?1";
            self.tx.db.prepare_cached(sql)?.execute(params![seq, hash])?;
            submits.push(SealedSubmit { number: number.0, precedence, submit });
        }
        let sql = "UPDATE desk SET last_submission = ?1";
        self.tx.db.prepare_cached(sql)?.execute([self.last])?;
        Ok(submits)
    }
}

fn load(tx: &Tx<'_>, seq: i64) -> Result<Waiting, StoreError> {
    let sql =
        "SELECT id, wire_id, precedence, attempts, topic, label, expires_s, reference, dtg, kind, exercise,
        acknowledgement, answer_due_s, language, office, person, in_reply_to, salt, subject, body,
        info_precedence, acknowledgement_due_s FROM outbox WHERE seq = ?1";
    let waiting = tx.db.prepare_cached(sql)?.query_row([seq], |row| {
        let in_reply_to: Option<Vec<u8>> = row.get(16)?;
        let draft = pb::Draft {
            r#type: row.get(9)?,
            exercise: row.get(10)?,
            acknowledgement_required: row.get(11)?,
            acknowledgement_due_s: row.get(21)?,
            answer_due_s: row.get(12)?,
            language: row.get(13)?,
            from: Some(pb::Originator { party: 0, office: row.get(14)?, person: row.get(15)? }),
            in_reply_to: in_reply_to.unwrap_or_default().into(),
            salt: row.get::<_, Vec<u8>>(17)?.into(),
            subject: row.get(18)?,
            body: row.get(19)?,
            ..pb::Draft::default()
        };
        Ok(Waiting {
            seq,
            id: row.get(0)?,
            wire_id: row.get(1)?,
            precedence: row.get(2)?,
            attempts: row.get(3)?,
            topic: row.get(4)?,
            label: row.get(5)?,
            expires_s: row.get(6)?,
            reference: row.get(7)?,
            dtg: row.get(8)?,
            draft,
            info_precedence: row.get(20)?,
            names: Vec::new(),
        })
    })?;
    Ok(Waiting { names: names(tx, seq)?, ..waiting })
}

/// Ends a dispatch's way out: a person has to decide.
pub(super) fn give_back(tx: &Tx<'_>, seq: i64, code: &str, sentence: &str) -> Result<(), StoreError> {
    let sql = "UPDATE outbox SET state = 3, refusal_code = ?2, refusal = ?3 WHERE seq = ?1";
    tx.db.prepare_cached(sql)?.execute(params![seq, code, sentence])?;
    clocks::given_back(tx, seq)
}
