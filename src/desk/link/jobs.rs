//! What the link asks of the store, and what it gets back. One job is under way at a time, so that
//! whatever arrives meanwhile is gathered into the next.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    desk::store::{
        Delivery, Facts, FetchedTiles, Progress, Proved, ReceivedReceipt, Resend, Resumption, Room,
        SealedSubmit, Store, StoreError, WelcomeFacts,
    },
    keys::SigningKey,
    roster::Roster,
    wire::{Position, order::SignedOrder, pb},
};

/// One visit to the store's thread.
#[derive(Debug, PartialEq)]
pub enum StoreJob {
    /// What Hello says.
    Facts,
    /// Take the incarnation after the one that the relay knows.
    TakeIncarnation(u32),
    /// A verified roster, its note and the position of its leaf.
    LearnRoster {
        /// Of its administrative leaf.
        position: Position,
        /// The roster.
        roster: Arc<Roster>,
        /// The signed note that it came in.
        note: Vec<u8>,
        /// Its administrative leaf.
        leaf: Bytes,
    },
    /// The administrative leaf of a roster that is held already, as from a file.
    LearnRosterLeaf {
        /// Of the leaf.
        position: Position,
        /// Of the roster.
        version: u32,
        /// The leaf.
        leaf: Bytes,
    },
    /// A verified order and the position of its leaf.
    LearnOrder {
        /// Of its administrative leaf.
        position: Position,
        /// As the hub signed it.
        order: Box<SignedOrder>,
    },
    /// An administrative leaf that changes nothing here.
    LearnAdministrative(Position),
    /// Something that a person must see.
    Alarm {
        /// What it is about; a second one replaces the first.
        key: String,
        /// In words, with what to do.
        sentence: String,
        /// Whether the same words again are no news.
        once: bool,
    },
    /// Something does not fit the audit log: a person must see it, and nothing is cosigned before.
    Doubt {
        /// Of the alarm.
        key: String,
        /// In words, with what to do.
        sentence: String,
        /// The checkpoint, or the request to cosign one.
        shown: Bytes,
    },
    /// Whether the relay has put everything new off for long.
    Defers(bool),
    /// What Welcome says; answered by what must be sent again, or by why the session cannot go on.
    Resume(WelcomeFacts),
    /// Envelopes that are durable at the relay.
    Accepted(Vec<pb::Accepted>),
    /// Envelopes that the relay will never accept; its signatures were verified.
    Refused(Vec<pb::Refused>),
    /// Envelopes for this desk.
    Deliver(Vec<Delivery>),
    /// Receipts for this desk, all verified.
    Receipts(Vec<ReceivedReceipt>),
    /// Answers to Stored frames.
    StoredAt(Vec<pb::StoredAt>),
    /// Make the next Stored frame, if a receipt waits.
    MakeStored,
    /// Seal what waits, as far as there is room.
    Seal(Room),
    /// The audit log is followed up to here.
    Follow(Box<Progress>),
    /// A checkpoint of so many leaves was published.
    Published(u64),
    /// No checkpoint that the relay shows covers this leaf, though it is due; or none is overdue any more.
    Uncovered(Option<Position>),
    /// Cut proofs that are owed, by position.
    Prove {
        /// Tiles that were missing before.
        fetched: FetchedTiles,
        /// Those up to here were looked at.
        after: Option<Position>,
    },
}

