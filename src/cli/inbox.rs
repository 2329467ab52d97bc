//! `pouch inbox`: what came in.

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::{self, table};
use crate::cli::{DeskArgs, safe_text, time};
use crate::desk::client::DeskClient;
use crate::desk::view::{InboxFilter, Incoming};

/// List what came in, oldest first
#[derive(Args)]
pub struct InboxArgs {
    /// Only what asks for acknowledgement and has none
    #[arg(long)]
    unacked: bool,
    /// Only this topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only what has a higher register number
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// Lists the inbox.
pub async fn run(args: &InboxArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let filter = InboxFilter {
        after: args.after,
        topic: args.topic.clone(),
        unacked: args.unacked.then_some(true),
        limit: args.limit,
        wait_s: None,
    };
    let inbox = desk.inbox(&filter).await?;
    if screen.json {
        return inbox.iter().try_for_each(|incoming| screen.object(incoming));
    }
    let Some(last) = inbox.last() else {
        screen.text("nothing here\n")?;
        return screen.next("pouch status");
    };
    let rows: Vec<[String; 10]> = inbox.iter().map(row).collect();
    let heading = ["NO", "ID", "FROM", "DTG", "PRECEDENCE", "TOPIC", "STATE", "WITNESSED", "DUE", "SUBJECT"];
    screen.text(&table(screen.paint, heading, &rows))?;
    let next = inbox.iter().find(|incoming| incoming.read_at.is_none()).unwrap_or(last);
    screen.next(&format!("pouch read {}", next.short))
}

/// A dispatch as one row: number, id, sender, date-time group, precedence, topic, state, who
/// witnessed it, what is due, subject.
pub(super) fn row(incoming: &Incoming) -> [String; 10] {
    let subject = safe_text::line(&incoming.subject);
    [
        incoming.register.to_string(),
        incoming.short.clone(),
        safe_text::line(&incoming.from),
        safe_text::line(&incoming.dtg),
        safe_text::line(&incoming.precedence.to_uppercase()),
        safe_text::line(&incoming.topic),
        state(incoming).to_owned(),
        table::witnessed(incoming.witnessed),
        time::due(&incoming.awaited),
        if incoming.exercise { format!("EXERCISE {subject}") } else { subject },
    ]
}

fn state(incoming: &Incoming) -> &'static str {
    if incoming.set_aside.is_some() {
        "set aside"
    } else if incoming.awaited.as_ref().is_some_and(|awaited| awaited.step == "answer") {
        "answer owed"
    } else if incoming.acknowledged_at.is_some() {
        "acknowledged"
    } else if incoming.acknowledgement_required {
        "ack owed"
    } else if incoming.read_at.is_some() {
        "read"
    } else {
        "new"
    }
}
