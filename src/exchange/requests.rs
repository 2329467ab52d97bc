//! What the hub asks for through its session: a roster to be put in force, an order. Each is answered once.

use std::time::Duration;

use bytes::Bytes;

use super::{ConnId, Exchange, Now};
use crate::{
    batch::PublicKey,
    identity::Kind,
    limits,
    roster::Roster,
    session::outbound::Outbound,
    wire::{
        Position,
        order::SignedOrder,
        pb::{self, AdministeredCode, GoodbyeCode},
    },
};

/// Whom to tell what became of an act.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    conn: ConnId,
    request: u64,
}

/// A roster note on its way in, chunk by chunk.
#[derive(Debug)]
pub(super) struct Publication {
    request: u64,
    total_bytes: usize,
    note: Vec<u8>,
    /// The last chunk must have come by then.
    pub(super) until: Duration,
}

impl Publication {
    fn begin(chunk: &pb::Publish, until: Duration) -> Result<Publication, &'static str> {
        let total_bytes = usize::try_from(chunk.total_bytes).unwrap_or(usize::MAX);
        if !(1..=limits::ROSTER_BYTES_MAX).contains(&total_bytes) {
            return Err("a roster is 1 byte to 4 MiB long");
        }
        Ok(Publication { request: chunk.request, total_bytes, note: Vec::new(), until })
    }

    fn take(&mut self, chunk: &pb::Publish) -> Result<(), &'static str> {
        let follows = chunk.request == self.request
            && usize::try_from(chunk.total_bytes) == Ok(self.total_bytes)
            && usize::try_from(chunk.offset) == Ok(self.note.len());
        let fits = !chunk.chunk.is_empty() && chunk.chunk.len() <= self.total_bytes - self.note.len();
        if !follows || !fits {
            return Err("a chunk of a roster that does not continue the one before");
        }
        self.note.extend_from_slice(&chunk.chunk);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.note.len() == self.total_bytes
    }
}

impl Exchange {
    /// Takes a chunk of a roster note; the last one puts the note in line.
    pub(super) fn publish(&mut self, conn: ConnId, chunk: &pb::Publish, now: Now) {
        if !self.is_hub(conn, None) {
            return self.not_the_hub(conn);
        }
        let until = now.mono + self.limits.publication_time_max;
        let session = self.sessions.get_mut(&conn).expect("the hub's session");
        let begun = match session.publication.take() {
            Some(publication) => Ok(publication),
            None => Publication::begin(chunk, until),
        };
        let taken = begun.and_then(|mut publication| publication.take(chunk).map(|()| publication));
        match taken {
            Err(words) => self.goodbye(conn, GoodbyeCode::Protocol, words.to_owned()),
            Ok(publication) if !publication.is_whole() => session.publication = Some(publication),
            Ok(Publication { request, note, .. }) => {
                let asker = Asker { conn, request };
                if self.is_free(asker) {
                    self.administer_roster(Bytes::from(note), Some(asker));
                }
            }
        }
    }

    /// Takes an order that `key` signed, and puts it in line.
    pub(super) fn order(&mut self, conn: ConnId, request: u64, order: Box<SignedOrder>, key: &PublicKey) {
        if !self.is_hub(conn, Some(key)) {
            return self.not_the_hub(conn);
        }
        let asker = Asker { conn, request };
        if self.is_free(asker) {
            self.administer_order(order, asker);
        }
    }

    /// Says what became of a request, where its session is still open.
    pub(super) fn answer(
        &mut self,
        asker: Asker,
        code: AdministeredCode,
        position: Position,
        sentence: &str,
    ) {
        let Asker { conn, request } = asker;
        let order_number = self.orders.last();
        let sentence = sentence.to_owned();
        self.send(conn, Outbound::Administered { request, code, sentence, position, order_number });
    }

    /// Whether no other request is under way, so that what waits stays bounded.
    fn is_free(&mut self, asker: Asker) -> bool {
        let is_free = !self.administrative.has_request();
        if !is_free {
            let words = "another request of the hub is still being written; ask again";
            self.answer(asker, AdministeredCode::Busy, Position::NONE, words);
        }
        is_free
    }

    /// The one place that decides who may publish and order: the hub's session, and where a signature counts
    /// the hub's key of the roster in force.
    fn is_hub(&self, conn: ConnId, key: Option<&PublicKey>) -> bool {
        let party = self.sessions.get(&conn).map(|session| session.party);
        let party =
            party.and_then(|number| self.roster.as_deref().and_then(|roster: &Roster| roster.party(number)));
        party.is_some_and(|party| party.kind == Kind::Hub && key.is_none_or(|key| party.sign == *key))
    }

    fn not_the_hub(&mut self, conn: ConnId) {
        self.goodbye(
            conn,
            GoodbyeCode::Protocol,
            "only the hub's desk publishes rosters and orders".to_owned(),
        );
    }
}
