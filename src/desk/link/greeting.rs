//! Before a session is open: Hello, the rosters that the relay sends, and whether its Welcome is believed.

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    batch::Tag,
    desk::{
        link::{
            end::LinkEnd,
            jobs::StoreJob,
            known::Known,
            machine::{Now, Setup},
            rosters::{Administrative, EarlyOrders},
        },
        store::{Facts, WelcomeFacts},
    },
    identity::{Kind, SpiffeId},
    merkle,
    record::administrative::{Act, AdministrativeLeaf},
    roster::{self, PartyNumber},
    session::hello::{self, Binding, End, PROTOCOL, SOFTWARE},
    wire::{Position, convert, order::SignedOrder, pb},
};

/// A clock that differs by more from the relay's, or from the log's time, is named to a person.
pub(super) const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(60);

/// A TLS connection, as both ends know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// Exporter, label `EXPORTER-Channel-Binding`.
    pub(super) exporter: [u8; 32],
    /// Who the relay's certificate says that it is.
    pub(super) relay: SpiffeId,
    /// Serial of that certificate, in lower hex.
    pub(super) serial: String,
}

/// The signed Hello for this connection, with what the store holds.
pub(super) fn hello(connection: &Connection, facts: &Facts, setup: &Setup) -> pb::Hello {
    let binding = Binding {
        exporter: connection.exporter,
        end: End::Desk,
        incarnation: facts.incarnation,
        instance: setup.instance,
        checkpoint: facts.verified.note.clone(),
    };
    let proof = setup.sign.sign_batch(&setup.trust.trust_domain, Tag::Hello, &[binding.leaf()]).remove(0);
    let roster = facts.roster.as_ref();
    let roster_hash = roster.map(|roster| Bytes::copy_from_slice(roster.hash().as_bytes()));
    pb::Hello {
        protocol: PROTOCOL,
        software: SOFTWARE.to_owned(),
        role: binding.end.code().into(),
        incarnation: binding.incarnation,
        instance: Bytes::copy_from_slice(&binding.instance),
        store_id: Bytes::copy_from_slice(&facts.store_id),
        last_submission: facts.last_submission,
        position: facts.position,
        roster_version: roster.map_or(0, |roster| roster.version()),
        roster_hash: roster_hash.unwrap_or_default(),
        checkpoint: binding.checkpoint,
        proof: Some(convert::proof_frame(&proof)),
        last_stored: facts.last_stored,
        confirmed: facts.confirmed,
    }
}

/// Verifies Welcome by the newest roster held, and returns this desk's number in it and what the store has to
/// know of the Welcome.
///
/// # Errors
/// [`LinkEnd::NoRoster`], [`LinkEnd::WrongRelay`], [`LinkEnd::Welcome`], [`LinkEnd::NotInRoster`].
pub(super) fn check_welcome(
    connection: &Connection,
    welcome: &pb::Welcome,
    known: &mut Known,
    now: Now,
) -> Result<(PartyNumber, WelcomeFacts), LinkEnd> {
    let roster = known.roster.clone().ok_or(LinkEnd::NoRoster)?;
    let Connection { exporter, relay: id, serial } = connection;
    let relay = roster.relay().filter(|relay| relay.id == *id && !relay.revoked_serials.contains(serial));
    let relay = relay.ok_or_else(|| LinkEnd::WrongRelay(id.to_string()))?;
    hello::verify_welcome(welcome, *exporter, &known.setup.trust.trust_domain, &relay.sign)?;
    let own = roster.party_by_id(&known.setup.id).ok_or(LinkEnd::NotInRoster)?;
    let is_ours =
        welcome.roster_version == roster.version() && *welcome.roster_hash == *roster.hash().as_bytes();
    let difference = Duration::from_micros(welcome.time_us.abs_diff(now.wall_us));
    let facts = WelcomeFacts {
        last_accepted: welcome.last_accepted,
        last_stored: welcome.last_stored,
        incarnation_known: welcome.incarnation_known,
        is_new_incarnation: mem::take(&mut known.is_new_incarnation),
        other_roster: (!is_ours).then_some(welcome.roster_version),
        clock_off_s: (difference > CLOCK_DIFFERENCE_MAX).then_some(difference.as_secs()),
    };
    Ok((own.number, facts))
}

/// An administrative leaf that is not believed: the alarm to raise.
pub(super) struct Doubt {
    pub(super) key: &'static str,
    pub(super) sentence: String,
}

/// Whether the hub of the roster held has signed an order.
pub(super) fn is_of_hub(order: &SignedOrder, known: &Known) -> bool {
    let Some(roster) = &known.roster else { return false };
    let hub = roster.parties().find(|party| party.kind == Kind::Hub);
    hub.is_some_and(|hub| order.verify(roster.trust_domain(), &hub.sign).is_ok())
}

