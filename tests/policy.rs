//! The ministry's hand on running processes: a roster published, a mission suspended and lifted, a serial
//! revoked in mid-session.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::{fs, time::Duration};

use pouch::{
    alarms::AlarmKind,
    batch::PublicKey,
    desk::{
        client::{ClientError, DeskClient},
        view::{InForce, NewOrder, Status},
    },
    keys::SigningKey,
    relay::status::RelayStatus,
    roster, tls,
};
use support::{Site, free_address, next_roster};

const TIME_MAX: Duration = Duration::from_secs(30);

/// Asks a desk for its status until it is as wanted.
async fn until(desk: &DeskClient, wanted: impl Fn(&Status) -> bool) -> Status {
    let asking = async {
        loop {
            if let Ok(status) = desk.status().await
                && wanted(&status)
            {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIME_MAX, asking).await.expect("in time")
}

/// Promise 10, as an order of events: when the ministry is told that it is done, no session is left, and the
/// mission has been told why. That this takes no time and its last words 2 s at most is held by unit tests of
/// exchange and connection, by their own clocks.
async fn is_cut(site: &Site, desk: &DeskClient) {
    let status = site.relay_status();
    let parties: Vec<&str> = status.sessions.iter().map(|session| session.party.as_str()).collect();
    assert_eq!(parties, ["MOD"]);
    let words = "suspended or revoked";
    until(desk, |status| status.link_reason.as_deref().is_some_and(|reason| reason.contains(words))).await;
}

/// FAULTS 69, in mid-session and after a restart of the box.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_ministry_narrows_is_in_force_at_once_on_every_box() {
    let mut site = Site::new();
    for party in ["relay", "hub", "idn"] {
        site.start(party);
    }
    let (hub, idn) = (site.desk("hub"), site.desk("idn"));
    until(&hub, |status| status.link == "in contact").await;
    until(&idn, |status| status.link == "in contact").await;

    let first = site.example().roster.clone();
    let (second, note) =
        next_roster(site.example(), &first, |draft| draft.parties[4].name = "Manila".to_owned());
    let published = hub.publish_roster(note.clone().into()).await.unwrap();
    assert!(published.position.is_some());
    assert_eq!(
        until(&idn, |status| status.roster_version == 2).await.link,
        "in contact",
        "nobody is dropped"
    );
    let again = hub.publish_roster(note.clone().into()).await.unwrap();
    assert_eq!(again, InForce { position: None, number: None }, "twice is harmless");
    let declined = hub.publish_roster("noise".into()).await.unwrap_err();
    assert!(matches!(declined, ClientError::Refused(error) if error.code == "declined"));
    let refused = idn.publish_roster(note.into()).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(error) if error.code == "not-permitted"));

    let suspend = NewOrder { kind: "suspend".into(), party: "IDN".into(), ..NewOrder::default() };
    assert_eq!(hub.order(&suspend).await.unwrap().number, Some(1));
    is_cut(&site, &idn).await;
    assert!(hub.status().await.unwrap().orders[0].contains("IDN is suspended"));
    let lift = NewOrder { kind: "lift".into(), ..suspend };
    assert_eq!(hub.order(&lift).await.unwrap().number, Some(2));
    until(&idn, |status| status.link == "in contact").await;

    let certificates = tls::read_certificates(&site.example().folder.join("idn/tls.pem")).unwrap();
    let serial = tls::serial_hex(&certificates[0]).unwrap();
    let (third, note) = next_roster(site.example(), &second, |draft| {
        let idn = draft.parties.iter_mut().find(|party| party.code == "IDN").unwrap();
        idn.revoked_serials.push(serial);
    });
    assert_eq!(publish(&site, &note), "", "nothing to warn of");
    is_cut(&site, &idn).await;
    site.kill("idn");
    site.start("idn");
    until(&idn, |status| status.link_reason.as_deref().is_some_and(|reason| reason.contains("revoked")))
        .await;
    restarted_relay_is_content(&mut site, &hub).await;

    let (_, note) = next_roster(site.example(), &third, |draft| {
        draft
            .parties
            .iter_mut()
            .filter(|party| party.is_witness)
            .for_each(|party| party.status = roster::Status::Suspended);
    });
    let warning = publish(&site, &note);
    assert!(warning.contains("it leaves 0 witnesses of version 3 active"), "{warning}");
}

