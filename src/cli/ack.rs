//! `pouch ack`: a person's acknowledgement.

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{DeskArgs, safe_text};
use crate::desk::client::DeskClient;
use crate::desk::view::Mark;

/// Acknowledge a dispatch; its sender gets a signed receipt
#[derive(Args)]
pub struct AckArgs {
    /// Short id or UUID
    #[arg(value_name = "ID")]
    id: String,
    /// A remark that the sender sees; at most 3 KiB
    #[arg(short = 'm', long = "remark", value_name = "TEXT", default_value = "", hide_default_value = true)]
    remark: String,
    /// Who acknowledges; the sender sees this
    #[arg(long, value_name = "NAME", env = "POUCH_WHO", default_value = "", hide_default_value = true)]
    who: String,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// Acknowledges.
pub async fn run(args: &AckArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mark = Mark { who: args.who.clone(), remark: args.remark.clone() };
    let incoming = desk.acknowledge(&args.id, &mark).await?;
    if screen.json {
        return screen.object(&incoming);
    }
    screen.text(&format!(
        "acknowledged {}, register {}: the signed receipt is on its way to {}\n",
        incoming.short,
        incoming.register,
        safe_text::line(&incoming.from),
    ))?;
    screen.next("pouch inbox --unacked")
}
