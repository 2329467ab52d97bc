//! `pouch outbox`: what was sent from here, and how far it came.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::{self, Paint, table};
use crate::cli::{DeskArgs, safe_text, time};
use crate::desk::client::DeskClient;
use crate::desk::view::{AddresseeState, Named, Outgoing, Progress, Step, Witnessed};

/// List what was sent from here, or show how far one dispatch came
#[derive(Args)]
pub struct OutboxArgs {
    /// Short id or UUID of one dispatch
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", conflicts_with = "id")]
    limit: Option<u32>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// Waiting for a step of a dispatch's life.
#[derive(Args)]
pub struct WaitArgs {
    /// Return only when it has come this far
    #[arg(long, value_name = "STEP")]
    wait: Option<WaitStep>,
    /// How long to wait; then exit with 5, while the dispatch goes on by itself
    #[arg(long, value_name = "SPAN", requires = "wait", default_value = "90s", value_parser = time::span)]
    timeout: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum WaitStep {
    Accepted,
    Delivered,
    Read,
    Ack,
}

impl From<WaitStep> for Step {
    fn from(step: WaitStep) -> Self {
        match step {
            WaitStep::Accepted => Step::Accepted,
            WaitStep::Delivered => Step::Delivered,
            WaitStep::Read => Step::Read,
            WaitStep::Ack => Step::Ack,
        }
    }
}

/// Lists the outbox or shows one dispatch of it.
pub async fn run(args: &OutboxArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let Some(id) = &args.id else {
        if args.wait.wait.is_some() {
            return Err(Failure::Usage("--wait is for one dispatch: give its ID".to_owned()));
        }
        return list(&desk.outbox(args.limit).await?, screen);
    };
    let outgoing = desk.outgoing(id).await?;
    if !screen.json && args.wait.wait.is_none() {
        screen.text(&detail(&outgoing, screen.paint))?;
    }
    wait(&args.wait, outgoing, desk, screen).await
}

/// Ends `send` and `outbox ID`: waits where asked to, prints the dispatch as it then stands, and
/// fails where the step awaited has not come.
pub async fn wait(
    args: &WaitArgs,
    outgoing: Outgoing,
    desk: &DeskClient,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    let Some(step) = args.wait.map(Step::from) else {
        return match screen.json {
            true => screen.object(&outgoing),
            false => screen.next(&format!("pouch outbox {} --wait delivered", outgoing.short)),
        };
    };
    let outgoing = desk.wait(&outgoing.id, step, args.timeout).await?;
    if screen.json {
        screen.object(&outgoing)?;
    } else {
        screen.text(&detail(&outgoing, screen.paint))?;
        screen.next("pouch outbox")?;
    }
    verdict(&outgoing, step)
}

fn verdict(outgoing: &Outgoing, step: Step) -> Result<(), Failure> {
    let short = outgoing.short.clone();
    match (outgoing.progress(step), &outgoing.refusal) {
        (Progress::Reached, _) => Ok(()),
        (Progress::Waiting, _) => Err(Failure::StillQueued { short, step }),
        (Progress::Never, Some(refusal)) => {
            Err(Failure::Refused { short, code: refusal.code.clone(), sentence: refusal.sentence.clone() })
        }
        (Progress::Never, None) => {
            let lost = outgoing.addressees.iter().find(|addressee| addressee.is_lost());
            let by = lost.map(|lost| lost.code.clone()).unwrap_or_default();
            match lost.and_then(|lost| lost.set_aside_reason.clone()) {
                Some(reason) => Err(Failure::SetAside { short, by, reason }),
                None => Err(Failure::Expired { short, by }),
            }
        }
    }
}

fn list(outbox: &[Outgoing], screen: &mut Screen<'_>) -> Result<(), Failure> {
    if screen.json {
        return outbox.iter().try_for_each(|outgoing| screen.object(outgoing));
    }
    let Some(newest) = outbox.iter().max_by(|a, b| a.queued_at.cmp(&b.queued_at)) else {
        screen.text("the outbox is empty\n")?;
        return screen.next("pouch send --to MOD --topic TOPIC \"text\"");
    };
    let rows: Vec<[String; 9]> = outbox.iter().map(row).collect();
    let heading = ["ID", "DTG", "PRECEDENCE", "TOPIC", "TO", "STATE", "WITNESSED", "DUE", "SUBJECT"];
    screen.text(&table(screen.paint, heading, &rows))?;
    screen.next(&format!("pouch outbox {}", newest.short))
}

/// Whom the writer named in a role, each with the number of parties that a group or office became:
/// `ACI (7)`.
pub(super) fn names(outgoing: &Outgoing, role: &str) -> Vec<String> {
    let of_role = outgoing.named.iter().filter(|named| named.role == role);
    let name = |named: &Named| {
        let code = safe_text::line(&named.code);
        let is_party = outgoing.addressees.iter().any(|addressee| addressee.code == named.code);
        match named.parties {
            Some(parties) if !is_party && role != "exempt" => format!("{code} ({parties})"),
            Some(_) | None => code,
        }
    };
    of_role.map(name).collect()
}

/// A line about members of groups that get nothing, where there are any.
pub(super) fn left_out(outgoing: &Outgoing) -> Option<String> {
    let codes: BTreeSet<&str> =
        outgoing.named.iter().flat_map(|named| &named.left_out).map(String::as_str).collect();
    let codes = codes.into_iter().collect::<Vec<_>>().join(", ");
    (!codes.is_empty()).then(|| {
        format!("left out  {}: suspended or revoked; telephone if they must know\n", safe_text::line(&codes))
    })
}

fn row(outgoing: &Outgoing) -> [String; 9] {
    let names = [names(outgoing, "to"), names(outgoing, "info")].concat();
    let subject = safe_text::line(&outgoing.subject);
    [
        outgoing.short.clone(),
        safe_text::line(&outgoing.dtg),
        outgoing.precedence.to_uppercase(),
        safe_text::line(&outgoing.topic),
        names.join(","),
        state(outgoing),
        outgoing.position.map_or_else(String::new, |_| table::witnessed(outgoing.witnessed)),
        time::due(outgoing.addressees.iter().filter_map(|one| one.awaited.as_ref())),
        if outgoing.exercise { format!("EXERCISE {subject}") } else { subject },
    ]
}

/// How far it came, in one or two words: the last step that came at every addressee, or a count.
fn state(outgoing: &Outgoing) -> String {
    if outgoing.state != "accepted" {
        return safe_text::line(&outgoing.state);
    }
    let count =
        |came: fn(&AddresseeState) -> bool| outgoing.addressees.iter().filter(|one| came(one)).count();
    let all = outgoing.addressees.len();
    let set_aside = count(|one| one.set_aside_at.is_some());
    let expired = count(|one| one.is_lost() && one.set_aside_at.is_none());
    let delivered = count(|one| one.delivered_at.is_some());
    let read = count(|one| one.read_at.is_some());
    let acknowledged = count(|one| one.acknowledged_at.is_some());
    let answered = count(|one| one.answered_at.is_some());
    match () {
        () if set_aside > 0 => format!("set aside {set_aside}/{all}"),
        () if expired > 0 => format!("expired {expired}/{all}"),
        () if answered > 0 => format!("answered {answered}/{all}"),
        () if acknowledged > 0 => format!("acknowledged {acknowledged}/{all}"),
        () if read > 0 => format!("read {read}/{all}"),
        () if delivered > 0 => format!("delivered {delivered}/{all}"),
        () => "accepted".to_owned(),
    }
}

fn detail(outgoing: &Outgoing, paint: Paint) -> String {
    let mut text = format!("{}  {}\n", outgoing.short, row(outgoing)[1..5].join("  "));
    text.push_str(&format!("subject   {}\n", safe_text::line(&outgoing.subject)));
    text.push_str(&format!("reference {}\n", safe_text::line(&outgoing.reference)));
    for role in ["to", "info", "exempt"] {
        let names = names(outgoing, role);
        if !names.is_empty() {
            text.push_str(&format!("{role:<9} {}\n", names.join(", ")));
        }
    }
    text.extend(left_out(outgoing));
    let witnessed = Witnessed::words(outgoing.witnessed);
    let position = outgoing.position.map(|position| format!(", position {position} in the log, {witnessed}"));
    let position = position.unwrap_or_default();
    let since = outgoing.accepted_at.as_ref().unwrap_or(&outgoing.queued_at);
    let state = safe_text::line(&outgoing.state);
    text.push_str(&format!("state     {state} since {}{position}\n", time::dtg(since)));
    if let Some(refusal) = &outgoing.refusal {
        let sentence = format!("refused   {}: {}", refusal.code, refusal.sentence);
        text.push_str(&(paint.alarm(&safe_text::line(&sentence)) + "\n"));
    }
    let rows: Vec<[String; 10]> = outgoing.addressees.iter().map(addressee).collect();
    let heading = [
        "ADDRESSEE",
        "ROLE",
        "STATE",
        "DUE",
        "ACCEPTED",
        "DELIVERED",
        "READ",
        "ACKNOWLEDGED",
        "ANSWERED",
        "REMARK",
    ];
    text.push('\n');
    text.push_str(&table(paint, heading, &rows));
    text
}

/// The chain of receipts of one addressee.
fn addressee(state: &AddresseeState) -> [String; 10] {
    let at = |time: &Option<String>| time.as_deref().map_or_else(|| "-".to_owned(), time::dtg);
    let remark = match (&state.set_aside_reason, &state.expired_at) {
        (Some(reason), _) => format!("set aside {}: {reason}", at(&state.set_aside_at)),
        (None, Some(_)) => format!("expired {}: not fetched in time", at(&state.expired_at)),
        (None, None) => state.remark.clone().unwrap_or_default(),
    };
    [
        safe_text::line(&state.code),
        state.role.to_uppercase(),
        safe_text::line(&state.state),
        time::due(&state.awaited),
        at(&state.accepted_at),
        at(&state.delivered_at),
        at(&state.read_at),
        at(&state.acknowledged_at),
        at(&state.answered_at),
        safe_text::line(&remark),
    ]
}
