//! The audit log as the world keeps it: what the log's thread and `relay/keeper.rs` do, over folders in memory.

use std::sync::Arc;

use bytes::Bytes;
use pouch::{
    audit::{Checkpoint, LogTrust},
    exchange::{ConnId, Exchange, Input, Notice},
    merkle::{Hash, sha256},
    note::Note,
    record::Ticket,
    tiles::{
        self, CHECKPOINT_FILE, Folder, LogError, LogFiles, Opening, SIGNED_FILE, Served, View, signed_note,
    },
    wire::Position,
};

use super::{
    bloc::{BLOC, ORIGIN, QUORUM},
    checker::{Promise, Violation},
    lies::Lie,
    relay::RelayEvent,
    shelf::Shelf,
    world::World,
};

/// Where the log's files are: whatever was put there stays, also when the power goes.
#[derive(Clone, Default)]
pub struct LogShelves {
    pub served: Arc<Shelf>,
    kept: Arc<Shelf>,
}

impl LogShelves {
    fn files(&self) -> LogFiles {
        LogFiles { served: self.served.clone(), kept: self.kept.clone() }
    }

    pub fn open(&self) -> Result<Opening, LogError> {
        let own = BLOC.log_key.vkey(ORIGIN).expect("a sound name");
        self.served.fail_after(None);
        Opening::new(self.files(), &LogTrust::new(ORIGIN, vec![own], Vec::new(), 0))
    }

    /// The journal is read: the log must agree with it.
    pub fn go_on(&self, log: Result<Opening, LogError>, exchange: &mut Exchange) -> Result<View, LogError> {
        let continued = log?.finish(exchange.tree())?;
        let published = continued.files.published()?;
        exchange.keep_log(continued.signed.map(|(_, note)| note), published)?;
        Ok(continued.view)
    }
}

impl World {
    /// Records are durable: their leaves go to the log, and the exchange hears of all of them before its outputs are
    /// taken, as the engine does it.
    pub fn relay_durable(&mut self, durable: &[(Ticket, Position)]) {
        for (ticket, position) in durable {
            let Some(relay) = &mut self.relay else { return };
            let leaf = relay.leaves.pop_front().expect("it was appended");
            if self.lie != Some(Lie::LeafLost) || position.0 % 7 != 6 {
                relay.view.take(leaf).expect("few tiles are full");
            }
            self.relay_hears(Input::Durable { ticket: *ticket, position: *position });
        }
        self.relay_carries_out();
    }

