//! What the relay says to what was sealed: Welcome, Accepted, Refused.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, alarms, clocks,
    columns::{integer, micros},
    evidence, logs,
    naming::new_id,
    orders, owing, raise_incarnation, receipts,
    sealing::{self, SealedSubmit, give_back},
    streams,
};
use crate::{
    keys::SigningKey,
    roster::Roster,
    wire::{EnvelopeHash, Position, SubmissionNumber, pb},
};

/// Highest number that the relay is believed to have seen: far above any that was used, and far enough from
/// the end of 63 bits that a lie leaves numbers to go on with.
const NUMBER_MAX: u64 = 1 << 62;

/// Key of the alarm that the relay has lost something.
const RELAY_BEHIND: &str = "relay-behind";

/// A roster version that no desk holds: what waits for it waits until [`release`].
const ROSTER_OF_RELAY: u32 = u32::MAX;

/// What Welcome says of this desk and of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WelcomeFacts {
    /// Last submission number that the relay has spent.
    pub last_accepted: u64,
    /// Last Stored number in the log.
    pub last_stored: u64,
    /// This desk's incarnation as the log has it.
    pub incarnation_known: u32,
    /// Whether the store took this incarnation just now: then that the relay is ahead is no news.
    pub is_new_incarnation: bool,
    /// The relay's roster version, where its roster is not this desk's.
    pub other_roster: Option<u32>,
    /// By how many seconds this machine's clock and the relay's differ, where it matters.
    pub clock_off_s: Option<u64>,
}

/// What follows from a Welcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Resumption {
    /// The session goes on, and this is sent again.
    GoesOn(Resend),
    /// The store was restored, and took the next incarnation to begin again with: streams begin anew, and
    /// nothing collides with what the lost store sent.
    Restored,
    /// The roster names another log than before: the session begins again by what is known of the new one.
    NewLog,
    /// The relay has lost what it had accepted. Under the same log nothing may go on: positions would be given
    /// twice, and a fork would grow.
    RelayBehind,
}

/// What a desk sends again when a session has opened, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resend {
    /// Receipts signed and unanswered, in the order of their numbers.
    pub stored: Vec<pb::Stored>,
    /// Sealed and unanswered, in the order of their numbers.
    pub submits: Vec<SealedSubmit>,
}

impl Store {
    /// Compares what the relay knows of this desk with the store. A relay that is ahead means that the store was
    /// restored, one that is behind that the relay was; either raises an alarm. Numbers that the relay has spent are
    /// never used again. What an earlier key of this desk signed is signed again under `sign`: its numbers and
    /// names stay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn welcome(
        &mut self,
        facts: WelcomeFacts,
        sign: &SigningKey,
        now: Timestamp,
    ) -> Result<Resumption, StoreError> {
        self.write(|tx| {
            if logs::is_new(tx)? {
                logs::begin(tx, facts.last_accepted, now)?;
                return Ok(Resumption::NewLog);
            }
            hold_alarms(tx, &facts, now)?;
            if facts.last_accepted.max(facts.last_stored) > NUMBER_MAX {
                let sentence = "the relay names numbers that no desk can have used; mail goes on; save this desk's folder, and \
                    tell the ministry to check the relay";
                alarms::raise(tx, now, "relay-numbers", sentence)?;
                return resend(tx, sign).map(Resumption::GoesOn);
            }
            if relay_is_behind(tx, &facts)? {
                let sentence = "the relay has lost dispatches or receipts that it had accepted: no mail goes out or \
                    comes in here until it is mended; save this desk's folder, and telephone the ministry: the relay must get its newest journal \
                    back, or begin a new log under a new roster";
                alarms::hold(tx, now, RELAY_BEHIND, Some(sentence))?;
                return Ok(Resumption::RelayBehind);
            }
            alarms::hold(tx, now, RELAY_BEHIND, None)?;
            let is_restored = store_is_behind(tx, &facts)?;
            if is_restored {
                let sentence = "the relay knows dispatches or receipts of this desk that its store does not: the \
                    store was restored from a backup or replaced; mail goes on; save the copy that it was restored from, and telephone the ministry to compare registers";
                alarms::raise(tx, now, "store-restored", sentence)?;
            }
            release(tx)?;
            let begins_again = is_restored && !facts.is_new_incarnation;
            if begins_again {
                raise_incarnation(tx, facts.incarnation_known.saturating_add(1))?;
            }
            // Numbers of frames that were taken back are free again where the relay never saw them.
            let sql = "UPDATE desk SET last_submission = max(last_submission, ?1),
                last_stored = max(?2, (SELECT coalesce(max(number), 0) FROM stored))";
            tx.db.execute(sql, params![integer(facts.last_accepted), integer(facts.last_stored)])?;
            if begins_again { Ok(Resumption::Restored) } else { resend(tx, sign).map(Resumption::GoesOn) }
        })
    }

    /// Notes what the relay has accepted. A repetition changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn accepted(&mut self, accepted: Vec<pb::Accepted>, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| accepted.iter().try_for_each(|accepted| accept(tx, accepted, now)))
    }

    /// Notes a refusal. Where another seal can mend it (the roster, the number), the dispatch waits again;
    /// any other refusal is for a person. Its stream numbers are given up either way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn refused(&mut self, refused: pb::Refused, now: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| refuse(tx, &refused, now))
    }
}

