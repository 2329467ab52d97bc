//! How the link to the relay stands: the link writes it, the API reads it.

use jiff::Timestamp;

/// Whether the relay can be reached. A link is up when Welcome has come (DESIGN 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// The first attempt since the daemon started is under way.
    #[default]
    Connecting,
    /// A session is open.
    InContact,
    /// An attempt failed or a session ended; the next attempt follows by itself.
    Offline,
}

impl LinkState {
    /// As the API and people read it.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Connecting => "connecting",
            LinkState::InContact => "in contact",
            LinkState::Offline => "offline",
        }
    }
}

/// What the link says of itself, kept in a watch channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether the relay can be reached.
    pub state: LinkState,
    /// Why it cannot, in plain words that end with what to do.
    pub reason: Option<String>,
    /// Relay address in use or tried last; empty before the first attempt.
    pub relay: String,
    /// Since when the link is as it is.
    pub since: Timestamp,
    /// When anything was last heard from the relay.
    pub last_contact: Option<Timestamp>,
}

impl LinkStatus {
    /// The status of a link that has not tried yet.
    pub fn starting(now: Timestamp) -> LinkStatus {
        LinkStatus {
            state: LinkState::Connecting,
            reason: None,
            relay: String::new(),
            since: now,
            last_contact: None,
        }
    }
}
