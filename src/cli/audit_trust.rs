//! `pouch audit trust`: the bundle that whoever is to check this bloc's log or proofs must be given.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{DeskArgs, at_desk, safe_text};
use crate::config;
use crate::desk::view::Trust;
use crate::pki;
use crate::roster::TrustBundle;
use crate::tiles::{self, DiskFolder};

#[derive(Subcommand)]
pub enum TrustCommand {
    /// Write the trust bundle that names the roster in force, by this desk's word or by a log that is verified
    Export(ExportArgs),
}

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    desk: DeskArgs,
    /// Folder of a log instead of a desk: `log` in the relay's folder, or a copy of it
    #[arg(long, value_name = "DIR", requires = "trust")]
    log: Option<PathBuf>,
    /// Trust bundle to verify that log by; the new one follows from it
    #[arg(long, value_name = "FILE", requires = "log")]
    trust: Option<PathBuf>,
    /// Where the bundle goes; without it to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs one of the commands.
pub fn run(command: &TrustCommand) -> Result<(), Failure> {
    let TrustCommand::Export(args) = command;
    at_desk(&args.desk, async |desk, screen| {
        let trust = match (&args.log, &args.trust) {
            (Some(log), Some(trust)) => of_log(log, trust)?,
            (None, _) | (_, None) => desk.trust().await?,
        };
        write(&trust, args, screen)
    })
}

/// Follows the rosters of a log from an older bundle on. One that too few have witnessed leads nowhere.
fn of_log(log: &std::path::Path, trust: &std::path::Path) -> Result<Trust, Failure> {
    let trust = config::trust_bundle(trust)?;
    let found = tiles::verify(&DiskFolder::observe(log), &trust, None)?;
    if !found.is_witnessed {
        return Err(Failure::NothingProven { found: found.witnesses.len(), quorum: found.quorum });
    }
    let bundle = TrustBundle::naming(&found.roster, trust.root_key_sha256);
    Ok(Trust { roster_version: bundle.roster_version, bundle: bundle.to_string() })
}

fn write(trust: &Trust, args: &ExportArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    match &args.out {
        Some(out) => {
            pki::write_public(out, trust.bundle.as_bytes())?;
            if screen.json {
                return screen.object(trust);
            }
            let (version, out) = (trust.roster_version, out.display().to_string());
            let text = format!("Wrote the trust bundle of roster {version} to {}.\n", safe_text::line(&out));
            screen.text(&(text + "Hand it over on paper or in person: whoever can change it can forge all that it proves.\n"))
        }
        None if screen.json => screen.object(trust),
        None => screen.text(&safe_text::body(&trust.bundle)),
    }
}
