//! Why there is no contact, in words for the clerk at the box: what is wrong, and what to do.

use crate::{
    desk::link::verify::Unproven,
    session::hello::HelloError,
    wire::{Malformed, pb},
};

/// Why a session ended or none could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// Nothing came for too long.
    #[error("the relay fell silent: the line may be down; the desk tries again by itself")]
    Silent,
    /// The relay broke the protocol.
    #[error("the relay sent {0}: relay and desk may be of different versions; tell the ministry")]
    Protocol(String),
    /// The relay said something that its signature does not prove.
    #[error("the relay said something that is not proven ({0}): tell the ministry")]
    Unproven(#[from] Unproven),
    /// Welcome is not signed by the relay of the roster, or not for this connection.
    #[error("the relay's Welcome is not believed ({0}): tell the ministry before sending anything")]
    Welcome(#[from] HelloError),
    /// No roster came that the trust bundle vouches for.
    #[error("the relay has not the roster that trust.toml names: compare trust.toml with the ministry's")]
    NoRoster,
    /// The TLS peer is another relay than the roster's, or shows a revoked certificate.
    #[error(
        "{0} answered, but its certificate is not the one of the roster's relay: check the relay addresses with the ministry"
    )]
    WrongRelay(String),
    /// This desk's certificate names nobody in the roster that it verified.
    #[error("this desk is not in the roster: ask the ministry to enter it (`pouch roster add`)")]
    NotInRoster,
    /// The relay knows more of this desk than its store, which has taken a new incarnation.
    #[error("this desk's store is older than what the relay knows of it: it begins again as a new store")]
    Restored,
    /// The roster names a new log, which the store has begun with.
    #[error("the relay has begun a new log: the desk begins with it and comes back by itself")]
    NewLog,
    /// The relay has lost what it had accepted.
    #[error(
        "the relay has lost dispatches or receipts that it had accepted, so no mail goes out or comes in: telephone the ministry (`pouch alarms`)"
    )]
    RelayBehind,
    /// The relay said why.
    #[error(transparent)]
    Goodbye(#[from] RelayGoodbye),
    /// The daemon stops.
    #[error("the desk is stopping")]
    Stopping,
}

impl LinkEnd {
    /// What the desk says to the relay before it closes; `None` where nobody listens any more.
    pub(super) fn goodbye_code(&self) -> Option<u32> {
        let code = match self {
            LinkEnd::Goodbye(_) => return None,
            LinkEnd::Silent => pb::GoodbyeCode::Silent,
            LinkEnd::Restored => pb::GoodbyeCode::IncarnationOld,
            LinkEnd::Stopping | LinkEnd::NewLog => pb::GoodbyeCode::Shutdown,
            LinkEnd::RelayBehind => pb::GoodbyeCode::LogBehind,
            LinkEnd::NotInRoster => pb::GoodbyeCode::NotInRoster,
            LinkEnd::Welcome(_) => pb::GoodbyeCode::BadSignature,
            LinkEnd::Protocol(_) | LinkEnd::Unproven(_) | LinkEnd::NoRoster | LinkEnd::WrongRelay(_) => {
                pb::GoodbyeCode::Protocol
            }
        };
        Some(code as u32)
    }
}

impl From<Malformed> for LinkEnd {
    fn from(problem: Malformed) -> LinkEnd {
        LinkEnd::Protocol(problem.to_string())
    }
}

/// The relay's last frame, as a reason for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayGoodbye {
    /// SHUTDOWN
    #[error("the relay is stopping: the desk tries again by itself")]
    Shutdown,
    /// PROTOCOL
    #[error("the relay did not understand this desk: they may be of different versions; tell the ministry")]
    Protocol,
    /// NOT_IN_ROSTER
    #[error("the relay's roster does not have this desk: ask the ministry to enter it (`pouch roster add`)")]
    NotInRoster,
    /// SUSPENDED
    #[error("this desk is suspended or revoked in the roster: call the ministry")]
    Suspended,
    /// BAD_SIGNATURE
    #[error(
        "the relay does not know this desk's sign key: compare sign.key's public half with the roster (`pouch pki show`)"
    )]
    BadSignature,
    /// INCARNATION_OLD, with the incarnation that the relay knows.
    #[error(
        "the log knows a newer store of this desk: this one takes the next incarnation and comes back by itself"
    )]
    IncarnationOld(u32),
    /// TAKEN_OVER
    #[error("another daemon with this desk's keys connected: make sure that only one runs")]
    TakenOver,
    /// CLONED
    #[error("two machines claim to be this desk: stop the one that should not run, and tell the ministry")]
    Cloned,
    /// SILENT
    #[error("the relay heard nothing from this desk: the line may be down; the desk tries again by itself")]
    Silent,
    /// NOT_READY
    #[error("the relay has no roster yet: the ministry must give it one; the desk tries again by itself")]
    NotReady,
    /// VERSION
    #[error("relay and desk speak no protocol version in common: update the older one")]
    Version,
    /// TAKE_OVER_SOON
    #[error("the relay still holds this desk's last session: the desk tries again by itself")]
    TakeOverSoon,
    /// RATE
    #[error(
        "this desk asked more of the relay than it takes within a minute: it goes on by itself; make sure that only one machine has its keys"
    )]
    Rate,
    /// LOG_BEHIND, which only a desk says.
    #[error(
        "the relay claims that this desk has lost its log: relay and desk may be of different versions; tell the ministry"
    )]
    LogBehind,
    /// A code that this version does not know.
    #[error("the relay ended the session with code {0}: this desk may need an update")]
    Unknown(u32),
}

impl From<pb::Goodbye> for RelayGoodbye {
    fn from(goodbye: pb::Goodbye) -> RelayGoodbye {
        use pb::GoodbyeCode as Code;
        let code = i32::try_from(goodbye.code).ok().and_then(|code| Code::try_from(code).ok());
        match code {
            Some(Code::Shutdown) => RelayGoodbye::Shutdown,
            Some(Code::Protocol) => RelayGoodbye::Protocol,
            Some(Code::NotInRoster) => RelayGoodbye::NotInRoster,
            Some(Code::Suspended) => RelayGoodbye::Suspended,
            Some(Code::BadSignature) => RelayGoodbye::BadSignature,
            Some(Code::IncarnationOld) => RelayGoodbye::IncarnationOld(goodbye.incarnation),
            Some(Code::TakenOver) => RelayGoodbye::TakenOver,
            Some(Code::Cloned) => RelayGoodbye::Cloned,
            Some(Code::Silent) => RelayGoodbye::Silent,
            Some(Code::NotReady) => RelayGoodbye::NotReady,
            Some(Code::Version) => RelayGoodbye::Version,
            Some(Code::TakeOverSoon) => RelayGoodbye::TakeOverSoon,
            Some(Code::Rate) => RelayGoodbye::Rate,
            Some(Code::LogBehind) => RelayGoodbye::LogBehind,
            Some(Code::Unspecified) | None => RelayGoodbye::Unknown(goodbye.code),
        }
    }
}