/// What the store says to a [`StoreJob`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "facts come once a session, and each answer is moved once")]
pub enum StoreAnswer {
    /// To [`StoreJob::Facts`].
    Facts(Facts),
    /// To [`StoreJob::Resume`].
    Resumed(Resend),
    /// To [`StoreJob::Resume`]: the store was restored, and took a new incarnation to begin again with.
    Restored,
    /// To [`StoreJob::Resume`]: the relay has begun a new log, and so does the store.
    NewLog,
    /// To [`StoreJob::Resume`]: the relay has lost what it had accepted.
    RelayBehind,
    /// To [`StoreJob::MakeStored`]: the frame, durable.
    Stored(Option<pb::Stored>),
    /// To [`StoreJob::Seal`].
    Sealed {
        /// The envelopes, durable.
        submits: Vec<SealedSubmit>,
        /// Whether more waits.
        more: bool,
    },
    /// To [`StoreJob::Deliver`]: all are durable.
    Delivered,
    /// To [`StoreJob::Receipts`]: all are durable.
    ReceiptsStored,
    /// To [`StoreJob::Follow`]: it is durable.
    Followed {
        /// Whether it may be cosigned.
        cosigns: bool,
    },
    /// To [`StoreJob::Prove`].
    Proved(Proved),
    /// To all others.
    Done,
}

/// Does one job on the store's thread.
///
/// # Errors
/// [`StoreError`]: the daemon must stop.
pub fn run(
    job: StoreJob,
    store: &mut Store,
    sign: &SigningKey,
    now: Timestamp,
) -> Result<StoreAnswer, StoreError> {
    match job {
        StoreJob::Facts => return Ok(StoreAnswer::Facts(store.facts()?)),
        StoreJob::Resume(facts) => {
            return Ok(match store.welcome(facts, sign, now)? {
                Resumption::GoesOn(resend) => StoreAnswer::Resumed(resend),
                Resumption::Restored => StoreAnswer::Restored,
                Resumption::NewLog => StoreAnswer::NewLog,
                Resumption::RelayBehind => StoreAnswer::RelayBehind,
            });
        }
        StoreJob::MakeStored => return Ok(StoreAnswer::Stored(store.make_stored(sign, now)?)),
        StoreJob::Seal(room) => {
            let submits = store.seal_next(sign, room, now)?;
            return Ok(StoreAnswer::Sealed { submits, more: store.waiting(now)? });
        }
        StoreJob::Deliver(deliveries) => {
            store.deliver(deliveries, now)?;
            return Ok(StoreAnswer::Delivered);
        }
        StoreJob::Receipts(receipts) => {
            store.receipts(receipts, now)?;
            return Ok(StoreAnswer::ReceiptsStored);
        }
        StoreJob::Alarm { key, sentence, once: false } => store.raise_alarm(&key, &sentence, now)?,
        StoreJob::Alarm { key, sentence, once: true } => store.raise_alarm_once(&key, &sentence, now)?,
        StoreJob::Doubt { key, sentence, shown } => store.doubt_log(&key, &sentence, &shown, now)?,
        StoreJob::Defers(defers) => store.relay_defers(defers, now)?,
        StoreJob::Follow(progress) => {
            return Ok(StoreAnswer::Followed { cosigns: store.follow(&progress, now)? });
        }
        StoreJob::Prove { fetched, after } => {
            return Ok(StoreAnswer::Proved(store.prove(&fetched, after, now)?));
        }
        StoreJob::Published(size) => store.published(size, now)?,
        StoreJob::Uncovered(position) => store.uncovered(position, now)?,
        StoreJob::TakeIncarnation(incarnation) => store.set_incarnation(incarnation)?,
        StoreJob::LearnRoster { position, roster, note, leaf } => {
            let version = roster.version();
            store.learn_roster(Some(position), roster, &note)?;
            store.learn_roster_leaf(version, position, &leaf, now)?;
        }
        StoreJob::LearnRosterLeaf { position, version, leaf } => {
            store.learn_roster_leaf(version, position, &leaf, now)?;
        }
        StoreJob::LearnOrder { position, order } => store.learn_order(position, &order)?,
        StoreJob::LearnAdministrative(position) => store.learn_administrative(position)?,
        StoreJob::Accepted(accepted) => store.accepted(accepted, now)?,
        StoreJob::Refused(refused) => {
            refused.into_iter().try_for_each(|refused| store.refused(refused, now))?;
        }
        StoreJob::StoredAt(answers) => {
            answers.into_iter().try_for_each(|stored_at| store.stored_at(&stored_at, now))?;
        }
    }
    Ok(StoreAnswer::Done)
}
