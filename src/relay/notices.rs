//! What the exchange wants an operator to know: log lines, counts, and alarms.

use std::collections::BTreeMap;

use crate::{
    alarms::{AlarmKind, Alarms},
    exchange::{ClockStanding, Notice},
    journal::JournalError,
    roster::{PartyNumber, Roster},
    session::outbound::Outbound,
    wire::{Position, pb::RefusalCode},
};

/// Takes the exchange's notices. Owned by the engine.
pub(super) struct Notices {
    alarms: Alarms,
    counts: Counts,
    /// What stands of each witness, and of the log's own key under none: one alarm shows the last of them.
    complaints: BTreeMap<Option<PartyNumber>, String>,
}

/// What was counted since the start: plain numbers, because the engine alone counts. The codes are those of
/// the protocol, so there are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) deferred: u64,
    pub(super) deliveries: u64,
    pub(super) stored: u64,
    pub(super) receipts: u64,
    pub(super) expired: u64,
    pub(super) opened: u64,
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) closed: BTreeMap<&'static str, u64>,
}

impl Notices {
    pub(super) fn new(alarms: Alarms) -> Notices {
        Notices { alarms, counts: Counts::default(), complaints: BTreeMap::new() }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts a frame that goes out.
    pub(super) fn sent(&mut self, frame: &Outbound) {
        let counts = &mut self.counts;
        match frame {
            Outbound::Accepted { .. } => counts.accepted += 1,
            Outbound::Deferred { .. } => counts.deferred += 1,
            Outbound::Deliver { .. } => counts.deliveries += 1,
            Outbound::StoredAt { .. } => counts.stored += 1,
            Outbound::Receipt { .. } => counts.receipts += 1,
            Outbound::Expired { .. } => counts.expired += 1,
            Outbound::Welcome(_)
            | Outbound::Checkpoint(_)
            | Outbound::AddCheckpoint(_)
            | Outbound::Fetched { .. }
            | Outbound::Administrative { .. }
            | Outbound::Refused(_)
            | Outbound::Administered { .. }
            | Outbound::Credit(_)
            | Outbound::Ping(_)
            | Outbound::Pong { .. }
            | Outbound::Goodbye { .. } => {}
        }
    }

    pub(super) fn take(&mut self, notice: &Notice, roster: Option<&Roster>) {
        match notice {
            Notice::SessionOpened { conn, party } => {
                self.counts.opened += 1;
                tracing::info!(conn = conn.0, party = party.0, "session open");
            }
            Notice::SessionClosed { conn, party, code, sentence } => {
                *self.counts.closed.entry(code.as_str_name()).or_default() += 1;
                tracing::info!(conn = conn.0, party, code = code.as_str_name(), sentence, "session closed");
            }
            Notice::Refused { party, code, recorded } => {
                let known = RefusalCode::try_from(i32::from(*code)).unwrap_or(RefusalCode::Unspecified);
                *self.counts.refused.entry(known.as_str_name()).or_default() += 1;
                tracing::info!(party = party.0, code, recorded, "submission refused");
            }
            Notice::Cloned { party } => {
                let code = code_of(roster, *party);
                let sentence = format!(
                    "two machines took turns as party {party} ({code}): telephone it, and have its certificate \
                     revoked if it has one machine only"
                );
                self.alarms.raise(AlarmKind::Cloned, sentence);
            }
            Notice::LogBehind { party } => {
                let code = roster.and_then(|roster| roster.party(*party)).map_or("?", |party| &party.code);
                let sentence = format!(
                    "{code} says that this relay has lost what it had accepted, and sends nothing more: if the journal \
                     was restored from a copy, stop this relay; bring its newest journal back, or begin a new log \
                     under a new roster"
                );
                self.alarms.raise(AlarmKind::LogBehind, sentence);
            }
            Notice::Clock { ahead_s, standing } => {
                self.alarms.set(AlarmKind::Clock, clock_words(*ahead_s, *standing))
            }
            Notice::Witnessed
            | Notice::Unwitnessed
            | Notice::Unsigned
            | Notice::WitnessesLost { .. }
            | Notice::WitnessRefused { .. }
            | Notice::WitnessAhead { .. }
            | Notice::WitnessAgrees { .. }
            | Notice::LogKeyDropped
            | Notice::LogKeyListed => self.take_witness(notice, roster),
            Notice::RosterRefused(reason) => {
                let sentence = format!(
                    "the roster file was not taken, the roster in force stays: {reason}: get the roster \
                     that follows it from the ministry, and reload"
                );
                self.alarms.raise(AlarmKind::Roster, sentence);
            }
        }
    }

    /// The journal has room again, or none but for receipts.
    pub(super) fn journal_room(&mut self, has_room: bool) {
        let sentence = "the disk is full or journal_bytes_max is reached, and submissions wait at their desks: give \
                        the journal's disk room; `pouch relay status` shows which mailboxes hold it";
        self.alarms.set(AlarmKind::Journal, (!has_room).then(|| sentence.to_owned()));
    }

    /// Openings and headers were erased through a position, or all but those in an archive that is damaged.
    pub(super) fn erased(&mut self, erased: Result<Position, JournalError>) {
        let sentence = match erased {
            Ok(through) => {
                tracing::info!(through = through.0, "openings and headers erased");
                None
            }
            Err(error) => Some(format!(
                "openings that are past openings_keep_days are not all erased: {error}; mail goes on: the audit log's own \
                 files are whole without it, but they could not be written anew from it"
            )),
        };
        self.alarms.set(AlarmKind::Erasure, sentence);
    }

    /// The disk has room again for the audit log's files, or none.
    pub(super) fn log_room(&mut self, has_room: bool) {
        let sentence = "the disk is full, and no checkpoint of the audit log can be signed; mail goes on for now: give the \
                        relay's folder room, and it goes on by itself. Delete nothing in it";
        self.alarms.set(AlarmKind::LogRoom, (!has_room).then(|| sentence.to_owned()));
    }

    /// A file of the audit log that is needed for a desk cannot be read.
    pub(super) fn log_file(&mut self, error: &crate::tiles::LogError) {
        let sentence = format!(
            "{error}; desks that need it follow the audit log no further, and one that brings an older checkpoint is not let \
             in; mail of all others goes on: stop the relay when it suits, move its folder log/tile away and keep it, and \
             start it again, which writes all tiles anew"
        );
        self.alarms.raise(AlarmKind::LogFile, sentence);
    }

    /// What is about the witnesses of the audit log.
    fn take_witness(&mut self, notice: &Notice, roster: Option<&Roster>) {
        match notice {
            Notice::Unwitnessed => {
                let sentence = "no quorum of witnesses has signed the audit log for ten minutes; mail goes on: see \
                                with `pouch relay status` which desks are away, and telephone them; those of the \
                                roster before a new one count until a checkpoint covers the new one";
                self.alarms.raise(AlarmKind::Unwitnessed, sentence.to_owned());
            }
            Notice::Unsigned => {
                let sentence = "no checkpoint of the audit log could be written for ten minutes; mail goes on until a million \
                                leaves wait: look at the disk of the relay's folders log and log.kept, and at the kernel's \
                                log; stop the relay only to mend the disk, and delete nothing";
                self.alarms.raise(AlarmKind::Unwitnessed, sentence.to_owned());
            }
            Notice::WitnessesLost { left, quorum } => {
                let sentence = format!(
                    "the roster in force leaves {left} of the witnesses whose cosignatures the first checkpoint that covers it \
                     needs, and {quorum} must sign: none can be published, and nothing new is proven; mail goes on: publish a \
                     roster that has them active under their former witness keys, and take them out once a checkpoint covers \
                     it, fewer at a time; if they are gone for good, begin a new log under a new origin"
                );
                self.alarms.raise(AlarmKind::Unwitnessed, sentence);
            }
            Notice::WitnessRefused { party, status: 200 } => {
                let code = code_of(roster, *party);
                let sentence = format!(
                    "a cosignature of party {party} ({code}) does not verify under its witness key in the roster; mail \
                     goes on: ask whether its witness key was replaced, and publish a roster with the one it uses"
                );
                self.complain(Some(*party), sentence);
            }
            Notice::WitnessRefused { party, status } => {
                let code = code_of(roster, *party);
                let sentence = format!(
                    "party {party} ({code}) does not cosign the audit log (status {status}); mail goes on: ask what \
                     alarm its desk shows, and save this relay's folder before anything is changed"
                );
                self.complain(Some(*party), sentence);
            }
            Notice::WitnessAhead { party, size } => {
                let code = code_of(roster, *party);
                let sentence = format!(
                    "party {party} ({code}) says it has cosigned a log of {size} leaves, more than this relay has \
                     signed; mail goes on: save this relay's folder, and compare checkpoints with that desk"
                );
                self.complain(Some(*party), sentence);
            }
            Notice::LogKeyDropped => {
                let sentence = "the roster in force does not list this relay's log key, so no checkpoint is signed before \
                                the next roster; mail goes on: publish one that lists it, as the entry does that `pouch pki \
                                issue` printed for this relay, or stop the relay and give it the log.key that is listed";
                self.complain(None, sentence.to_owned());
            }
            Notice::WitnessAgrees { party } => self.settle(Some(*party)),
            Notice::LogKeyListed => self.settle(None),
            // Also [`Notice::Witnessed`]: there is a quorum again.
            _ => self.alarms.clear(AlarmKind::Unwitnessed),
        }
    }

    fn complain(&mut self, about: Option<PartyNumber>, sentence: String) {
        self.complaints.insert(about, sentence.clone());
        self.alarms.raise(AlarmKind::Witness, sentence);
    }

    fn settle(&mut self, about: Option<PartyNumber>) {
        self.complaints.remove(&about);
        self.alarms.set(AlarmKind::Witness, self.complaints.values().next_back().cloned());
    }

    pub(super) fn roster_in_force(&mut self, roster: &Roster) {
        tracing::info!(version = roster.version(), "roster in force");
        self.alarms.clear(AlarmKind::Roster);
    }
}

fn code_of(roster: Option<&Roster>, party: PartyNumber) -> &str {
    roster.and_then(|roster| roster.party(party)).map_or("?", |party| &party.code)
}

fn clock_words(ahead_s: i64, standing: ClockStanding) -> Option<String> {
    let differs = format!(
        "this machine's clock is {} s {} the log's time",
        ahead_s.unsigned_abs(),
        if ahead_s < 0 { "behind" } else { "ahead of" }
    );
    match standing {
        ClockStanding::Good => None,
        ClockStanding::Off => {
            Some(format!("{differs}, which follows it slowly: check it with `timedatectl`"))
        }
        ClockStanding::InDoubt => Some(format!(
            "{differs}, and nothing expires: set it right with `timedatectl`, then `pouch relay clock accept`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_stands_while_the_journal_has_no_room() {
        let alarms = Alarms::default();
        let mut notices = Notices::new(alarms.clone());
        notices.journal_room(false);
        assert_eq!(alarms.all().iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::Journal]);
        notices.journal_room(true);
        assert!(alarms.all().is_empty());
    }

    /// FAULTS 32 and 51: what the operator sees.
    #[test]
    fn a_clock_is_an_alarm_until_it_is_right_and_two_boxes_of_one_party_are_one_that_stays() {
        let alarms = Alarms::default();
        let mut notices = Notices::new(alarms.clone());
        let all = || alarms.all().into_iter().map(|alarm| (alarm.kind, alarm.sentence)).collect::<Vec<_>>();
        for (ahead_s, standing, words) in [
            (86_400, ClockStanding::Off, "86400 s ahead of the log's time, which follows it slowly"),
            (-86_400, ClockStanding::Off, "86400 s behind the log's time"),
            (315_360_000, ClockStanding::InDoubt, "nothing expires: set it right with `timedatectl`"),
        ] {
            notices.take(&Notice::Clock { ahead_s, standing }, None);
            assert!(matches!(&all()[..], [(AlarmKind::Clock, said)] if said.contains(words)), "{:?}", all());
        }
        notices.take(&Notice::Cloned { party: PartyNumber(3) }, None);
        notices.take(&Notice::Clock { ahead_s: 0, standing: ClockStanding::Good }, None);
        assert!(
            matches!(&all()[..], [(AlarmKind::Cloned, said)] if said.contains("telephone it")),
            "{:?}",
            all()
        );
    }

    #[test]
    fn an_alarm_about_witnesses_stands_until_the_last_of_them_has_cosigned() {
        let alarms = Alarms::default();
        let mut notices = Notices::new(alarms.clone());
        let [one, other] = [PartyNumber(3), PartyNumber(4)];
        notices.take(&Notice::WitnessRefused { party: one, status: 422 }, None);
        notices.take(&Notice::WitnessAhead { party: other, size: 9_000 }, None);
        notices.take(&Notice::LogKeyDropped, None);
        for (notice, left) in [
            (Notice::WitnessAgrees { party: other }, Some("party 3")),
            (Notice::WitnessAgrees { party: one }, Some("log key")),
            (Notice::LogKeyListed, None),
        ] {
            notices.take(&notice, None);
            let stands: Vec<String> = alarms.all().into_iter().map(|alarm| alarm.sentence).collect();
            match left {
                Some(words) => assert!(stands.len() == 1 && stands[0].contains(words), "{stands:?}"),
                None => assert!(stands.is_empty(), "{stands:?}"),
            }
        }
    }
}
