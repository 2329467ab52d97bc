//! Desks without a store: their keys, and a session opened under them.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{BenchError, Target};
use crate::{
    batch::{PublicKey, Tag},
    config,
    identity::{Kind, SpiffeId},
    keys::SigningKey,
    limits,
    merkle::Hash,
    roster::{self, Party, PartyNumber, Roster},
    seal::Slip,
    session::hello::{self, Binding, End, PROTOCOL},
    tls::{self, Credentials, KeyExchange},
    wire::{
        codec::{self, FrameDecoder},
        convert::proof_frame,
        pb::{self, frame::Kind as Frame},
    },
};

const SOFTWARE: &str = concat!("pouch bench ", env!("CARGO_PKG_VERSION"));
/// Room made before each read: what one TLS record holds at most.
const READ_BYTES: usize = 16 * 1024;
/// A relay that says nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Bytes of an instance and of a store id.
const NAME_BYTES: usize = 16;

/// The desks whose keys are at hand. A workload takes it, and gives it back with every session closed.
pub(super) struct Site {
    pub(super) hub: Desk,
    /// At least one, in roster order.
    pub(super) missions: Vec<Desk>,
}

/// What every session needs to know.
pub(super) struct RelayEnd {
    address: std::net::SocketAddr,
    name: ServerName<'static>,
    key: PublicKey,
    pub(super) roster: Roster,
}

/// One desk.
pub(super) struct Desk {
    pub(super) number: PartyNumber,
    pub(super) sign: SigningKey,
    incarnation: u32,
    /// The last slip of each stream, by addressee, at ROUTINE.
    slips: BTreeMap<PartyNumber, Slip>,
    id: SpiffeId,
    tls: Arc<ClientConfig>,
    store_id: [u8; NAME_BYTES],
}

impl Site {
    /// Reads the PKI folder: hub and up to `missions_max` missions.
    pub(super) fn load(target: &Target, missions_max: usize) -> Result<(Site, Arc<RelayEnd>), BenchError> {
        let Target { address, pki } = target;
        let trust = config::trust_bundle(&pki.join("trust.toml"))?;
        if !config::is_example(&trust.trust_domain) {
            return Err(BenchError::NotAnExample(trust.trust_domain));
        }
        let root = tls::load_root(&pki.join("root.pem"), &trust.root_key_sha256)?;
        let path = pki.join("roster.note");
        let note = std::fs::read(&path).map_err(BenchError::file(&path))?;
        let roster = roster::verify_first(&note, &trust)?;
        let name = tls::server_name(&trust.trust_domain)?;
        let load = |party: &Party, folder: &str| {
            let folder = pki.join(folder);
            folder.exists().then(|| Desk::load(party, &folder, &root))
        };
        let missions = roster.parties().filter(|party| party.id.kind() == Kind::Mission);
        let missions = missions
            .filter_map(|party| load(party, party.id.name()?))
            .take(missions_max)
            .collect::<Result<Vec<_>, _>>()?;
        let hub = roster.parties().find(|party| party.id.kind() == Kind::Hub);
        let hub = hub.and_then(|hub| load(hub, hub.id.kind().as_str()));
        let lacks = |wanted| BenchError::NoDesk { path: pki.clone(), wanted };
        let hub = hub.ok_or_else(|| lacks("hub"))??;
        if missions.is_empty() {
            return Err(lacks("mission"));
        }
        let key = roster.relay().ok_or_else(|| lacks("relay"))?.sign;
        let relay = Arc::new(RelayEnd { address: *address, name, key, roster });
        Ok((Site { hub, missions }, relay))
    }
}

impl Desk {
    fn load(
        party: &Party,
        folder: &Path,
        root: &rustls::pki_types::CertificateDer<'static>,
    ) -> Result<Desk, BenchError> {
        let credentials = Credentials::load(folder)?;
        Ok(Desk {
            number: party.number,
            sign: SigningKey::load(&folder.join("sign.key"))?,
            incarnation: 1,
            slips: BTreeMap::new(),
            id: party.id.clone(),
            tls: tls::client_config(&credentials, root, party.id.trust_domain(), KeyExchange::Hybrid)?,
            store_id: random()?,
        })
    }

    /// The next slip to each of these.
    pub(super) fn next_slips(&self, to: &[PartyNumber]) -> Vec<Slip> {
        let first = || Slip { epoch: self.incarnation, number: 0, previous: Hash::ZERO, voided: Vec::new() };
        let next = |slip: Slip| Slip { number: slip.number + 1, ..slip };
        to.iter().map(|party| next(self.slips.get(party).cloned().unwrap_or_else(first))).collect()
    }

    /// The slips were sent in the envelope of this name.
    pub(super) fn sent(&mut self, to: &[PartyNumber], slips: Vec<Slip>, hash: Hash) {
        let last = slips.into_iter().map(|slip| Slip { previous: hash, ..slip });
        self.slips.extend(to.iter().copied().zip(last));
    }

    fn hello(&self, exporter: [u8; 32], roster: &Roster) -> Result<Frame, BenchError> {
        let instance = random()?;
        let (end, incarnation) = (End::Desk, self.incarnation);
        let binding = Binding { exporter, end, incarnation, instance, checkpoint: Bytes::new() };
        let proofs = self.sign.sign_batch(roster.trust_domain(), Tag::Hello, &[binding.leaf()]);
        Ok(Frame::Hello(pb::Hello {
            protocol: PROTOCOL,
            software: SOFTWARE.to_owned(),
            role: End::Desk.code().into(),
            incarnation,
            instance: Bytes::copy_from_slice(&instance),
            store_id: Bytes::copy_from_slice(&self.store_id),
            roster_version: roster.version(),
            roster_hash: Bytes::copy_from_slice(roster.hash().as_bytes()),
            proof: proofs.first().map(proof_frame),
            ..pb::Hello::default()
        }))
    }
}

