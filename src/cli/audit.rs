//! `pouch audit`: checks a log's files without asking anybody whether they are right.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{at_desk, audit_check, audit_prove, audit_trust, paint, safe_text, time};
use crate::config;
use crate::pki::PkiError;
use crate::relay::log::describe_act;
use crate::roster::TrustBundle;
use crate::tiles::{
    self, DiskFolder, Fault, Folder, LogError, LogUrl, NoLogUrl, ReaderTls, RemoteFolder, VerifiedLog,
};
use crate::tls::{self, Credentials, KeyExchange, TlsError};

/// Check an audit log: every leaf, every tile, signatures and witnesses
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Verify a whole log against a trust bundle; exit 0, 8 where something was changed, 9 where nothing is proven
    Verify(VerifyArgs),
    /// Print a log's leaves: administrative ones in clear, of all others that they are there
    Show(ShowArgs),
    Prove(audit_prove::ProveArgs),
    Check(audit_check::CheckArgs),
    /// The trust bundle: what everything else is verified from
    #[command(subcommand)]
    Trust(audit_trust::TrustCommand),
}

/// Who reads a log over HTTPS.
#[derive(Args)]
pub(super) struct ReaderArgs {
    /// Folder with tls.key and tls.pem of a party or an auditor, for https://
    #[arg(long, value_name = "DIR")]
    pki: Option<PathBuf>,
    /// Certificate of the root CA, for https://; without it root.pem in the folder that --pki names
    #[arg(long, value_name = "FILE", requires = "pki")]
    root: Option<PathBuf>,
}

#[derive(Args)]
pub struct VerifyArgs {
    /// Folder of the log (`log` in the relay's folder, or a copy of it), or its address: https:// at a relay, http:// at
    /// a mirror
    #[arg(value_name = "DIR|URL")]
    log: String,
    #[command(flatten)]
    reader: ReaderArgs,
    /// Trust bundle, as you got it from the ministry; never one that came with the log
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// A checkpoint that you kept earlier: the log must begin with what it covers
    #[arg(long, value_name = "FILE")]
    old: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ShowArgs {
    /// Folder of the log: `log` in the relay's folder, or a copy of it
    #[arg(value_name = "DIR")]
    log: PathBuf,
    /// Print administrative leaves alone
    #[arg(long)]
    administrative: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// What a verification found, for programs.
#[derive(Serialize)]
struct Verdict<'a> {
    origin: &'a str,
    size: u64,
    root: String,
    roster_version: u32,
    administrative: u64,
    witnesses: Vec<&'a str>,
    quorum: usize,
    proven: bool,
}

/// Runs one of the commands.
pub fn run(command: &AuditCommand) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    match command {
        AuditCommand::Verify(args) => verify(args, &mut Screen::new(&mut out, args.json, paint())),
        AuditCommand::Show(args) => show(args, &mut Screen::new(&mut out, args.json, paint())),
        AuditCommand::Prove(args) => {
            at_desk(&args.desk, async |desk, screen| audit_prove::run(args, desk, screen).await)
        }
        AuditCommand::Check(args) => audit_check::run(args, &mut Screen::new(&mut out, args.json, paint())),
        AuditCommand::Trust(command) => audit_trust::run(command),
    }
}

fn verify(args: &VerifyArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let trust = config::trust_bundle(&args.trust)?;
    let old = args.old.as_deref().map(read).transpose()?;
    let folder = folder(&args.log, &args.reader, &trust)?;
    let found = tiles::verify(&*folder, &trust, old.as_deref()).map_err(|fault| unread(&args.log, fault))?;
    let codes = codes(&found);
    let VerifiedLog { checkpoint, quorum, is_witnessed, administrative, roster, .. } = &found;
    if screen.json {
        screen.object(&Verdict {
            origin: &checkpoint.origin,
            size: checkpoint.size,
            root: checkpoint.root.to_string(),
            roster_version: roster.version(),
            administrative: *administrative,
            witnesses: codes,
            quorum: *quorum,
            proven: *is_witnessed,
        })?;
    } else {
        let witnesses = roster.witnesses().count();
        screen.text(&format!(
            "log        {}\n\
             leaves     {}, of them {administrative} administrative: each is in the tree, all tiles fit\n\
             root       {}\n\
             signed     by the log's key in roster {}\n\
             witnessed  by {} of {witnesses}, {quorum} are a quorum: {}\n",
            safe_text::line(&checkpoint.origin),
            checkpoint.size,
            checkpoint.root,
            roster.version(),
            codes.len(),
            safe_text::line(&codes.join(" ")),
        ))?;
    }
    if *is_witnessed {
        Ok(())
    } else {
        Err(Failure::NothingProven { found: found.witnesses.len(), quorum: *quorum })
    }
}