    pub fn sign(&mut self, size: u64, root: Hash) {
        let Some(relay) = &mut self.relay else { return };
        let made = (relay.view.size(), relay.view.root());
        let mut checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root };
        if self.lie == Some(Lie::CheckpointBeforeDurable)
            && let Some(leaf) = relay.leaves.pop_front()
        {
            relay.view.take(leaf).expect("few tiles are full");
            checkpoint = Checkpoint { size: relay.view.size(), root: relay.view.root(), ..checkpoint };
            self.checker.checkpoint(&signed_note(&BLOC.log_key, &checkpoint));
            return;
        }
        self.checker.must(made == (size, root), Promise::Log, || "tiles make another root".to_owned());
        let dies_at = (self.troubled && self.chance.one_in(25)).then(|| self.chance.index(6));
        self.log.served.fail_after(dies_at);
        let Some(relay) = &mut self.relay else { return };
        if self.lie != Some(Lie::TilesNotWritten) && relay.view.write().is_err() {
            self.checker.came("death while tiles are written");
            let power_cut = self.chance.one_in(2);
            return self.kill_relay(power_cut);
        }
        self.log.served.fail_after(None);
        let note = signed_note(&BLOC.log_key, &checkpoint);
        if self.troubled && self.chance.one_in(40) {
            self.checker.came("death between tiles and signature");
            return self.kill_relay(true);
        }
        self.log.kept.put(&[(SIGNED_FILE.to_owned(), note.to_vec())]).expect("memory");
        self.checker.checkpoint(&note);
        if self.lie == Some(Lie::PublishedUnwitnessed) {
            self.publish_checkpoint(&note);
        }
        self.relay_later(1, 40, RelayEvent::Log(Input::Signed { note }));
    }

    pub fn prove(&mut self, conn: ConnId, old_size: u64, size: u64, root: Hash) {
        match tiles::consistency_path(&*self.log.served, old_size, size, root) {
            Ok(path) => {
                self.relay_later(0, 10, RelayEvent::Log(Input::Proved { conn, old_size, size, path }))
            }
            Err(_) if self.liar.is_some() => {}
            Err(error) => {
                let words = format!("no path from {old_size} to {size}: {error}");
                self.checker.broken(Violation::new(Promise::Log, words));
            }
        }
    }

    pub fn fetch(&mut self, conn: ConnId, request: u64, name: &str) {
        let told = match (&mut self.liar, self.lines.get(&conn.0)) {
            (Some(liar), Some(on)) => liar.serves(self.now, on.desk, name),
            _ => None,
        };
        let bytes = match tiles::serve(&*self.log.served, name).expect("sound files") {
            Served::Checkpoint(bytes) | Served::Tile(bytes) => Some(bytes),
            Served::Absent => None,
        };
        let bytes = bytes.map(|mut bytes| {
            if self.lie == Some(Lie::LeafChanged)
                && let Some(last) = bytes.last_mut()
            {
                *last ^= 1;
            }
            Bytes::from(bytes)
        });
        let bytes = told.or(bytes);
        self.relay_later(0, 10, RelayEvent::Log(Input::Fetched { conn, request, bytes }));
    }

    /// The exchange gives out what is to be published: the log's thread does one after the other.
    pub fn publish_later(&mut self, note: Bytes) {
        if self.lie == Some(Lie::ToldBeforePublished) {
            self.relay_hears(Input::Published { note: note.clone() });
        }
        let Some(relay) = &mut self.relay else { return };
        relay.publishing.push_back(note);
        self.relay_later(1, 40, RelayEvent::Publish);
    }

    pub fn publish_next(&mut self) {
        let Some(note) = self.relay.as_mut().and_then(|relay| relay.publishing.pop_front()) else { return };
        self.publish_checkpoint(&note);
        if self.lie != Some(Lie::ToldBeforePublished) {
            self.relay_input(Input::Published { note });
        }
    }

    fn publish_checkpoint(&mut self, note: &Bytes) {
        self.log.kept.put(&[(CHECKPOINT_FILE.to_owned(), note.to_vec())]).expect("memory");
        self.checker.published(note);
        if self.troubled && self.chance.one_in(40) {
            self.checker.came("death between the copies of what is published");
            return self.kill_relay(true);
        }
        let Some(relay) = &self.relay else { return };
        relay.view.publish(note).expect("memory");
        self.checker.checkpoint(note);
        let cosigned = BLOC.cosigned_by(note);
        self.checker.must(cosigned >= QUORUM, Promise::Log, || {
            format!("a checkpoint is published that {cosigned} witnesses have cosigned")
        });
    }

    /// Notes at which seam of the log's work a relay dies.
    pub fn log_dies(&mut self) {
        let Some(relay) = &self.relay else { return };
        if self.checker.leaves().len() as u64 > relay.exchange.tree().size() {
            self.checker.came("death between sync and tree");
        }
        if !relay.publishing.is_empty() {
            self.checker.came("death between quorum and publication");
        }
        let text = |folder: &Shelf, file: &str| {
            let note = folder.read(file).expect("memory")?;
            Some(Note::parse(&note).expect("its own note").text().to_owned())
        };
        let signed = text(&self.log.kept, SIGNED_FILE);
        if signed.is_some() && signed != text(&self.log.served, CHECKPOINT_FILE) {
            self.checker.came("death between signature and publication");
        }
    }

    /// What the relay's operator hears: of an honest world nothing about its witnesses, except that they are away.
    pub fn notice(&mut self, notice: &Notice) {
        self.trace.note(self.now, || format!("{notice:?}"));
        if self.liar.is_none()
            && matches!(
                notice,
                Notice::WitnessRefused { .. } | Notice::WitnessAhead { .. } | Notice::LogKeyDropped
            )
        {
            self.checker.broken(Violation::new(Promise::Log, format!("a witness is no witness: {notice:?}")));
        }
    }

    /// While the relay is down, somebody removes what it can make anew.
    pub fn lose_log_files(&mut self) {
        if self.relay.is_none() {
            self.checker.came("log's files lost");
            self.log.served.remove("tile").expect("memory");
        }
    }
}

/// What a relay that forks the log would have desks cosign.
pub fn forked_note(size: u64) -> String {
    let root = sha256(&size.to_be_bytes());
    let note = signed_note(&BLOC.log_key, &Checkpoint { origin: ORIGIN.to_owned(), size, root });
    String::from_utf8(note.to_vec()).expect("text")
}
