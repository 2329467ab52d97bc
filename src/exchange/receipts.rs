//! Receipts come in from desks, and go out to the senders that they concern.

use std::sync::Arc;

use super::{ConnId, Exchange, Pending};
use crate::{
    record::{
        content::{AcceptedReceipts, Content},
        leaf::OpeningKind,
    },
    roster::PartyNumber,
    session::outbound::Outbound,
    wire::{
        Position,
        pb::GoodbyeCode,
        receipt::{ReceiptItem, ReceiptKind, VerifiedReceipts},
    },
};

impl Exchange {
    pub(super) fn stored(&mut self, conn: ConnId, receipts: VerifiedReceipts) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let party = session.party;
        let (number, root) = (receipts.batch().number, receipts.root());
        let state = self.router.party(party);
        if let Some((position, traffic)) = state.stored.find(number)
            && traffic.opening.hash == root
        {
            return self.send(conn, Outbound::StoredAt { number, position, traffic: Some(traffic) });
        }
        let last = state.stored.last();
        // Taken so long ago that what proves it is erased. The desk may say it again: it asks for no more.
        if (1..=last).contains(&number) && state.stored.find(number).is_none() {
            let (position, traffic) = (Position::NONE, None);
            return self.send(conn, Outbound::StoredAt { number, position, traffic });
        }
        let flying = self.in_flight.entry(party).or_default();
        if let Some((pending, ticket)) = flying.stored.get(&number).copied()
            && pending == root
        {
            return self.wait_for(ticket, conn, 0);
        }
        let next = flying.stored.keys().next_back().copied().unwrap_or(last) + 1;
        if number != next {
            let words = format!("a new Stored frame {number} came where {next} is due");
            return self.goodbye(conn, GoodbyeCode::Protocol, words);
        }
        if let Err(words) = self.check_receipts(party, &receipts) {
            return self.goodbye(conn, GoodbyeCode::Protocol, words);
        }
        if !self.may_mark(party, &receipts) {
            let words = "more is read and acknowledged than the relay takes within a minute; come again";
            return self.goodbye(conn, GoodbyeCode::Rate, words.to_owned());
        }
        let traffic = self.traffic(OpeningKind::Receipts, root);
        let accepted = AcceptedReceipts { traffic, receiptor: party, batch: Arc::new(receipts.into_batch()) };
        let ticket = self.append(Content::Receipts(accepted), false, vec![(conn, 0)]);
        self.in_flight.entry(party).or_default().stored.insert(number, (root, ticket));
    }

    fn check_receipts(&self, party: PartyNumber, receipts: &VerifiedReceipts) -> Result<(), String> {
        let roster = self.roster.as_ref().ok_or("no roster is in force")?;
        if roster.party(party).is_none_or(|party| party.sign != *receipts.key()) {
            return Err("receipts signed by a key that is no longer the roster's".to_owned());
        }
        let next = Position(self.tree.size());
        for part in &receipts.batch().parts {
            check_item(party, &part.item)?;
            if roster.party(part.item.sender).is_none() {
                return Err("a receipt for a sender that the roster does not list".to_owned());
            }
            if part.item.kind.settles() {
                self.router.check_settlement(party, &part.item, next).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Answers a desk whose receipts have just become durable.
    pub(super) fn answer_stored(&mut self, pending: &Pending, party: PartyNumber, number: u64) {
        self.in_flight.entry(party).or_default().stored.remove(&number);
        let (position, traffic) =
            self.router.party(party).stored.find(number).expect("apply took the number a moment ago");
        for (conn, _) in &pending.waiters {
            self.send(*conn, Outbound::StoredAt { number, position, traffic: Some(traffic) });
        }
    }

    pub(super) fn confirm(&mut self, conn: ConnId, through: Position) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let party = session.party;
        if through >= Position(self.tree.size()) {
            return self.goodbye(
                conn,
                GoodbyeCode::Protocol,
                "Confirm of a position that does not exist".to_owned(),
            );
        }
        self.confirm_through(party, through);
        self.due.insert(conn);
    }

    /// Takes a desk's word for what it has stored. Unsigned and no record: said again with every Hello.
    pub(super) fn confirm_through(&mut self, party: PartyNumber, through: Position) {
        if through < Position(self.tree.size()) {
            self.router.confirm(party, through);
        }
    }
}

/// What a desk may say in a receipt: its own steps.
fn check_item(party: PartyNumber, item: &ReceiptItem) -> Result<(), String> {
    let own_step = match item.kind {
        ReceiptKind::Delivered | ReceiptKind::SetAside | ReceiptKind::Read | ReceiptKind::Acknowledged => {
            item.receiptor == party && item.addressee == party
        }
        ReceiptKind::Withdrawn | ReceiptKind::Refused | ReceiptKind::Expired => false,
    };
    if own_step { Ok(()) } else { Err(format!("a receipt {:?} that this desk may not give", item.kind)) }
}