/// A log by its folder or its address.
pub(super) fn folder(
    log: &str,
    reader: &ReaderArgs,
    trust: &TrustBundle,
) -> Result<Box<dyn Folder>, Failure> {
    if !LogUrl::is_meant(log) {
        return Ok(Box::new(DiskFolder::observe(Path::new(log))));
    }
    let url: LogUrl = log.parse().map_err(|error: NoLogUrl| Failure::Usage(error.to_string()))?;
    let tls = match (&reader.pki, url.is_https()) {
        (None, true) => return Err(Failure::Usage(NO_CERTIFICATE.to_owned())),
        (Some(pki), true) => Some(reader_tls(pki, reader.root.as_deref(), trust).map_err(PkiError::from)?),
        (_, false) => None,
    };
    Ok(Box::new(RemoteFolder::new(url, tls).map_err(Failure::System)?))
}

/// What is wrong with a log: an address that could not be read is not a log that is false.
pub(super) fn unread(log: &str, fault: Fault) -> Failure {
    match fault {
        Fault::Log(LogError::File { path, source }) if LogUrl::is_meant(log) => {
            Failure::Remote { url: log.to_owned(), name: path.display().to_string(), source }
        }
        fault => fault.into(),
    }
}

const NO_CERTIFICATE: &str = "the relay shows its log to whom the roster lists: name the folder with your tls.key and tls.pem with --pki";

fn reader_tls(pki: &Path, root: Option<&Path>, trust: &TrustBundle) -> Result<ReaderTls, TlsError> {
    let beside = pki.join("root.pem");
    let root = tls::load_root(root.unwrap_or(&beside), &trust.root_key_sha256)?;
    let credentials = Credentials::load(pki)?;
    let config = tls::client_config(&credentials, &root, &trust.trust_domain, KeyExchange::Hybrid)?;
    Ok((tls::http_client_config(&config), tls::server_name(&trust.trust_domain)?))
}

fn codes(found: &VerifiedLog) -> Vec<&str> {
    let code = |number| found.roster.party(number).map_or("?", |party| party.code.as_str());
    found.witnesses.iter().map(|number| code(*number)).collect()
}

/// One leaf, as a line.
#[derive(Serialize)]
struct LeafLine {
    index: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_time_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    party: Option<u32>,
    what: String,
}

fn show(args: &ShowArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let folder = DiskFolder::observe(&args.log);
    tiles::leaves(&folder, &mut |index, leaf| {
        let line = match leaf {
            None if args.administrative => return Ok(()),
            None => LeafLine {
                index,
                kind: "traffic",
                log_time_us: None,
                party: None,
                what: "a commitment".to_owned(),
            },
            Some(leaf) => {
                let (kind, party, what) = describe_act(&leaf.act);
                LeafLine { index, kind, log_time_us: Some(leaf.log_time_us), party: Some(party), what }
            }
        };
        if screen.json { screen.object(&line) } else { screen.text(&described(&line)) }
    })
}

fn described(line: &LeafLine) -> String {
    let at = line.log_time_us.map_or_else(|| " ".repeat(14), time::seconds);
    let who = line.party.filter(|party| *party > 0).map_or(String::new(), |party| party.to_string());
    let text = format!("{:>8}  {at:<14}  {:<11}  {who:<5}  {}", line.index, line.kind, line.what);
    safe_text::line(text.trim_end()) + "\n"
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|source| Failure::File { path: path.display().to_string(), source })
}
