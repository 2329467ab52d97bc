//! Files of the audit log that desks fetch. Each leaves in pieces, between deliveries: a FLASH overtakes it, and other
//! mail and the file take turns. How often a party may ask is bounded, and what all sessions together hold.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{ConnId, Exchange, Output, Session};
use crate::{
    audit::BundlePath,
    limits::{LOG_BUNDLE_BYTES_MAX, Limits},
    session::outbound::{FILE_CHUNK_BYTES_MAX, Outbound},
    wire::pb::GoodbyeCode,
};

/// What a session has asked for, and how much of it was sent.
#[derive(Debug)]
pub(super) struct Asked {
    request: u64,
    name: String,
    offset: usize,
    /// Of the whole file, once it was read.
    total_bytes: usize,
}

/// How far the one file that a session has asked for is.
#[derive(Debug)]
pub(super) enum File {
    /// Asked for more often than its party may: it is read once the party may ask again.
    TooSoon(Asked),
    /// Waits until other sessions hold less.
    Waits(Asked),
    /// Being read.
    Read(Asked),
    /// Leaves piece by piece; after a while it may have to wait again, with what is left of it.
    Leaves { asked: Asked, bytes: Option<Bytes>, until: Duration },
    /// Never answered in this session.
    Unreadable,
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
        session.file = Some(File::TooSoon(Asked { request, name, offset: 0, total_bytes: 0 }));
        self.look_at_file(conn);
    }

    /// Has a file read that was asked for too soon, once its party may ask again.
    pub(super) fn look_at_file(&mut self, conn: ConnId) {
        let now = self.clock.mono();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        match session.file.take() {
            Some(File::TooSoon(asked)) => {
                let turns = &mut self.usage.entry(session.party).or_default().files;
                if turns.take(now, &self.limits) {
                    session.file = Some(File::Waits(asked));
                    self.files.waiting.push_back(conn);
                    self.read_files();
                } else {
                    session.file = Some(File::TooSoon(asked));
                }
            }
            other => session.file = other,
        }
    }

    /// Has files that leave too slowly give their place to those that wait for one. Each goes on where it was when its
    /// turn comes again: no file of the log changes.
    pub(super) fn take_files_back(&mut self) {
        if self.files.waiting.is_empty() {
            return;
        }
        let now = self.clock.mono();
        let is_slow =
            |file: &mut File| matches!(file, File::Leaves { bytes: Some(_), until, .. } if now >= *until);
        for (conn, session) in &mut self.sessions {
            if let Some(File::Leaves { asked, bytes: Some(bytes), .. }) = session.file.take_if(is_slow) {
                self.files.held_bytes -= bytes.len();
                session.file = Some(File::Waits(asked));
                self.files.waiting.push_back(*conn);
            }
        }
        self.read_files();
    }

    /// Has as many files read as sessions may hold.
    fn read_files(&mut self) {
        while self.files.held_bytes + LOG_BUNDLE_BYTES_MAX <= self.limits.files_bytes_max {
            let Some(conn) = self.files.waiting.pop_front() else { return };
            let Some(session) = self.sessions.get_mut(&conn) else { continue };
            let is_waiting = |file: &mut File| matches!(file, File::Waits(_));
            let Some(File::Waits(asked)) = session.file.take_if(is_waiting) else { continue };
            let (request, name) = (asked.request, asked.name.clone());
            session.file = Some(File::Read(asked));
            self.files.held_bytes += LOG_BUNDLE_BYTES_MAX;
            self.outputs.push_back(Output::Fetch { conn, request, name });
        }
    }

    /// A file of the log was read, or there is none of that name.
    pub(super) fn fetched(&mut self, conn: ConnId, request: u64, bytes: Option<Bytes>) {
        self.files.held_bytes -= LOG_BUNDLE_BYTES_MAX;
        let total_bytes = bytes.as_ref().map_or(0, Bytes::len);
        let is_asked = |file: &mut File| matches!(file, File::Read(asked) if asked.request == request);
        if let Some(session) = self.sessions.get_mut(&conn)
            && let Some(File::Read(asked)) = session.file.take_if(is_asked)
        {
            if asked.offset > 0 && asked.total_bytes != total_bytes {
                let words = "a file of the audit log cannot be read to its end now; come again".to_owned();
                self.goodbye(conn, GoodbyeCode::NotReady, words);
            } else {
                self.files.held_bytes += total_bytes;
                let until = self.clock.mono() + self.limits.file_time(total_bytes - asked.offset);
                let asked = Asked { total_bytes, ..asked };
                session.file = Some(File::Leaves { asked, bytes, until });
                self.due.insert(conn);
            }
        }
        self.read_files();
    }

    /// A file of the log cannot be read. That there is none of that name would say that the log has not the leaves that it
    /// signed: who asked for leaves gets no answer, and follows the log no further in this session. A tile it can do without.
    pub(super) fn unreadable(&mut self, conn: ConnId, request: u64) {
        let is_of_leaves = |file: &mut File| {
            matches!(file, File::Read(asked)
                if asked.request == request && asked.name.parse::<BundlePath>().is_ok())
        };
        let Some(session) = self.sessions.get_mut(&conn) else { return self.fetched(conn, request, None) };
        if session.file.take_if(is_of_leaves).is_none() {
            return self.fetched(conn, request, None);
        }
        session.file = Some(File::Unreadable);
        self.files.held_bytes -= LOG_BUNDLE_BYTES_MAX;
        self.read_files();
    }

    /// Sends the next piece of a session's file, where there is one; at most what its line takes in about a second.
    pub(super) fn send_piece(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(File::Leaves { asked, bytes, .. }) = &mut session.file else { return };
        let whole = bytes.as_deref().unwrap_or_default();
        let end = whole.len().min(asked.offset + session.queue.bytes_max().min(FILE_CHUNK_BYTES_MAX));
        let piece = Outbound::Fetched {
            request: asked.request,
            found: bytes.is_some(),
            total_bytes: whole.len(),
            offset: asked.offset,
            // A copy: what waits for a slow line must not hold the whole file.
            chunk: Bytes::copy_from_slice(&whole[asked.offset..end]),
        };
        asked.offset = end;
        let is_last = end == whole.len();
        session.is_files_turn = false;
        if is_last {
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
            Some(File::Waits(_)) => self.files.waiting.retain(|waiting| *waiting != conn),
            // What is being read counts until it has come.
            Some(File::Read(_) | File::TooSoon(_) | File::Leaves { bytes: None, .. } | File::Unreadable)
            | None => {}
        }
    }
}

impl Session {
    /// Whether a piece of a file could be sent.
    pub(super) fn has_piece(&self) -> bool {
        matches!(self.file, Some(File::Leaves { .. }))
    }
}
