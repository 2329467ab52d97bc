//! The first screen: what runs where, what is odd on purpose, what to type next. Every figure on it was asked
//! of the desks or read from the log a moment before.

use std::collections::{BTreeMap, BTreeSet};

use crate::demo::place::Place;
use crate::demo::play;
use crate::demo::stage::Stage;
use crate::demo::{DESKS, DemoError, HUB};
use crate::desk::view::{AddresseeState, LIST_MAX, Outgoing};
use crate::relay::log::{self, LogError};
use crate::wire::Position;

/// Certificates of the example's CA itself: root and issuing.
const CA_CERTIFICATES: usize = 2;

/// What the first screen shows.
#[derive(Debug, Default)]
struct Facts {
    folder: String,
    /// What becomes of the folder, as in "everything … is".
    end: &'static str,
    certificates: usize,
    relay: String,
    /// Code, name, and how its link stands; the hub among them.
    desks: Vec<(&'static str, &'static str, String)>,
    dispatches: usize,
    topics: usize,
    receipts: usize,
    /// Desk and short id of each FLASH whose acknowledgement is owed.
    flash_not_acknowledged: Vec<(&'static str, String)>,
    /// Code of the silent mission, and what is accepted and not delivered to it.
    waiting: Option<(&'static str, usize)>,
    records: u64,
}

/// Asks everybody and writes the first screen.
///
/// # Errors
/// [`DemoError::Desk`], [`DemoError::Log`].
pub async fn first(stage: &Stage, place: &Place) -> Result<String, DemoError> {
    let mut facts = Facts {
        folder: place.folder().display().to_string(),
        end: if place.is_kept() { "stops on Ctrl-C" } else { "is erased on Ctrl-C" },
        certificates: stage.example().roster.parties().count() + CA_CERTIFICATES,
        relay: stage.address().to_string(),
        records: records(stage)?,
        ..Facts::default()
    };
    // By id, with the topic: what the silent mission sent before is found at its addressees.
    let mut dispatches = BTreeMap::new();
    let mut sent = Vec::new();
    for (code, name) in DESKS {
        if !stage.is_up(code) {
            facts.desks.push((code, name, silence(stage, code)));
            continue;
        }
        let desk = stage.desk(code);
        let status = desk.status().await.map_err(DemoError::desk(code))?;
        facts.desks.push((code, name, status.link));
        sent.extend(desk.outbox(Some(LIST_MAX)).await.map_err(DemoError::desk(code))?);
        for incoming in play::inbox(stage, code).await? {
            let owed = incoming.acknowledgement_required && incoming.role == "to";
            if owed && incoming.precedence == "flash" && incoming.acknowledged_at.is_none() {
                facts.flash_not_acknowledged.push((code, incoming.short));
            }
            dispatches.insert(incoming.id, incoming.topic);
        }
    }
    dispatches.extend(sent.iter().map(|outgoing| (outgoing.id.clone(), outgoing.topic.clone())));
    facts.dispatches = dispatches.len();
    facts.topics = dispatches.values().collect::<BTreeSet<_>>().len();
    facts.receipts = sent.iter().map(receipts).sum();
    facts.waiting = stage.silent().map(|(code, _)| (code, waiting(&sent, code)));
    Ok(facts.screen())
}

fn silence(stage: &Stage, code: &str) -> String {
    match stage.silent().filter(|(silent, _)| *silent == code) {
        Some((_, since)) => format!("silent since {}, on purpose", since.strftime("%d%H%MZ")),
        None => "down".to_owned(),
    }
}

/// Receipts that the sender holds of one dispatch.
fn receipts(outgoing: &Outgoing) -> usize {
    let of_one = |one: &AddresseeState| {
        let steps =
            [&one.delivered_at, &one.set_aside_at, &one.expired_at, &one.read_at, &one.acknowledged_at];
        steps.into_iter().flatten().count()
    };
    outgoing.addressees.iter().map(of_one).sum()
}

fn waiting(sent: &[Outgoing], code: &str) -> usize {
    let waits = |outgoing: &&Outgoing| {
        let undelivered = |one: &AddresseeState| one.code == code && one.delivered_at.is_none();
        outgoing.state == "accepted" && outgoing.addressees.iter().any(undelivered)
    };
    sent.iter().filter(waits).count()
}

/// Records of the running relay's log that are confirmed by now.
fn records(stage: &Stage) -> Result<u64, DemoError> {
    let head = log::read(&stage.relay_folder(), Position(0), |_| Ok::<_, LogError>(()))?;
    Ok(head.size)
}

impl Facts {
    fn screen(&self) -> String {
        let Facts { folder, end, certificates, relay, dispatches, topics, receipts, records, .. } = self;
        let version = env!("CARGO_PKG_VERSION");
        let (hub, missions) = (self.links(|code| code == HUB), self.links(|code| code != HUB));
        let mut odd = format!(" · {receipts} receipts");
        if !self.flash_not_acknowledged.is_empty() {
            odd.push_str(&format!(" · {} FLASH not acknowledged", self.flash_not_acknowledged.len()));
        }
        if let Some((code, waiting)) = self.waiting {
            odd.push_str(&format!(" · {waiting} wait for {code}"));
        }
        let mut text = format!(
            "\
pouch {version} demo   everything runs on this machine and {end}: not for real traffic

  pki       throw-away CA, {certificates} certificates, keys in {folder}
  relay     {relay}   TLS 1.3, X25519MLKEM768, client certificate required
  hub       {hub}
  missions  {missions}
  traffic   {dispatches} dispatches on {topics} topics{odd}
  log       {records} records, chained; the missions witness it
  sealing   not built yet: a dispatch travels in clear inside its envelope, the relay could read it

try in a second terminal
  pouch demo send --as IDN --to MOD --precedence flash --topic maritime \"Unlit vessel, 2 nm east of the anchorage\"
  pouch demo inbox --as MOD          # what the ministry received
"
        );
        if let Some((code, short)) = self.flash_not_acknowledged.first() {
            text.push_str(&format!("  pouch demo ack --as {code} {short}       # take the FLASH over\n"));
        }
        text.push_str(
            "  pouch demo tamper                  # change a byte of the audit log, and see it found\n",
        );
        text.push_str("  pouch demo status                  # all desks at a glance\n");
        text
    }

    /// `Indonesia (IDN) · Malaysia (MYS) in contact · Viet Nam (VNM) silent since 240612Z, on purpose`
    fn links(&self, chosen: impl Fn(&str) -> bool) -> String {
        let desks: Vec<_> = self.desks.iter().filter(|(code, ..)| chosen(code)).collect();
        let same_link = |a: &&_, b: &&_| {
            let ((_, _, a), (_, _, b)): (&(&str, &str, String), &(&str, &str, String)) = (a, b);
            a == b
        };
        let groups = desks.chunk_by(same_link).filter_map(|group| {
            let names: Vec<String> = group.iter().map(|(code, name, _)| format!("{name} ({code})")).collect();
            group.first().map(|(_, _, link)| format!("{} {link}", names.join(" · ")))
        });
        groups.collect::<Vec<_>>().join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_screen_says_what_runs_what_is_odd_and_what_to_type() {
        let link = |code: &str| if code == "VNM" { "silent since 240612Z, on purpose" } else { "in contact" };
        let facts = Facts {
            folder: "/tmp/pouch-demo-1".to_owned(),
            end: "is erased on Ctrl-C",
            certificates: 8,
            relay: "127.0.0.1:40123".to_owned(),
            desks: DESKS.map(|(code, name)| (code, name, link(code).to_owned())).to_vec(),
            dispatches: 42,
            topics: 5,
            receipts: 99,
            flash_not_acknowledged: vec![("MOD", "K7QF".to_owned())],
            waiting: Some(("VNM", 9)),
            records: 187,
        };
        let screen = facts.screen();
        for line in [
            "  pki       throw-away CA, 8 certificates, keys in /tmp/pouch-demo-1",
            "  hub       Ministry of Defence (MOD) in contact",
            "  missions  Indonesia (IDN) · Malaysia (MYS) · Philippines (PHL) in contact · Viet Nam (VNM) silent since 240612Z, on purpose",
            "  traffic   42 dispatches on 5 topics · 99 receipts · 1 FLASH not acknowledged · 9 wait for VNM",
            "  log       187 records, chained; the missions witness it",
            "  pouch demo ack --as MOD K7QF       # take the FLASH over",
        ] {
            assert!(screen.lines().any(|shown| shown == line), "{line}\n{screen}");
        }
    }
}