/// Alarms that a Welcome raises or ends.
fn hold_alarms(tx: &Tx<'_>, facts: &WelcomeFacts, now: Timestamp) -> Result<(), StoreError> {
    let own = tx.roster.map_or(0, Roster::version);
    let roster = facts.other_roster.map(|version| {
        format!(
            "the relay holds roster {version} and did not prove it, this desk keeps its own, {own}; mail goes on; \
             nothing need be saved; tell the ministry"
        )
    });
    alarms::hold(tx, now, "relay-roster", roster.as_deref())?;
    let clock = facts.clock_off_s.map(|seconds| {
        format!(
            "this machine's clock and the relay's differ by {seconds} s; mail goes on; nothing need be saved; check this one with \
             `timedatectl`, and where it is right, tell the ministry"
        )
    });
    alarms::hold(tx, now, "relay-clock", clock.as_deref())?;
    // A session begins with nothing put off.
    alarms::hold(tx, now, alarms::RELAY_DEFERS, None)
}

fn resend(tx: &Tx<'_>, sign: &SigningKey) -> Result<Resend, StoreError> {
    Ok(Resend { stored: receipts::resend(tx, sign)?, submits: sealing::resend(tx, sign)? })
}

fn store_is_behind(tx: &Tx<'_>, facts: &WelcomeFacts) -> Result<bool, StoreError> {
    let sql = "SELECT last_submission, last_stored, incarnation FROM desk";
    let behind = tx.db.query_row(sql, [], |row| {
        Ok(facts.last_accepted > row.get(0)?
            || facts.last_stored > row.get(1)?
            || facts.incarnation_known > row.get(2)?)
    })?;
    Ok(behind)
}

fn relay_is_behind(tx: &Tx<'_>, facts: &WelcomeFacts) -> Result<bool, StoreError> {
    let sql = "SELECT max(number) FROM submissions WHERE state = 1 AND number > (SELECT log_floor FROM desk)";
    let accepted: Option<u64> = tx.db.query_row(sql, [], |row| row.get(0))?;
    let sql = "SELECT max(number) FROM stored WHERE position IS NOT NULL";
    let stored: Option<u64> = tx.db.query_row(sql, [], |row| row.get(0))?;
    Ok(accepted > Some(facts.last_accepted) || stored > Some(facts.last_stored))
}

/// Whether the relay has answered a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Accepted,
    Refused,
}

/// A submission as Accepted and Refused name it.
struct Submission {
    dispatch: i64,
    answer: Answer,
    roster_version: u32,
    hash: EnvelopeHash,
}

fn submission(tx: &Tx<'_>, number: SubmissionNumber) -> Result<Option<Submission>, StoreError> {
    let sql = "SELECT dispatch, state, roster_version, hash FROM submissions WHERE number = ?1";
    let found = tx.db.prepare_cached(sql)?.query_row([number], |row| {
        let answer = match row.get(1)? {
            1 => Answer::Accepted,
            2 => Answer::Refused,
            _ => Answer::None,
        };
        Ok(Submission { dispatch: row.get(0)?, answer, roster_version: row.get(2)?, hash: row.get(3)? })
    });
    Ok(found.optional()?)
}

fn accept(tx: &Tx<'_>, accepted: &pb::Accepted, now: Timestamp) -> Result<(), StoreError> {
    let number = SubmissionNumber(accepted.submission);
    let Some(known) = submission(tx, number)? else {
        return contradiction(tx, number, "accepted a submission that this desk never made", now);
    };
    if known.hash.0.as_bytes()[..] != accepted.envelope_hash {
        return contradiction(tx, number, "accepted another envelope under this desk's number", now);
    }
    match known.answer {
        Answer::None => {}
        Answer::Accepted => return Ok(()),
        Answer::Refused => return contradiction(tx, number, "accepted what it had refused", now),
    }
    let (position, salt, opening) = (Position(accepted.position), &accepted.salt[..], &accepted.opening[..]);
    let sql = "UPDATE submissions SET state = 1, position = ?2, salt = ?3, opening = ?4 WHERE number = ?1";
    tx.db.prepare_cached(sql)?.execute(params![number, position, salt, opening])?;
    let sql = "UPDATE outbox SET state = 2, position = ?2, accepted_at = ?3, hash = ?4 WHERE seq = ?1";
    tx.db.prepare_cached(sql)?.execute(params![known.dispatch, position, micros(now), known.hash])?;
    owing::owe(tx, position, owing::leaf_of(salt, opening), now)?;
    clocks::accepted(tx.db, known.dispatch, micros(now))
}

