//! What the exchange wants an operator to know: log lines, counts, and alarms.

use crate::{
    alarms::{AlarmKind, Alarms},
    exchange::Notice,
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
