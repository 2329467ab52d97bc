//! `pouch bench`: figures of a relay, its own or one that runs already.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bench::{self, BenchError, Options, Target};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table;

/// Measure a relay: W1, eight desks that send all they can to one; W2, one envelope at a time; W3, one desk to
/// a hundred; W4, two thousand sessions that say nothing
#[derive(Args)]
pub struct BenchArgs {
    /// A relay that runs already with example keys; without it one is started and removed again, on the
    /// disk that TMPDIR names
    #[arg(value_name = "ADDR", requires = "pki")]
    address: Option<SocketAddr>,
    /// Folder of that relay's example PKI, as `pouch pki example` makes it
    #[arg(long, value_name = "DIR", requires = "address")]
    pki: Option<PathBuf>,
    /// Run each workload once more with receivers that verify signatures, hashes and paths
    #[arg(long)]
    verify: bool,
    /// Seconds that each workload submits
    #[arg(long, value_name = "N", default_value_t = bench::SECONDS_DEFAULT,
        value_parser = clap::value_parser!(u64).range(1..=bench::SECONDS_MAX))]
    seconds: u64,
    /// Sessions that W4 opens, each of another mission
    #[arg(long, value_name = "N", default_value_t = bench::SESSIONS as u64,
        value_parser = clap::value_parser!(u64).range(1..=bench::SESSIONS as u64))]
    sessions: u64,
    /// Print one JSON object a line, each as soon as it stands
    #[arg(long)]
    pub json: bool,
}

/// Measures and prints. Ctrl-C ends it without leaving a relay or a folder behind.
pub fn run(args: &BenchArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::System)?;
    runtime.block_on(measure(args, screen))
}

async fn measure(args: &BenchArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let target = args.address.zip(args.pki.clone()).map(|(address, pki)| Target { address, pki });
    let time = Duration::from_secs(args.seconds);
    let sessions = usize::try_from(args.sessions).expect("at most the bound above");
    let options = Options { target, time, sessions, verify: args.verify };
    let mut lines = Vec::new();
    let mut shown = Ok(());
    let measured = bench::run(&options, |line| {
        if screen.json && shown.is_ok() {
            shown = screen.object(line);
        }
        lines.push(line.clone());
    });
    tokio::select! {
        measured = measured => measured?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(Failure::System)?;
            return Err(BenchError::Interrupted.into());
        }
    }
    shown?;
    if screen.json {
        return Ok(());
    }
    let text = table::table(screen.paint, ["WORKLOAD", "FIGURE", "VALUE"], &bench::rows(&lines));
    screen.text(&text)
}
