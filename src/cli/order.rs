//! `pouch order`: what the ministry narrows at once, without a new roster.

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{DeskArgs, safe_text, time};
use crate::desk::client::DeskClient;
use crate::desk::view::NewOrder;

/// Orders of the ministry, given at the hub's desk
#[derive(Args)]
pub struct OrderArgs {
    #[command(subcommand)]
    order: OrderCommand,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

#[derive(Subcommand)]
enum OrderCommand {
    /// Close a mission's sessions and admit it no more, until a time or until it is lifted
    Suspend {
        /// The mission's code
        #[arg(value_name = "CODE")]
        party: String,
        /// Date-time group, as 241200ZNOV26; without it until lifted
        #[arg(long, value_name = "DTG", value_parser = time::from_dtg)]
        until: Option<String>,
    },
    /// End a suspension by order; one in the roster stays
    Lift {
        /// The mission's code
        #[arg(value_name = "CODE")]
        party: String,
    },
    /// MINIMIZE: every desk holds ROUTINE and PRIORITY back until a time
    Minimize {
        /// Date-time group, as 241200ZNOV26
        #[arg(long, value_name = "DTG", value_parser = time::from_dtg, required_unless_present = "end")]
        until: Option<String>,
        /// End it now
        #[arg(long, conflicts_with = "until")]
        end: bool,
    },
    /// Record that what the relay keeps of one record is to be erased; nothing carries it out yet
    Erase {
        /// Position in the log
        #[arg(value_name = "POSITION")]
        position: u64,
    },
}

/// Gives one order and waits until it is in force.
pub async fn run(args: &OrderArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let (order, what) = described(&args.order);
    let in_force = desk.order(&order).await?;
    if screen.json {
        return screen.object(&in_force);
    }
    let number = in_force.number.unwrap_or_default();
    let position = in_force.position.unwrap_or_default();
    screen
        .text(&format!("order {number} is in force at position {position}: {}\n", safe_text::line(&what)))?;
    screen.next("pouch status")
}

fn described(order: &OrderCommand) -> (NewOrder, String) {
    let new = |kind: &str| NewOrder { kind: kind.to_owned(), ..NewOrder::default() };
    match order {
        OrderCommand::Suspend { party, until } => {
            let until = until.clone().unwrap_or_default();
            let when = if until.is_empty() { "it is lifted".to_owned() } else { time::dtg(&until) };
            let what = format!("{party} is suspended until {when}");
            (NewOrder { party: party.clone(), until, ..new("suspend") }, what)
        }
        OrderCommand::Lift { party } => {
            let what = format!("{party} is no longer suspended by order");
            (NewOrder { party: party.clone(), ..new("lift") }, what)
        }
        OrderCommand::Minimize { until, .. } => {
            let until = until.clone().unwrap_or_else(|| "now".to_owned());
            let what = match until.as_str() {
                "now" => "MINIMIZE has ended, and what waited goes out".to_owned(),
                until => format!("MINIMIZE until {}: only IMMEDIATE and FLASH go out", time::dtg(until)),
            };
            (NewOrder { until, ..new("minimize") }, what)
        }
        OrderCommand::Erase { position } => {
            let what = format!("position {position} is to be erased, which no version does yet");
            (NewOrder { position: Some(*position), ..new("erase") }, what)
        }
    }
}
