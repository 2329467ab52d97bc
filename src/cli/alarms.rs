//! `pouch alarms`: what a person must know of, until somebody takes it.

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::table;
use crate::cli::{DeskArgs, safe_text, time};
use crate::desk::client::DeskClient;
use crate::desk::view::{Alarm, Mark};

/// List the alarms that the desk keeps, or take one
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AlarmsArgs {
    /// Those that somebody has taken and those that are over, too
    #[arg(long)]
    all: bool,
    #[command(subcommand)]
    command: Option<AlarmsCommand>,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

#[derive(Subcommand)]
enum AlarmsCommand {
    /// Take an alarm: somebody looks after it, and `pouch status` shows it no more
    Take {
        /// As `pouch alarms` lists it
        #[arg(value_name = "KEY")]
        key: String,
        /// Who takes it
        #[arg(long, value_name = "NAME", env = "POUCH_WHO", default_value = "", hide_default_value = true)]
        who: String,
    },
    /// Close an alarm: what it was about is over
    Close {
        /// As `pouch alarms` lists it
        #[arg(value_name = "KEY")]
        key: String,
        /// Who says so
        #[arg(long, value_name = "NAME", env = "POUCH_WHO", default_value = "", hide_default_value = true)]
        who: String,
    },
}

/// Lists, takes or closes.
pub async fn run(args: &AlarmsArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mark = |who: &String| Mark { who: who.clone(), ..Mark::default() };
    match &args.command {
        Some(AlarmsCommand::Take { key, who }) => {
            return done("taken", &desk.take_alarm(key, &mark(who)).await?, screen);
        }
        Some(AlarmsCommand::Close { key, who }) => {
            return done("closed", &desk.close_alarm(key, &mark(who)).await?, screen);
        }
        None => {}
    }
    let mut alarms = desk.alarms().await?;
    alarms.retain(|alarm| args.all || (alarm.taken_at.is_none() && alarm.closed_at.is_none()));
    if screen.json {
        return alarms.iter().try_for_each(|alarm| screen.object(alarm));
    }
    let Some(newest) = alarms.last() else {
        screen.text("no alarm\n")?;
        return screen.next("pouch status");
    };
    let rows: Vec<[String; 5]> = alarms.iter().map(row).collect();
    screen.text(&table(screen.paint, ["KEY", "SINCE", "TAKEN", "OVER", "ALARM"], &rows))?;
    screen.next(&format!("pouch alarms take {}", safe_text::line(&newest.key)))
}

fn done(what: &str, alarm: &Alarm, screen: &mut Screen<'_>) -> Result<(), Failure> {
    if screen.json {
        return screen.object(alarm);
    }
    screen.text(&format!("{what}: {}\n", safe_text::line(&alarm.sentence)))?;
    screen.next("pouch alarms")
}

fn row(alarm: &Alarm) -> [String; 5] {
    let by = |at: &Option<String>, who: &str| {
        let at = at.as_deref().map_or_else(|| "-".to_owned(), time::dtg);
        format!("{at} {}", safe_text::line(who)).trim_end().to_owned()
    };
    [
        safe_text::line(&alarm.key),
        time::dtg(&alarm.at),
        by(&alarm.taken_at, &alarm.taken_by),
        by(&alarm.closed_at, &alarm.closed_by),
        safe_text::line(&alarm.sentence),
    ]
}