/// The relay's roster file still holds the first version, which is no news.
async fn restarted_relay_is_content(site: &mut Site, hub: &DeskClient) {
    site.kill("relay");
    site.start("relay");
    // What is asked comes behind the roster file.
    let is_declined = |end| matches!(end, Err(ClientError::Refused(error)) if error.code == "declined");
    let declined = async {
        while !is_declined(hub.publish_roster("noise".into()).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIME_MAX, declined).await.expect("in time");
    let alarms: Vec<_> = site.relay_status().alarms.iter().map(|alarm| alarm.kind).collect();
    assert!(!alarms.contains(&AlarmKind::Roster), "{alarms:?}");
}

/// Publishes by the command, as an operator does; what it writes beside.
fn publish(site: &Site, note: &[u8]) -> String {
    let file = site.dir("next.note");
    fs::write(&file, note).unwrap();
    let pouch = std::process::Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(["roster", "publish"])
        .arg(&file)
        .arg("--socket")
        .arg(site.socket("hub"))
        .output()
        .unwrap();
    assert!(pouch.status.success(), "{}", String::from_utf8_lossy(&pouch.stderr));
    assert!(String::from_utf8_lossy(&pouch.stdout).starts_with("in force at position "));
    String::from_utf8(pouch.stderr).unwrap()
}

/// A key that was stolen is replaced while mail goes on; the new one may lie in its place before or after the roster comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_log_key_a_roster_has_replaced_carries_mail_and_signs_once_it_has_the_new_one() {
    let mut site = Site::new();
    let key_path = site.example().folder.join("relay/log.key");
    let new_path = site.dir("new-log.key");
    let new_key = SigningKey::create(&new_path).unwrap();
    for party in ["relay", "hub"] {
        site.start(party);
    }
    let hub = site.desk("hub");
    until(&hub, |status| status.link == "in contact").await;
    let (_, note) = next_roster(site.example(), &site.example().roster, |draft| {
        let new = new_key.vkey(&draft.log.origin).unwrap();
        let old = std::mem::replace(&mut draft.log.keys, vec![new]);
        draft.revoked_keys.extend(old.iter().map(|key| PublicKey::checked(key.public()).unwrap()));
    });
    hub.publish_roster(note.into()).await.unwrap();
    let names_the_key =
        |status: &RelayStatus| status.alarms.iter().any(|alarm| alarm.sentence.contains("relay's log key"));
    let status = site.relay_until(names_the_key).await;
    assert!(
        status.not_ready.iter().any(|line| line.contains("log key")),
        "it cannot sign: {:?}",
        status.not_ready
    );
    site.stop("relay");
    site.start("relay");
    site.relay_until(|status| names_the_key(status) && !status.sessions.is_empty()).await;
    site.stop("relay");
    fs::copy(&new_path, &key_path).unwrap();
    site.start("relay");
    let ready = |status: &RelayStatus| !names_the_key(status) && status.not_ready.is_empty();
    site.relay_until(|status| ready(status) && !status.sessions.is_empty()).await;
    let status = until(&hub, |status| status.link == "in contact").await;
    assert!(status.alarms.iter().all(|sentence| !sentence.contains("cosigns no")), "{:?}", status.alarms);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_moves_to_an_address_of_the_roster_and_desks_find_it_there_by_themselves() {
    let mut site = Site::new();
    for party in ["relay", "hub", "idn"] {
        site.start(party);
    }
    let (hub, idn) = (site.desk("hub"), site.desk("idn"));
    until(&hub, |status| status.link == "in contact").await;
    until(&idn, |status| status.link == "in contact").await;

    let moved = free_address();
    let first = site.example().roster.clone();
    let (_, note) =
        next_roster(site.example(), &first, |draft| draft.relay_addresses.push(moved.to_string()));
    hub.publish_roster(note.into()).await.unwrap();
    until(&idn, |status| status.roster_version == 2).await;
    site.kill("relay");
    site.move_relay(moved);
    site.start("relay");
    for desk in [&hub, &idn] {
        until(desk, |status| status.link == "in contact" && status.relay == moved.to_string()).await;
    }
}
