//! What waits in a mailbox goes out: FLASH first, then receipts, then by precedence and position, as
//! far as the desk's credit and the connection's queue allow. A file of the audit log goes in its turns.

use super::{Body, ConnId, Exchange, Output, Stage};
use crate::{
    roster::PartyNumber,
    session::outbound::Outbound,
    wire::{Position, Precedence},
};

/// Bodies asked for ahead of the one that is due, per mailbox and precedence.
const LOADS_AHEAD: usize = 16;

/// One kind of thing in a mailbox, in the order of service.
#[derive(Clone, Copy)]
enum Lane {
    Envelopes(Precedence),
    Receipts,
    /// One piece of a file, where mail had the turn before.
    FileInTurn,
    /// All of a file: nothing else waits.
    File,
}

const LANES: [Lane; 7] = [
    Lane::Envelopes(Precedence::Flash),
    Lane::FileInTurn,
    Lane::Receipts,
    Lane::Envelopes(Precedence::Immediate),
    Lane::Envelopes(Precedence::Priority),
    Lane::Envelopes(Precedence::Routine),
    Lane::File,
];

impl Exchange {
    /// Sends what may be sent now to one connection.
    pub(super) fn deliver(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(&conn).filter(|session| session.stage == Stage::Open) else {
            return;
        };
        let party = session.party;
        for lane in LANES {
            let send_next = match lane {
                Lane::Envelopes(precedence) => self.deliver_lane(conn, party, precedence),
                Lane::Receipts => self.deliver_receipts(conn, party),
                Lane::FileInTurn => self.send_in_turn(conn),
                Lane::File => self.send_file(conn),
            };
            if !send_next {
                return;
            }
        }
    }

    /// Delivers to a party where it is connected, with the next outputs.
    pub(super) fn deliver_to(&mut self, party: PartyNumber) {
        self.due.extend(self.by_party.get(&party));
    }

    pub(super) fn loaded(&mut self, position: Position, body: Body) {
        self.loading.remove(&position);
        let waiting: Vec<PartyNumber> = match &body {
            Body::Envelope(_) => {
                let addressees = self
                    .router
                    .held(position)
                    .map(|held| held.addressees.iter().map(|waiting| waiting.party));
                addressees.into_iter().flatten().collect()
            }
            Body::Receipts(receipts) => receipts.batch.parts.iter().map(|part| part.item.sender).collect(),
            Body::Expired(expired) => {
                let addressees = expired.addressees.iter().map(|(party, _)| *party);
                addressees.chain([expired.sender]).collect()
            }
        };
        if !waiting.is_empty() {
            self.bodies.keep(position, body);
        }
        for party in waiting {
            self.deliver_to(party);
        }
    }

    /// Sends one precedence in order; a body that is not here yet holds back what follows it in its lane
    /// alone, and so does credit, which receipts need none of. Returns whether lower lanes may be looked at.
    fn deliver_lane(&mut self, conn: ConnId, party: PartyNumber, precedence: Precedence) -> bool {
        loop {
            let Some(position) = self.router.party(party).mailbox.due(precedence).next() else { return true };
            if !self.has_queue_room(conn) {
                return false;
            }
            if !self.sessions[&conn].delivers.is_open() {
                return true;
            }
            let Some(Body::Envelope(envelope)) = self.bodies.find(position).cloned() else {
                let due = self.router.party(party).mailbox.due(precedence).take(LOADS_AHEAD).collect();
                self.load(due);
                return true;
            };
            let held = self.router.held(position).expect("what waits in a mailbox is held");
            let index = held.index_of(party).expect("its mailbox holds only what is addressed to it");
            let traffic = held.traffic;
            self.router.party(party).mailbox.mark_sent(position, precedence);
            let frame = Outbound::Deliver { position, envelope, index, traffic };
            let session = self.sessions.get_mut(&conn).expect("checked by the caller");
            session.delivers.spend(frame.bytes() as u64);
            self.send(conn, frame);
        }
    }

    fn deliver_receipts(&mut self, conn: ConnId, party: PartyNumber) -> bool {
        loop {
            let mailbox = &self.router.party(party).mailbox;
            let Some((position, items)) = mailbox.receipts_due().next() else { return true };
            let items = items.to_vec();
            if mailbox.receipts_in_flight() >= self.limits.receipts_in_flight_max {
                return true;
            }
            if !self.has_queue_room(conn) {
                return false;
            }
            let Some(body) = self.bodies.find(position).cloned() else {
                let due = self.router.party(party).mailbox.receipts_due();
                let due = due.map(|(position, _)| position).take(LOADS_AHEAD).collect();
                self.load(due);
                return true;
            };
            self.router.party(party).mailbox.mark_receipts_sent(position);
            for item in items {
                let index = item.index();
                let frame = match &body {
                    Body::Receipts(receipts) => {
                        Outbound::Receipt { position, receipts: receipts.clone(), index }
                    }
                    Body::Expired(expired) => Outbound::Expired { position, expired: expired.clone(), index },
                    Body::Envelope(_) => unreachable!("only records of receipts are put in as receipts"),
                };
                self.send(conn, frame);
            }
        }
    }

    /// Sends one piece of a file, unless mail has this turn. Returns whether there is room for more.
    fn send_in_turn(&mut self, conn: ConnId) -> bool {
        let Some(session) = self.sessions.get_mut(&conn).filter(|session| session.has_piece()) else {
            return true;
        };
        if session.queue.room() == 0 {
            return false;
        }
        if !std::mem::replace(&mut session.is_files_turn, true) {
            return true;
        }
        self.send_piece(conn);
        self.has_queue_room(conn)
    }

    fn send_file(&mut self, conn: ConnId) -> bool {
        while self.has_queue_room(conn) && self.sessions[&conn].has_piece() {
            self.send_piece(conn);
        }
        true
    }

    fn load(&mut self, positions: Vec<Position>) {
        for position in positions {
            if self.bodies.find(position).is_none() && self.loading.insert(position) {
                self.outputs.push_back(Output::Load { position });
            }
        }
    }

    fn has_queue_room(&self, conn: ConnId) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.queue.room() > 0)
    }
}
