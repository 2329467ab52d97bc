//! The relay's end of the lines: bytes to checked frames, and frames to bytes.

use std::time::Duration;

use bytes::BytesMut;
use pouch::{
    batch::{Proof, Tag},
    exchange::{ConnId, Input},
    limits,
    merkle::Hash,
    session::{
        inbound::{Inbound, Intake},
        outbound::{Outbound, Signer},
    },
    wire::{
        codec::{self, FrameDecoder},
        pb::frame::Kind,
    },
};

use super::{
    bloc::{BLOC, DOMAIN},
    checker::roster_version,
    lies::Lie,
    log::forked_note,
    network::End,
    relay::RelayEvent,
    world::{Event, World},
};

/// The relay's end of a line.
pub struct Side {
    pub desk: usize,
    /// Whether its session is open.
    pub welcomed: bool,
    exporter: [u8; 32],
    intake: Intake,
    decoder: FrameDecoder,
    /// Whether it broke the protocol, so that nothing more is read.
    broken: bool,
    /// Bytes of frames that the exchange counts as on their way.
    pub queued_bytes: usize,
    /// For lies about what the desk is told.
    withholds: bool,
    held: Option<Kind>,
}

impl World {
    /// A TLS handshake ends.
    pub fn relay_connected(&mut self, line: u64, desk: usize, exporter: [u8; 32]) {
        let Some(relay) = &mut self.relay else { return };
        let side = Side {
            desk,
            welcomed: false,
            exporter,
            intake: Intake::new(DOMAIN, exporter),
            decoder: FrameDecoder::new(limits::FRAME_BEFORE_WELCOME_BYTES_MAX),
            broken: false,
            queued_bytes: 0,
            withholds: false,
            held: None,
        };
        relay.sides.insert(line, side);
        let (party, serial) = (BLOC.ids[desk].clone(), "0b".to_owned());
        self.relay_input(Input::Connected { conn: ConnId(line), party, serial });
    }

    pub fn relay_reads(&mut self, line: u64, bytes: &[u8]) {
        let Some(relay) = &mut self.relay else { return };
        let Some(side) = relay.sides.get_mut(&line).filter(|side| !side.broken) else { return };
        side.decoder.buffer().extend_from_slice(bytes);
        self.relay_input(Input::Heard { conn: ConnId(line) });
        while let Some(relay) = &mut self.relay {
            let roster = relay.exchange.roster().cloned();
            let Some(side) = relay.sides.get_mut(&line).filter(|side| !side.broken) else { return };
            let party = roster.as_ref().and_then(|roster| roster.party_by_id(BLOC.ids[side.desk].spiffe()));
            let Some(frame) = side.intake.take(&mut side.decoder, party.map(|party| &party.sign)) else {
                return;
            };
            side.broken = matches!(frame, Inbound::Violation(_));
            self.relay_input(Input::Received { conn: ConnId(line), frame });
        }
    }

    pub fn relay_lost(&mut self, line: u64) {
        if let Some(relay) = &mut self.relay
            && relay.sides.remove(&line).is_some()
        {
            self.relay_input(Input::Closed { conn: ConnId(line) });
        }
    }

    pub fn relay_closes(&mut self, line: u64) {
        let Some(relay) = &mut self.relay else { return };
        let Some(side) = relay.sides.get(&line) else { return };
        let ignored = self.lie == Some(Lie::SuspensionIgnored) && self.checker.is_suspended(side.desk);
        if !ignored {
            relay.sides.remove(&line);
            self.send_end(line, End::Desk);
            if let Some(on) = self.lines.get_mut(&line) {
                on.ended.insert(End::Relay);
            }
        }
    }

    pub fn relay_says(&mut self, line: u64, frame: Outbound) {
        let Some(relay) = &mut self.relay else { return };
        let Some(side) = relay.sides.get_mut(&line) else { return };
        let (desk, bytes) = (side.desk, frame.bytes());
        self.checker.relay_queues(desk, &frame, side.queued_bytes, &self.limits);
        side.queued_bytes += bytes;
        let is_last = matches!(frame, Outbound::Goodbye { .. });
        if is_last && self.lie == Some(Lie::SuspensionIgnored) && self.checker.is_suspended(desk) {
            return;
        }
        let sign = |tag: Tag, leaf: Hash| -> Proof {
            BLOC.relay_key.sign_batch(DOMAIN, tag, &[leaf]).pop().expect("one leaf, one proof")
        };
        let signer =
            Signer { sign: &sign, exporter: side.exporter, instance: relay.instance, software: "simulated" };
        if matches!(frame, Outbound::Welcome(_)) {
            side.welcomed = true;
            side.decoder.allow(limits::FRAME_BYTES_MAX);
        }
        let mut frame = frame;
        if self.lie == Some(Lie::CheckpointForked)
            && let Outbound::AddCheckpoint(request) = &mut frame
        {
            let size = request.path.len() as u64 + request.old_size + 1;
            request.checkpoint = forked_note(size);
        }
        let mut frames = Vec::new();
        frame.frames(&signer, |kind| frames.push(kind));
        let mut buffer = BytesMut::new();
        for kind in frames {
            for mut kind in side.twist(self.lie, kind) {
                self.checker.relay_says(self.now, line, desk, &kind, self.disk.has_failed());
                if self.lie == Some(Lie::WindowOffByOne) {
                    add_credit(&mut kind, 1);
                }
                let told = match &mut self.liar {
                    Some(liar) => liar.twists(self.now, desk, kind, self.checker.leaves()),
                    None => vec![kind],
                };
                for kind in told {
                    codec::encode(kind, &mut buffer);
                }
            }
        }
        self.send(line, End::Desk, &buffer);
        let taken_in = self.lines.get(&line).map_or(Duration::ZERO, |on| on.taken_in(End::Desk, self.now));
        let later = taken_in + self.chance.between(0, 4);
        self.after(later, Event::Relay(self.relay_generation, RelayEvent::Written(line, bytes)));
    }
}

impl Side {
    /// What a lie makes of a frame to the desk: the frames that go out instead.
    fn twist(&mut self, lie: Option<Lie>, mut kind: Kind) -> Vec<Kind> {
        match (lie, &mut kind) {
            (Some(Lie::RosterWithheld), Kind::Administrative(frame)) => {
                if frame.offset == 0 {
                    self.withholds = roster_version(&frame.leaf).is_some_and(|version| version > 1);
                }
                if self.withholds { Vec::new() } else { vec![kind] }
            }
            (Some(Lie::AcceptedElsewhere), Kind::Accepted(accepted)) => {
                accepted.position = accepted.position.saturating_sub(1);
                vec![kind]
            }
            (Some(Lie::DeliveriesSwapped), Kind::Deliver(_)) => match self.held.take() {
                None => {
                    self.held = Some(kind);
                    Vec::new()
                }
                Some(held) => vec![kind, held],
            },
            (Some(Lie::DeliveriesSwapped), _) => vec![kind].into_iter().chain(self.held.take()).collect(),
            _ => vec![kind],
        }
    }
}

/// Grants more than was granted.
pub fn add_credit(kind: &mut Kind, envelopes: u64) {
    match kind {
        Kind::Welcome(welcome) => welcome.credit_envelopes += envelopes,
        Kind::Credit(credit) => credit.envelopes += envelopes,
        _ => {}
    }
}
