//! TLS records that are cut off or changed on their way, at every offset of a whole session in memory (FAULTS 74).

use std::{
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};

use pouch::{
    pki,
    tls::{self, Credentials, KeyExchange, RevocationLists},
};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData};

const TO_RELAY: &[u8] = b"a frame of a desk";
const TO_DESK: &[u8] = b"a frame of the relay";
/// Turns of a handshake and one frame each way, with one to spare.
const TURNS: usize = 6;

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Flip { at: usize },
    Cut { at: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Towards {
    Desk,
    Relay,
}

/// One direction of a line.
#[derive(Default)]
struct Way {
    harm: Option<Harm>,
    passed: usize,
    is_cut: bool,
}

/// What one end made of a session.
#[derive(Debug, Default)]
struct End {
    failed: bool,
    read: Vec<u8>,
}

struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    domain: String,
}

impl Configs {
    fn new() -> Configs {
        let folder = tempfile::tempdir().expect("temporary folder");
        let parties = pki::example_parties();
        let example = pki::make_example(&folder.path().join("pki"), &parties, &[], SystemTime::now());
        let example = example.expect("example PKI");
        let of = |party: &str| Credentials::load(&example.folder.join(party)).expect("credentials");
        let root = tls::read_certificates(&example.folder.join("idn/root.pem")).expect("a root").remove(0);
        let domain = example.trust.trust_domain.clone();
        let hybrid = KeyExchange::Hybrid;
        let client = tls::client_config(&of("idn"), &root, &domain, hybrid).expect("sound");
        let none = RevocationLists::default();
        let server = tls::server_config(&of("relay"), &root, &domain, hybrid, &none).expect("sound");
        Configs { client, server, domain }
    }

    /// A handshake, then one frame each way; gives what relay and desk made of it, and how many bytes went each way.
    fn session(&self, towards: Towards, harm: Option<Harm>) -> ([End; 2], [usize; 2]) {
        let name = tls::server_name(&self.domain).expect("a name");
        let mut desk = ClientConnection::new(self.client.clone(), name).expect("sound");
        let mut relay = ServerConnection::new(self.server.clone()).expect("sound");
        let mut ends = [End::default(), End::default()];
        let mut ways = [Way::default(), Way::default()];
        ways[towards as usize].harm = harm;
        let [to_desk, to_relay] = &mut ways;
        let [at_desk, at_relay] = &mut ends;
        for turn in 0..TURNS {
            if turn == TURNS / 2 {
                // Who was told that the other has failed says nothing more.
                if !at_desk.failed {
                    desk.writer().write_all(TO_RELAY).expect("memory");
                }
                if !at_relay.failed {
                    relay.writer().write_all(TO_DESK).expect("memory");
                }
            }
            to_relay.carry(&mut desk, &mut relay, at_relay);
            to_desk.carry(&mut relay, &mut desk, at_desk);
        }
        let passed = [to_desk.passed, to_relay.passed];
        (ends, passed)
    }
}

impl Way {
    fn carry<A: SideData, B: SideData>(
        &mut self,
        from: &mut ConnectionCommon<A>,
        to: &mut ConnectionCommon<B>,
        end: &mut End,
    ) {
        let mut wire = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut wire).expect("memory");
        }
        let begins = self.passed;
        self.passed += wire.len();
        match self.harm {
            Some(Harm::Flip { at }) if (begins..self.passed).contains(&at) => {
                wire[at - begins] ^= 1 << (at % 8);
            }
            Some(Harm::Cut { at }) => {
                wire.truncate(at.saturating_sub(begins));
                self.is_cut = self.passed > at;
            }
            _ => {}
        }
        let mut rest = wire.as_slice();
        while !end.failed && (!rest.is_empty() || self.is_cut) {
            let read = to.read_tls(&mut rest).expect("memory");
            end.failed = to.process_new_packets().is_err();
            match to.reader().read_to_end(&mut end.read) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end without a goodbye, in the middle of whatever was said.
                Err(_) => end.failed = true,
            }
            if read == 0 {
                end.failed |= to.is_handshaking();
                break;
            }
        }
    }
}

/// Every offset of one direction, on two threads.
fn at_every_offset(towards: Towards, harm: impl Fn(usize) -> Harm + Sync) {
    let configs = Configs::new();
    let ([desk, relay], passed) = configs.session(towards, None);
    assert_eq!((&*desk.read, &*relay.read), (TO_DESK, TO_RELAY));
    assert!(!desk.failed && !relay.failed);
    // A signature may be two bytes shorter the next time.
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let length = passed[towards as usize] - 8;
    let work = || {
        while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < length) {
            let harm = harm(at);
            let ([desk, relay], _) = configs.session(towards, Some(harm));
            let end = if towards == Towards::Desk { &desk } else { &relay };
            // TLS leaves a few bits of the first records' heads unread, and a length that grew is waited for: until a
            // deadline ends it (FAULTS 77).
            let may_be_spared = matches!(harm, Harm::Flip { .. });
            assert!(end.failed || desk.failed || may_be_spared, "{towards:?} {harm:?}");
            for (end, sent) in [(&relay, TO_RELAY), (&desk, TO_DESK)] {
                assert!(end.read.is_empty() || end.read == sent, "{towards:?} {harm:?}: {end:?}");
            }
            failed.fetch_add(usize::from(end.failed || desk.failed), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    // Both are exceptions.
    assert!(failed.into_inner() > length * 9 / 10);
}

/// FAULTS 74.
#[test]
fn a_bit_that_flips_anywhere_is_noticed_and_never_read() {
    for towards in [Towards::Relay, Towards::Desk] {
        at_every_offset(towards, |at| Harm::Flip { at });
    }
}

/// FAULTS 74.
#[test]
fn a_session_cut_off_anywhere_fails_at_the_end_that_was_listening() {
    for towards in [Towards::Relay, Towards::Desk] {
        at_every_offset(towards, |at| Harm::Cut { at });
    }
}
