//! What goes into the exchange and what comes out of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Body, Notice};
use crate::{
    identity::PartyId,
    merkle::Hash,
    record::{Record, Ticket},
    roster::Roster,
    session::{inbound::Inbound, outbound::Outbound},
    wire::Position,
};

/// Time, passed in and never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed moment of this process.
    pub mono: Duration,
    /// Wall clock, microseconds since 1970.
    pub wall_us: u64,
}

/// Names a connection; never used again in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Whether the journal has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// For everything.
    Plenty,
    /// For receipts and administrative leaves; submissions are deferred.
    ReceiptsOnly,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A TLS handshake ended; this is who it is, by its certificate.
    Connected {
        /// Its name from here on.
        conn: ConnId,
        /// Whose certificate.
        party: PartyId,
        /// The certificate's serial, lower hex.
        serial: String,
    },
    /// A checked frame came.
    Received {
        /// From where.
        conn: ConnId,
        /// The frame.
        frame: Inbound,
    },
    /// Bytes of a frame came that is not whole yet: the peer lives.
    Heard {
        /// From where.
        conn: ConnId,
    },
    /// Bytes went out to the socket, so that there is room for more.
    Written {
        /// Where.
        conn: ConnId,
        /// As [`Outbound::bytes`] counted them.
        bytes: usize,
    },
    /// The connection is gone.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// The oldest ticket's record is durable.
    Durable {
        /// Which; tickets come back in order.
        ticket: Ticket,
        /// Where it stands.
        position: Position,
    },
    /// A body came back from the journal.
    Loaded {
        /// Which.
        position: Position,
        /// The body.
        body: Body,
    },
    /// A body did not come back, and nobody needs it any more.
    LoadedNothing {
        /// Which.
        position: Position,
    },
    /// A roster note from a file.
    RosterOffered {
        /// Its bytes.
        note: Bytes,
    },
    /// The journal's room changed.
    Room(Room),
    /// The relay started: an administrative leaf.
    Started {
        /// Name and version.
        software: String,
    },
    /// The relay runs with another configuration, or has started with one: an administrative leaf.
    Configured {
        /// SHA-256 of it as text.
        hash: Hash,
    },
    /// The operator says that the machine's clock is right.
    ClockAccepted,
    /// A checkpoint was signed by the log's key; it and its tiles are durable.
    Signed {
        /// With the log's signature alone.
        note: Bytes,
    },
    /// What [`Output::Publish`] gave out is durable where a restart finds it.
    Published {
        /// With its cosignatures.
        note: Bytes,
    },
    /// The path that was asked for with [`Output::Prove`].
    Proved {
        /// For whom.
        conn: ConnId,
        /// As asked.
        old_size: u64,
        /// As asked.
        size: u64,
        /// From the older tree to the newer one.
        path: Vec<Hash>,
    },
    /// There is no telling that path now: files of the log cannot be read.
    Unproved {
        /// For whom.
        conn: ConnId,
        /// As asked.
        old_size: u64,
    },
    /// What [`Output::Fetch`] asked for cannot be read.
    Unreadable {
        /// For whom.
        conn: ConnId,
        /// As asked.
        request: u64,
    },
    /// What [`Output::Fetch`] asked for; nothing where there is no such file.
    Fetched {
        /// For whom.
        conn: ConnId,
        /// As asked.
        request: u64,
        /// The file.
        bytes: Option<Bytes>,
    },
    /// No more connections will come; sessions are told, and the stop is logged.
    Stopping,
}

/// What is to be done, in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a frame.
    Send {
        /// Where.
        conn: ConnId,
        /// The frame.
        frame: Outbound,
    },
    /// Append a record.
    Append {
        /// To come back with `Durable`.
        ticket: Ticket,
        /// The record.
        record: Record,
        /// Whether somebody waits for its sync; receipts ride along.
        urgent: bool,
    },
    /// Load a body.
    Load {
        /// Which.
        position: Position,
    },
    /// Close a connection once what was sent before is out.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// A roster came into force: edges that verify under it take it over.
    RosterInForce(Arc<Roster>),
    /// Sign a checkpoint over all durable records, and come back with [`Input::Signed`].
    Sign {
        /// Records.
        size: u64,
        /// Of the tree over their leaves.
        root: Hash,
    },
    /// Find the path between two trees of the log, and come back with [`Input::Proved`].
    Prove {
        /// For whom.
        conn: ConnId,
        /// Leaves of the older tree.
        old_size: u64,
        /// Leaves of one whose checkpoint is signed.
        size: u64,
        /// The root of that tree.
        root: Hash,
    },
    /// Read a file of the log, and come back with [`Input::Fetched`].
    Fetch {
        /// For whom.
        conn: ConnId,
        /// To be echoed.
        request: u64,
        /// As the desk has written it.
        name: String,
    },
    /// Publish a checkpoint in place of the one before it, and come back with [`Input::Published`].
    Publish {
        /// With its cosignatures.
        note: Bytes,
    },
    /// Stop: a party holds a checkpoint that this log's key signed, and that is none of its history.
    Forked {
        /// The party's checkpoint, to be kept as evidence.
        note: Bytes,
    },
    /// Something that an operator's log should say.
    Notice(Notice),
}