/// An open session. Frames are queued and leave together with [`Session::flush`].
pub(super) struct Session {
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
    out: BytesMut,
    party: SpiffeId,
    pub(super) welcome: pb::Welcome,
}

impl Session {
    /// Opens a session. Where the log knows the desk already, as another store, it takes the next
    /// incarnation, as a restored desk does.
    pub(super) async fn open(desk: &mut Desk, relay: &RelayEnd) -> Result<Session, BenchError> {
        match Session::open_once(desk, relay).await {
            Err(BenchError::Goodbye { incarnation, .. }) if incarnation >= desk.incarnation => {
                desk.incarnation = incarnation + 1;
                desk.slips.clear();
                Session::open_once(desk, relay).await
            }
            opened => opened,
        }
    }

    async fn open_once(desk: &Desk, relay: &RelayEnd) -> Result<Session, BenchError> {
        let broken = |source| BenchError::Broken { party: desk.id.clone(), source };
        let address = relay.address;
        let socket = TcpStream::connect(address)
            .await
            .map_err(|source| BenchError::Unreachable { address, source })?;
        tls::set_socket_options(&socket).map_err(broken)?;
        let connector = TlsConnector::from(desk.tls.clone());
        let mut stream = connector.connect(relay.name.clone(), socket).await.map_err(broken)?;
        let connection = stream.get_mut().1;
        tls::raise_buffer_limit(connection);
        let exporter = tls::channel_binding(connection)?;
        let mut session = Session {
            stream,
            decoder: FrameDecoder::new(limits::FRAME_BYTES_MAX),
            out: BytesMut::new(),
            party: desk.id.clone(),
            welcome: pb::Welcome::default(),
        };
        session.queue(desk.hello(exporter, &relay.roster)?);
        session.flush().await?;
        session.welcome = session.await_welcome().await?;
        hello::verify_welcome(&session.welcome, exporter, relay.roster.trust_domain(), &relay.key)?;
        let (theirs, ours) = (session.welcome.roster_version, relay.roster.version());
        if theirs != ours {
            return Err(BenchError::RosterDiffers { relay: theirs, ours });
        }
        Ok(session)
    }

    async fn await_welcome(&mut self) -> Result<pb::Welcome, BenchError> {
        loop {
            match self.next()? {
                Some((Frame::Welcome(welcome), _)) => return Ok(welcome),
                Some(_) => {}
                None => self.receive().await?,
            }
        }
    }

    /// Queues a frame.
    pub(super) fn queue(&mut self, frame: Frame) {
        codec::encode(frame, &mut self.out);
    }

    /// Sends what is queued.
    pub(super) async fn flush(&mut self) -> Result<(), BenchError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let written = timeout(SILENCE_MAX, written).await.map_err(|_| BenchError::Silent(SILENCE_MAX))?;
        self.out.clear();
        written.map_err(|source| BenchError::Broken { party: self.party.clone(), source })
    }

    /// Waits until something has come. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> Result<(), BenchError> {
        let broken = |source| BenchError::Broken { party: self.party.clone(), source };
        let buffer = self.decoder.buffer();
        buffer.reserve(READ_BYTES);
        let read = timeout(SILENCE_MAX, self.stream.read_buf(buffer)).await;
        match read.map_err(|_| BenchError::Silent(SILENCE_MAX))?.map_err(broken)? {
            0 => Err(broken(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// The next whole frame of what has come, with its bytes. Answers pings by itself.
    pub(super) fn next(&mut self) -> Result<Option<(Frame, u64)>, BenchError> {
        loop {
            match self.decoder.next_sized()? {
                Some((Frame::Ping(pb::Ping { token }), _)) => {
                    self.queue(Frame::Pong(pb::Pong { token, time_us: 0 }))
                }
                Some((Frame::Goodbye(goodbye), _)) => {
                    let pb::Goodbye { sentence, incarnation, .. } = goodbye;
                    return Err(BenchError::Goodbye { party: self.party.clone(), sentence, incarnation });
                }
                frame => return Ok(frame),
            }
        }
    }

    /// Ends the session in order, and waits until the relay has closed it too, so that the next one of this
    /// desk takes nothing over.
    pub(super) async fn close(mut self) -> Result<(), BenchError> {
        self.queue(Frame::Goodbye(pb::Goodbye {
            code: i32::from(pb::GoodbyeCode::Shutdown).unsigned_abs(),
            ..pb::Goodbye::default()
        }));
        self.flush().await?;
        loop {
            let buffer = self.decoder.buffer();
            buffer.clear();
            buffer.reserve(READ_BYTES);
            match timeout(SILENCE_MAX, self.stream.read_buf(buffer)).await {
                // How the relay ends a connection that is done with does not matter.
                Ok(Ok(0) | Err(_)) => return Ok(()),
                Ok(Ok(_)) => {}
                Err(_) => return Err(BenchError::Silent(SILENCE_MAX)),
            }
        }
    }
}

pub(super) fn random() -> Result<[u8; NAME_BYTES], BenchError> {
    let mut bytes = [0; NAME_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| BenchError::Random)?;
    Ok(bytes)
}
