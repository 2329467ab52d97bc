//! What the exchange wants an operator to know: log lines, counts, and alarms.

use crate::{
    alarms::{AlarmKind, Alarms},
    exchange::{ClockStanding, Notice},
    roster::Roster,
};

/// Takes the exchange's notices. Owned by the engine.
pub(super) struct Notices {
    pub(super) alarms: Alarms,
}

impl Notices {
    pub(super) fn new(alarms: Alarms) -> Notices {
        Notices { alarms }
    }

    pub(super) fn take(&mut self, notice: &Notice, roster: Option<&Roster>) {
        match notice {
            Notice::SessionOpened { conn, party } => {
                tracing::info!(conn = conn.0, party = party.0, "session open")
            }
            Notice::SessionClosed { conn, party, code, sentence } => {
                tracing::info!(conn = conn.0, party, code = code.as_str_name(), sentence, "session closed");
            }
            Notice::Refused { party, code, recorded } => {
                tracing::info!(party = party.0, code, recorded, "submission refused");
            }
            Notice::Cloned { party } => {
                let code = roster.and_then(|roster| roster.party(*party)).map_or("?", |party| &party.code);
                let sentence = format!(
                    "two machines took turns as party {party} ({code}): telephone it, and have its certificate \
                     revoked if it has one machine only"
                );
                self.alarms.raise(AlarmKind::Cloned, sentence);
            }
            Notice::Clock { ahead_s, standing } => {
                self.alarms.set(AlarmKind::Clock, clock_words(*ahead_s, *standing))
            }
            Notice::RosterRefused(reason) => {
                let sentence = format!(
                    "the roster file was not taken, the roster in force stays: {reason}: get the roster \
                     that follows it from the ministry, and reload"
                );
                self.alarms.raise(AlarmKind::Roster, sentence);
            }
        }
    }

    pub(super) fn roster_in_force(&mut self, roster: &Roster) {
        tracing::info!(version = roster.version(), "roster in force");
        self.alarms.clear(AlarmKind::Roster);
    }
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