fn refuse(tx: &Tx<'_>, refused: &pb::Refused, now: Timestamp) -> Result<(), StoreError> {
    let number = SubmissionNumber(refused.submission);
    let Some(known) = submission(tx, number)? else {
        return contradiction(tx, number, "refused a submission that this desk never made", now);
    };
    let named = &refused.envelope_hash;
    if known.answer == Answer::Refused || (!named.is_empty() && known.hash.0.as_bytes()[..] != named[..]) {
        return Ok(());
    }
    if known.answer == Answer::Accepted {
        contradiction(tx, number, "refused what it had accepted", now)?;
    }
    tx.db.prepare_cached("UPDATE submissions SET state = 2 WHERE number = ?1")?.execute([number])?;
    if refused.recorded {
        evidence::keep_refusal(tx, number, refused, now)?;
    }
    if logs::is_settled(tx, known.dispatch)? {
        return taken(tx, &known, now);
    }
    streams::void(tx, number)?;
    let is_newer = tx.roster.is_some_and(|roster| roster.version() > known.roster_version);
    match mend(refused.code) {
        Mend::NewerRoster => wait_again(tx, &known, known.roster_version + 1),
        Mend::RelaysRoster if is_newer => wait_again(tx, &known, 0),
        Mend::RelaysRoster => wait_again(tx, &known, ROSTER_OF_RELAY),
        Mend::EndOfMinimize => {
            orders::refused_for_minimize(tx, known.dispatch, now)?;
            wait_again(tx, &known, 0)
        }
        Mend::NewNumber => wait_again(tx, &known, 0),
        Mend::Person(code) => give_back(tx, known.dispatch, code, &refused.sentence),
    }
}

/// Every addressee has answered, so the relay had taken it: its own answer was lost, and with it what proves that.
fn taken(tx: &Tx<'_>, known: &Submission, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE outbox SET state = 2, accepted_at = ?2 WHERE seq = ?1 AND state = 1";
    match tx.db.prepare_cached(sql)?.execute(params![known.dispatch, micros(now)])? {
        0 => Ok(()),
        _ => clocks::accepted(tx.db, known.dispatch, micros(now)),
    }
}

/// What brings a refused dispatch further.
enum Mend {
    /// Sealed again once a newer roster is held.
    NewerRoster,
    /// Sealed again once the log has something new about rosters, or a new session opens.
    RelaysRoster,
    /// Sealed again when the order that holds it back has ended.
    EndOfMinimize,
    /// Sealed again at once, under a new number.
    NewNumber,
    /// A person, who is told the code.
    Person(&'static str),
}

fn mend(code: u32) -> Mend {
    let code = i32::try_from(code).ok().and_then(|code| pb::RefusalCode::try_from(code).ok());
    let code = code.unwrap_or(pb::RefusalCode::Unspecified);
    match code {
        pb::RefusalCode::RosterStale => Mend::NewerRoster,
        pb::RefusalCode::RosterUnknown => Mend::RelaysRoster,
        pb::RefusalCode::Minimize => Mend::EndOfMinimize,
        // A session is open, so the key is the roster's: the envelope was signed before that one was.
        pb::RefusalCode::BadSignature => Mend::NewNumber,
        pb::RefusalCode::NumberReused | pb::RefusalCode::OldNumber => Mend::NewNumber,
        pb::RefusalCode::Unspecified
        | pb::RefusalCode::Malformed
        | pb::RefusalCode::SenderMismatch
        | pb::RefusalCode::UnknownAddressee
        | pb::RefusalCode::Topic
        | pb::RefusalCode::Label
        | pb::RefusalCode::Expiry
        | pb::RefusalCode::Suspended
        | pb::RefusalCode::MailboxFull
        | pb::RefusalCode::TrustDomain
        | pb::RefusalCode::Quota => Mend::Person(code.as_str_name().trim_start_matches("REFUSAL_CODE_")),
    }
}

/// Lets go what waited for the relay to have this desk's roster. Where it has not, that is answered again, at
/// most as often as one dispatch is sealed.
pub(super) fn release(tx: &Tx<'_>) -> Result<(), StoreError> {
    let sql = "UPDATE outbox SET roster_min = 0 WHERE state = 0 AND roster_min = ?1";
    tx.db.prepare_cached(sql)?.execute([ROSTER_OF_RELAY])?;
    Ok(())
}

/// Puts a dispatch back among those that wait, until a roster of at least that version is held. It keeps its
/// id until it was accepted once; after that a new id names the first one as superseded.
fn wait_again(tx: &Tx<'_>, known: &Submission, roster_min: u32) -> Result<(), StoreError> {
    let accepted = known.answer == Answer::Accepted;
    let sql = "UPDATE outbox SET state = 0, roster_min = ?2, wire_id = iif(?3, ?4, wire_id) WHERE seq = ?1";
    tx.db.prepare_cached(sql)?.execute(params![known.dispatch, roster_min, accepted, new_id()])?;
    Ok(())
}

/// The relay says what cannot be: nothing changes, and a person hears of it.
fn contradiction(
    tx: &Tx<'_>,
    number: SubmissionNumber,
    what: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sentence = format!(
        "submission {}: the relay {what}; other mail goes on; save this desk's folder, and tell the ministry \
         to check the relay",
        number.0
    );
    alarms::raise(tx, now, &format!("relay-answer-{}", number.0), &sentence)
}
