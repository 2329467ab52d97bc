//! Files of the audit log that desks fetch. Each leaves in pieces, between deliveries: a FLASH overtakes it, and other
//! mail and the file take turns. How often a party may ask is bounded, and what all sessions together hold.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{ConnId, Exchange, Output, Session};
use crate::{
    limits::{LOG_BUNDLE_BYTES_MAX, Limits},
    session::outbound::{FILE_CHUNK_BYTES_MAX, Outbound},
    wire::pb::GoodbyeCode,
};

/// How far the one file that a session has asked for is.
#[derive(Debug)]
pub(super) enum File {
    /// Asked for more often than its party may: it is read once the party may ask again.
    TooSoon { request: u64, name: String },
    /// Waits until other sessions hold less.
    Waits { request: u64, name: String },
    /// Being read.
    Read { request: u64 },
    /// Leaves piece by piece.
    Leaves { request: u64, bytes: Option<Bytes>, offset: usize },
}

/// What all sessions together hold of files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Bytes; each file being read counts as the longest.
    held_bytes: usize,
    /// Sessions whose file waits to be read, in the order in which they asked.
    waiting: VecDeque<ConnId>,
}

/// When all of a party's turns to ask for a file are free again.
#[derive(Debug, Default)]
pub(super) struct Turns {
    free_at: Duration,
}

impl Turns {
    fn take(&mut self, now: Duration, limits: &Limits) -> bool {
        let free_at = self.free_at.max(now) + limits.file_per_party_every;
        let is_free = free_at <= now + limits.file_per_party_every * limits.files_per_party_burst;
        if is_free {
            self.free_at = free_at;
        }
        is_free
    }
}

impl Exchange {
    /// A desk asks for a file of the log.
    pub(super) fn fetch(&mut self, conn: ConnId, request: u64, name: String) {
        let session = self.sessions.get_mut(&conn).expect("frames come from sessions");
        if session.file.is_some() {
            let words = "a second file of the audit log before the first was sent".to_owned();
            return self.goodbye(conn, GoodbyeCode::Protocol, words);
        }
        session.file = Some(File::TooSoon { request, name });
        self.look_at_file(conn);
    }

    /// Has a file read that was asked for too soon, once its party may ask again.
    pub(super) fn look_at_file(&mut self, conn: ConnId) {
        let now = self.clock.mono();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(File::TooSoon { request, name }) = &mut session.file else { return };
        let (request, name) = (*request, std::mem::take(name));
        let turns = &mut self.usage.entry(session.party).or_default().files;
        if turns.take(now, &self.limits) {
            session.file = Some(File::Waits { request, name });
            self.files.waiting.push_back(conn);
            self.read_files();
        } else {
            session.file = Some(File::TooSoon { request, name });
        }
    }

    /// Has as many files read as sessions may hold.
    fn read_files(&mut self) {
        while self.files.held_bytes + LOG_BUNDLE_BYTES_MAX <= self.limits.files_bytes_max {
            let Some(conn) = self.files.waiting.pop_front() else { return };
            let Some(session) = self.sessions.get_mut(&conn) else { continue };
            let Some(File::Waits { request, name }) = &mut session.file else { continue };
            let (request, name) = (*request, std::mem::take(name));
            session.file = Some(File::Read { request });
            self.files.held_bytes += LOG_BUNDLE_BYTES_MAX;
            self.outputs.push_back(Output::Fetch { conn, request, name });
        }
    }

    /// A file of the log was read, or there is none of that name.
    pub(super) fn fetched(&mut self, conn: ConnId, request: u64, bytes: Option<Bytes>) {
        self.files.held_bytes -= LOG_BUNDLE_BYTES_MAX;
        if let Some(session) = self.sessions.get_mut(&conn)
            && matches!(session.file, Some(File::Read { request: asked }) if asked == request)
        {
            self.files.held_bytes += bytes.as_ref().map_or(0, Bytes::len);
            session.file = Some(File::Leaves { request, bytes, offset: 0 });
            self.due.insert(conn);
        }
        self.read_files();
    }

    /// Sends the next piece of a session's file, where there is one; at most what its line takes in about a second.
    pub(super) fn send_piece(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(File::Leaves { request, bytes, offset }) = &mut session.file else { return };
        let whole = bytes.clone().unwrap_or_default();
        let end = whole.len().min(*offset + session.queue.bytes_max().min(FILE_CHUNK_BYTES_MAX));
        let piece = Outbound::Fetched {
            request: *request,
            found: bytes.is_some(),
            total_bytes: whole.len(),
            offset: *offset,
            chunk: whole.slice(*offset..end),
        };
        *offset = end;
        session.is_files_turn = false;
        if end == whole.len() {
            let file = session.file.take();
            self.forget_file(conn, file);
        }
        self.send(conn, piece);
    }

    /// A session holds a file no longer.
    pub(super) fn forget_file(&mut self, conn: ConnId, file: Option<File>) {
        match file {
            Some(File::Leaves { bytes: Some(bytes), .. }) => {
                self.files.held_bytes -= bytes.len();
                self.read_files();
            }
            Some(File::Waits { .. }) => self.files.waiting.retain(|waiting| *waiting != conn),
            // What is being read counts until it has come.
            Some(File::Read { .. } | File::TooSoon { .. } | File::Leaves { bytes: None, .. }) | None => {}
        }
    }
}

impl Session {
    /// Whether a piece of a file could be sent.
    pub(super) fn has_piece(&self) -> bool {
        matches!(self.file, Some(File::Leaves { .. }))
    }
}
