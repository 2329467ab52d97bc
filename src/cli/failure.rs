//! Why a command failed, and the exit code that says so: a contract with scripts.

use std::path::PathBuf;

use crate::audit::{ProofFault, ProofFileError};
use crate::bench::BenchError;
use crate::cli::{pki, safe_text};
use crate::config::ConfigError;
use crate::demo::DemoError;
use crate::desk::client::ClientError;
use crate::desk::view::Step;
use crate::journal::JournalError;
use crate::pki::PkiError;
use crate::relay::log::LogError;
use crate::tiles::Fault;

/// A command's failure. [`Failure::exit_code`] is the contract; the text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was typed cannot be done as typed.
    #[error("{0}")]
    Usage(String),
    /// A file named on the command line cannot be read or written.
    #[error("{path}: {source}: check the name and who may read it")]
    File {
        /// As typed.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The desk did not answer, or said no.
    #[error(transparent)]
    Desk(#[from] ClientError),
    /// The relay refused the dispatch by its policy.
    #[error("{short} was refused: {code}: {sentence}: correct it and send it again")]
    Refused {
        /// Short id.
        short: String,
        /// The relay's code.
        code: String,
        /// The relay's words.
        sentence: String,
    },
    /// An addressee's desk set the dispatch aside instead of opening it.
    #[error("{short} was set aside by {by}: {reason}: ask {by} by telephone what its desk shows")]
    SetAside {
        /// Short id.
        short: String,
        /// The addressee's code.
        by: String,
        /// Its desk's reason.
        reason: String,
    },
    /// An addressee's desk did not fetch the dispatch in time.
    #[error(
        "{short} expired before {by} fetched it: send it again with a longer --expires, or telephone {by}"
    )]
    Expired {
        /// Short id.
        short: String,
        /// The addressee's code.
        by: String,
    },
    /// The time to wait is over; the dispatch stays in the outbox and goes on by itself.
    #[error("{short} is not yet {}: it stays queued and goes on by itself: `pouch outbox {short}` shows how far it came", past(*.step))]
    StillQueued {
        /// Short id.
        short: String,
        /// What was waited for.
        step: Step,
    },
    /// The command of `pouch watch --exec` does not take a dispatch.
    #[error(
        "the command failed {attempts} times with {short}, register {register} ({ended}): mend it and start `pouch watch` again: it goes on there"
    )]
    CommandFailed {
        /// Short id.
        short: String,
        /// Where the cursor stays.
        register: u64,
        /// How often it was tried.
        attempts: u32,
        /// How it ended last.
        ended: std::process::ExitStatus,
    },
    /// The demo could not be run, found, or did not pass its check.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// Certificates or rosters could not be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A daemon's configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are no figures.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A daemon met keys that are public.
    #[error("trust domain {0} is for examples, whose keys are public: make your own with `pouch pki init`")]
    ExampleDomain(String),
    /// A daemon ended by itself; with its own exit code.
    #[error("{sentence}")]
    Daemon {
        /// DESIGN 8 and 11.
        exit_code: u8,
        /// Why, and what to do.
        sentence: String,
    },
    /// No relay answers on its admin socket.
    #[error("no relay answers on {}: {source}: start `pouch relay`, or name its folder with --dir", socket.display())]
    Relay {
        /// The socket.
        socket: PathBuf,
        /// What the system says, or what is wrong with the answer.
        source: std::io::Error,
    },
    /// The relay's log cannot be read, or is not what a relay wrote.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The audit log is not what it claims, or cannot be read.
    #[error("{0}: keep a copy of the folder as it is, and tell the ministry and one witness")]
    Audit(#[from] Fault),
    /// A log behind an address cannot be read.
    #[error(
        "{url}: {name}: {source}: check address and certificate, and that `log_listen` is set at the relay"
    )]
    Remote {
        /// As typed.
        url: String,
        /// The file that was asked for.
        name: String,
        /// What went wrong, or what was answered.
        source: std::io::Error,
    },
    /// The log's proof of a dispatch is not there yet.
    #[error(
        "{id}: the desk has no proof yet that the log holds it: it comes with the next checkpoints, try again in a minute (`pouch status`)"
    )]
    ProofOwed {
        /// As typed.
        id: String,
    },
    /// The desk's answer has not the form that this version knows.
    #[error("the desk's answer {0}: use the same version of pouch as the desk")]
    Answer(&'static str),
    /// A text is no proof file.
    #[error("not a proof file: {0}")]
    ProofFile(#[from] ProofFileError),
    /// A proof file does not prove its dispatch.
    #[error("not proven: {0}")]
    Proof(#[from] ProofFault),
    /// A proof file fits itself, and nobody vouches for it.
    #[error("internally consistent, nothing proven: give the ministry's trust bundle with --trust")]
    NoTrust,
    /// All of the log fits, and too few have witnessed it.
    #[error(
        "the files fit each other, but {found} witnesses have signed and a quorum is {quorum}: nothing is proven"
    )]
    NothingProven {
        /// Cosignatures that count.
        found: usize,
        /// How many it takes; 0 where the roster has no witness.
        quorum: usize,
    },
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    /// An answer cannot be written as JSON.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
    /// The operating system refused what every program needs.
    #[error("cannot start: {0}: free memory or raise the limits on threads and files")]
    System(std::io::Error),
}

/// Exit codes of DESIGN 11 that are made here.
mod code {
    pub const OTHER: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const UNREACHABLE: u8 = 3;
    pub const REFUSED: u8 = 4;
    pub const STILL_QUEUED: u8 = 5;
    pub const UNKNOWN_ADDRESSEE: u8 = 6;
    pub const NOT_PERMITTED: u8 = 7;
    pub const INTEGRITY: u8 = 8;
    pub const NOTHING_PROVEN: u8 = 9;
    pub const CONFIGURATION: u8 = 78;
}

