//! `pouch status`: is the line up, and is anything waiting?

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::Paint;
use crate::cli::{DeskArgs, safe_text, time};
use crate::desk::client::DeskClient;
use crate::desk::view::{Overdue, Status, Waiting};

/// Show the link and what waits
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// Prints the desk's status. Being offline is normal and no failure.
pub async fn run(desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let status = desk.status().await?;
    if screen.json {
        return screen.object(&status);
    }
    screen.text(&described(&status, screen.paint))?;
    screen.next(match &status {
        Status { unacknowledged: 1.., .. } => "pouch inbox --unacked",
        Status { unread: 1.., .. } => "pouch inbox",
        _ => "pouch outbox",
    })
}

fn described(status: &Status, paint: Paint) -> String {
    let heading =
        format!("{} {} in {}, pouch {}", status.daemon, status.code, status.trust_domain, status.version);
    let mut text = paint.bold(&safe_text::line(&heading)) + "\n\n";
    let heard = status.last_contact.as_deref().map_or("never".to_owned(), time::dtg);
    let link = format!(
        "{} with {} since {}, last heard {heard}",
        status.link,
        status.relay,
        time::dtg(&status.since)
    );
    let outbox = format!(
        "{} queued, {} accepted and not yet delivered, {} refused",
        status.queued, status.undelivered, status.refused
    );
    let inbox = format!(
        "{} in all, {} unread, {} to acknowledge, {} set aside",
        status.inbox, status.unread, status.unacknowledged, status.set_aside
    );
    let mut fields = vec![("link", link), ("outbox", outbox)];
    fields.extend(waiting(status).map(|waiting| ("waiting", waiting)));
    fields.push(("inbox", inbox));
    fields.extend(overdue(status).map(|overdue| ("overdue", overdue)));
    fields.push(("receipts", format!("{} waiting for the relay", status.receipts_waiting)));
    let log = format!(
        "verified as far as {} leaves, {} proofs owed by the relay",
        status.log_verified, status.proofs_owed
    );
    fields.push(("log", log));
    fields.push(("roster", format!("version {}", status.roster_version)));
    fields.extend(status.link_reason.iter().map(|reason| ("reason", reason.clone())));
    for (name, value) in fields {
        text.push_str(&format!("{name:<9} {}\n", safe_text::line(&value)));
    }
    for order in &status.orders {
        text.push_str(&format!("{:<9} {}\n", "order", safe_text::line(order)));
    }
    for alarm in &status.alarms {
        text.push_str(&(paint.alarm(&format!("alarm     {}", safe_text::line(alarm))) + "\n"));
    }
    text
}

/// What is overdue; nothing where nothing is.
fn overdue(status: &Status) -> Option<String> {
    let Overdue { addressees, acknowledgements, answers, acknowledgements_owed, answers_owed } =
        status.overdue;
    let all = [
        (addressees, "not delivered or acknowledged"),
        (acknowledgements, "not acknowledged by the time named"),
        (answers, "not answered"),
        (acknowledgements_owed, "to acknowledge here"),
        (answers_owed, "to answer here"),
    ];
    let some = all.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let text = some.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}

/// What waits for the relay or for an addressee, and since when; nothing where nothing does.
fn waiting(status: &Status) -> Option<String> {
    let Waiting { flash, immediate, priority, routine } = status.waiting;
    let counts = [("FLASH", flash), ("IMMEDIATE", immediate), ("PRIORITY", priority), ("ROUTINE", routine)];
    let mut parts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let since = |what: &str, at: &Option<String>| Some(format!("{what} since {}", time::dtg(at.as_ref()?)));
    parts.extend(since("unaccepted", &status.oldest_queued_at));
    parts.extend(since("undelivered", &status.oldest_undelivered_at));
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_the_line_is_up_and_what_waits() {
        let status = Status {
            daemon: "mission".into(),
            code: "IDN".into(),
            trust_domain: "bloc.example".into(),
            link: "offline".into(),
            link_reason: Some("cannot resolve relay.bloc.example: check the name".into()),
            relay: "relay.bloc.example:7443".into(),
            since: "2026-11-24T10:16:00Z".into(),
            last_contact: None,
            roster_version: 3,
            queued: 2,
            undelivered: 1,
            waiting: Waiting { flash: 1, routine: 1, ..Waiting::default() },
            oldest_queued_at: Some("2026-11-24T10:17:00Z".into()),
            oldest_undelivered_at: Some("2026-11-23T10:17:00Z".into()),
            refused: 0,
            inbox: 17,
            unread: 4,
            unacknowledged: 0,
            set_aside: 0,
            overdue: Overdue::default(),
            receipts_waiting: 5,
            proofs_owed: 3,
            log_verified: 140,
            orders: vec!["MINIMIZE until 2026-11-24T12:00:00Z".into()],
            alarms: vec!["clock is off by 3 h\x1b".into()],
            version: "0.1.0".into(),
        };
        let expected = "\
mission IDN in bloc.example, pouch 0.1.0

link      offline with relay.bloc.example:7443 since 241016ZNOV26, last heard never
outbox    2 queued, 1 accepted and not yet delivered, 0 refused
waiting   1 FLASH, 1 ROUTINE, unaccepted since 241017ZNOV26, undelivered since 231017ZNOV26
inbox     17 in all, 4 unread, 0 to acknowledge, 0 set aside
receipts  5 waiting for the relay
log       verified as far as 140 leaves, 3 proofs owed by the relay
roster    version 3
reason    cannot resolve relay.bloc.example: check the name
order     MINIMIZE until 2026-11-24T12:00:00Z
alarm     clock is off by 3 h␛
";
        assert_eq!(described(&status, Paint::Plain), expected);
    }
}