/// What to do about orders that came early, now that a roster is held. One by another key is passed over: the hub may
/// have had that key before the trust bundle was made.
fn judge(early: &mut EarlyOrders, known: &Known) -> Vec<StoreJob> {
    let orders = early.take().into_iter().filter(|(_, order)| is_of_hub(order, known));
    orders.map(|(position, order)| StoreJob::LearnOrder { position, order }).collect()
}

/// Raises the alarm of a party's two machines where this desk is that party's or the hub's. The relay tells only who is
/// connected, and the log tells all: whoever comes second is no news.
pub(super) fn cloned(position: Position, party: PartyNumber, known: &mut Known) {
    let named = known.roster.as_ref().and_then(|roster| roster.party(party));
    if known.setup.id.kind() != Kind::Hub && named.is_none_or(|named| named.id != known.setup.id) {
        return;
    }
    let code = named.map_or_else(|| format!("party {party}"), |party| party.code.clone());
    let sentence = format!(
        "two machines take turns as {code} (position {position} of the log); other mail goes on; save its folder if \
         {code} is this desk; find out by telephone which is the real one and stop the other; if it is not \
         ours, suspend {code}"
    );
    known.alarm_once(&format!("cloned-{party}"), sentence);
}

/// What to do about a leaf with nothing beside it: an order is obeyed, clones are an alarm, and what this
/// version does not know changes nothing.
fn learn_act(
    position: Position,
    leaf: &Bytes,
    early: &mut EarlyOrders,
    known: &mut Known,
) -> Result<Option<StoreJob>, Doubt> {
    match AdministrativeLeaf::decode(leaf).map(|leaf| leaf.act) {
        Ok(Act::Order(order)) if known.roster.is_none() => {
            early.keep(position, order);
            return Ok(None);
        }
        Ok(Act::Order(order)) => {
            if !is_of_hub(&order, known) {
                let sentence = format!(
                    "the log's order at position {position} is not signed by the hub's key in this desk's roster; it \
                     is not obeyed; mail goes on; save this desk's folder, and tell the ministry"
                );
                return Err(Doubt { key: "log-order", sentence });
            }
            return Ok(Some(StoreJob::LearnOrder { position, order }));
        }
        Ok(Act::Cloned { party, .. }) => cloned(position, party, known),
        Ok(_) | Err(_) => {}
    }
    Ok(Some(StoreJob::LearnAdministrative(position)))
}

/// What to do about an administrative leaf, in this order; where it is a roster, the desk's own from here on.
///
/// # Errors
/// [`Doubt`] where the roster is none that follows ours: ours stays.
pub(super) fn learn(
    whole: Administrative,
    early: &mut EarlyOrders,
    known: &mut Known,
) -> Result<Vec<StoreJob>, Doubt> {
    let doubt = |sentence| Doubt { key: "log-roster", sentence };
    let Administrative { position, leaf, beside: note } = whole;
    if note.is_empty() {
        return Ok(learn_act(position, &leaf, early, known)?.into_iter().collect());
    }
    let hash = merkle::sha256(&note);
    let named = AdministrativeLeaf::decode(&leaf)
        .is_ok_and(|leaf| matches!(leaf.act, Act::Roster { hash: named, .. } if named == hash));
    if !named {
        return Err(doubt(format!(
            "the log's leaf at position {position} does not name the roster beside it; mail goes on; \
             save this desk's folder, and tell the ministry"
        )));
    }
    let verified = match &known.roster {
        Some(current) if current.hash() == hash => {
            return Ok(vec![StoreJob::LearnRosterLeaf { position, version: current.version(), leaf }]);
        }
        Some(current) => roster::verify_next(&note, current),
        // The log may hold versions from before the trust bundle was made.
        None if hash != known.setup.trust.roster_hash => {
            // A kill must not leave the store beyond an order that waits here.
            let is_next = early.is_empty();
            return Ok(Vec::from_iter(is_next.then_some(StoreJob::LearnAdministrative(position))));
        }
        None => roster::verify_first(&note, &known.setup.trust),
    };
    let roster = Arc::new(verified.map_err(|problem| {
        doubt(format!(
            "the relay sent a roster that does not follow this desk's ({problem}); ours stays in force, and mail goes on; save \
             this desk's folder, and tell the ministry"
        ))
    })?);
    known.roster = Some(roster.clone());
    Arc::make_mut(&mut known.keys).push(&roster);
    let mut jobs = judge(early, known);
    jobs.push(StoreJob::LearnRoster { position, roster, note, leaf });
    Ok(jobs)
}