impl Failure {
    /// The exit code; every one but 1 stands in DESIGN 11.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::File { .. } => code::USAGE,
            Failure::Desk(error) => desk_exit_code(error),
            Failure::Refused { .. } | Failure::SetAside { .. } | Failure::Expired { .. } => code::REFUSED,
            Failure::StillQueued { .. } => code::STILL_QUEUED,
            Failure::Config(_) | Failure::ExampleDomain(_) => code::CONFIGURATION,
            Failure::Demo(error) => demo_exit_code(error),
            Failure::Daemon { exit_code, .. } => *exit_code,
            Failure::Log(LogError::Journal(JournalError::Configuration { .. })) => code::USAGE,
            Failure::Relay { .. } | Failure::Remote { .. } => code::UNREACHABLE,
            Failure::Audit(Fault::NoCheckpoint)
            | Failure::NothingProven { .. }
            | Failure::NoTrust
            | Failure::ProofOwed { .. } => code::NOTHING_PROVEN,
            Failure::Proof(fault) if fault.is_lack() => code::NOTHING_PROVEN,
            Failure::ProofFile(_) | Failure::Proof(_) => code::INTEGRITY,
            Failure::Audit(Fault::Log(_)) => code::USAGE,
            Failure::Audit(_) => code::INTEGRITY,
            Failure::Log(_) => code::INTEGRITY,
            Failure::Pki(error) => pki::exit_code(error),
            Failure::Bench(BenchError::Unreachable { .. }) => code::UNREACHABLE,
            Failure::Bench(_) => code::OTHER,
            Failure::CommandFailed { .. } | Failure::Answer(_) => code::OTHER,
            Failure::Output(_) | Failure::Json(_) | Failure::System(_) => code::OTHER,
        }
    }

    /// One line for standard error, safe for a terminal: a relay's words may be in it.
    pub fn sentence(&self) -> String {
        safe_text::line(&self.to_string())
    }
}

fn demo_exit_code(error: &DemoError) -> u8 {
    match error {
        DemoError::NotRunning => code::UNREACHABLE,
        DemoError::UnknownDesk { .. } | DemoError::NotEmpty(_) | DemoError::PathUnusable(_) => code::USAGE,
        DemoError::Pki(_)
        | DemoError::Desk { .. }
        | DemoError::File { .. }
        | DemoError::Pointer { .. }
        | DemoError::PointerNotOurs(_)
        | DemoError::Port(_)
        | DemoError::Spawn { .. }
        | DemoError::Died(_)
        | DemoError::Late { .. }
        | DemoError::Log(_)
        | DemoError::Trust(_)
        | DemoError::NothingToTamper
        | DemoError::ChecksFailed(_)
        | DemoError::Interrupted
        | DemoError::Output(_)
        | DemoError::System(_) => code::OTHER,
    }
}

fn desk_exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Unreachable { .. } | ClientError::Broken(_) | ClientError::Silent(_) => {
            code::UNREACHABLE
        }
        ClientError::Incomplete(_) | ClientError::NotUnderstood(_) => code::OTHER,
        ClientError::Refused(error) => match error.code.as_str() {
            "usage" | "not-found" | "too-large" => code::USAGE,
            "unknown-addressee" => code::UNKNOWN_ADDRESSEE,
            "not-permitted" => code::NOT_PERMITTED,
            "full" | "declined" | "taken" => code::REFUSED,
            "no-contact" => code::UNREACHABLE,
            "not-proven" => code::NOTHING_PROVEN,
            "unanswered" => code::STILL_QUEUED,
            _ => code::OTHER,
        },
    }
}

fn past(step: Step) -> &'static str {
    match step {
        Step::Accepted => "accepted",
        Step::Delivered => "delivered",
        Step::Read => "read",
        Step::Ack => "acknowledged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::view::ApiError;

    fn refused(code: &str) -> u8 {
        let error = ApiError { code: code.to_owned(), sentence: String::new() };
        Failure::Desk(ClientError::Refused(error)).exit_code()
    }

    #[test]
    fn exit_codes_are_the_contract_of_the_design() {
        let unreachable =
            ClientError::Unreachable { socket: "x".into(), source: std::io::ErrorKind::NotFound.into() };
        assert_eq!(Failure::Desk(unreachable).exit_code(), 3);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(["usage", "not-found", "too-large"].map(refused), [2, 2, 2]);
        assert_eq!(["unknown-addressee", "not-permitted", "full", "internal"].map(refused), [6, 7, 4, 1]);
        assert_eq!(refused("not-proven"), 9);
        let [short, code, sentence] = ["K7QF", "TOPIC", "no"].map(str::to_owned);
        assert_eq!(Failure::Refused { short: short.clone(), code, sentence }.exit_code(), 4);
        assert_eq!(Failure::StillQueued { short, step: Step::Ack }.exit_code(), 5);
        assert_eq!(Failure::ExampleDomain("bloc.example".to_owned()).exit_code(), 78);
    }

    #[test]
    fn a_relays_words_reach_the_terminal_as_one_harmless_line() {
        let [short, code, sentence] = ["K7QF", "TOPIC", "no\x1b[2J\n"].map(str::to_owned);
        let text = Failure::Refused { short, code, sentence }.sentence();
        assert_eq!(text, "K7QF was refused: TOPIC: no␛[2J␊: correct it and send it again");
    }
}
