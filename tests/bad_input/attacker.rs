//! A connection to a running relay that says whatever a test wants.

use std::{net::Shutdown, time::Duration};

use bytes::BytesMut;
use pouch::{
    keys::SigningKey,
    limits::FRAME_BYTES_MAX,
    roster::{Party, PartyNumber},
    tls::{self, Credentials, KeyExchange},
    wire::{
        codec::{self, FrameDecoder},
        pb::{self, GoodbyeCode, frame::Kind},
    },
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{peer::Peer, support::Site};

/// Long enough for a slow machine; nothing here waits for it but a test that fails.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 16 * 1024;

/// A TLS connection of an enrolled party.
pub struct Attacker {
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
    pub exporter: [u8; 32],
}

impl Attacker {
    /// Shakes hands with a party's certificate, and says nothing yet.
    pub async fn connect(site: &Site, party: &str) -> Attacker {
        let folder = site.example().folder.join(party);
        let credentials = Credentials::load(&folder).expect("credentials");
        let root =
            tls::read_certificates(&site.example().folder.join("relay/root.pem")).expect("root").remove(0);
        let domain = &site.example().trust.trust_domain;
        let config = tls::client_config(&credentials, &root, domain, KeyExchange::Hybrid).expect("config");
        let socket = TcpStream::connect(site.address()).await.expect("the relay listens");
        let name = tls::server_name(domain).expect("name");
        let mut stream = TlsConnector::from(config).connect(name, socket).await.expect("handshake");
        let exporter = tls::channel_binding(stream.get_mut().1).expect("exporter");
        Attacker { stream, decoder: FrameDecoder::new(FRAME_BYTES_MAX), exporter }
    }

    /// A session in order, from which to misbehave.
    pub async fn open(site: &Site, party: &str) -> (Attacker, pb::Welcome) {
        let mut attacker = Attacker::connect(site, party).await;
        let (number, key) = keys_of(site, party);
        let peer = Peer { roster: &site.example().roster, number, key: &key };
        attacker.send(Kind::Hello(peer.hello(attacker.exporter))).await;
        match attacker.next().await {
            Some(Kind::Welcome(welcome)) => (attacker, welcome),
            other => panic!("no Welcome: {other:?}"),
        }
    }

    pub async fn send(&mut self, frame: Kind) {
        self.send_all([frame]).await;
    }

    /// Sends frames in one write, so that the relay gets them in one read.
    pub async fn send_all(&mut self, frames: impl IntoIterator<Item = Kind>) {
        let mut wire = BytesMut::new();
        for frame in frames {
            codec::encode(frame, &mut wire);
        }
        self.send_bytes(&wire).await;
    }

    /// Sends any bytes behind their length.
    pub async fn send_delimited(&mut self, frame: &[u8]) {
        let mut wire = BytesMut::new();
        prost::encoding::encode_varint(frame.len() as u64, &mut wire);
        wire.extend_from_slice(frame);
        self.send_bytes(&wire).await;
    }

    /// Sends any bytes. The relay may have closed in the middle of them: what it said then tells.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).await.is_ok() {
            self.stream.flush().await.ok();
        }
    }

    /// Ends the stream without a word, as a cut line does.
    pub fn cut(self) {
        let socket = self.stream.into_inner().0.into_std().expect("a socket");
        socket.shutdown(Shutdown::Write).expect("FIN sent");
    }

    /// The bytes of the next frame but those about the audit log, which no attack asks for; `None` once the relay
    /// has closed.
    pub async fn next_bytes(&mut self) -> Option<bytes::Bytes> {
        loop {
            if let Some(bytes) = self.decoder.next_bytes().expect("the relay sends frames") {
                match pb::Frame::decode(bytes.clone()) {
                    Ok(pb::Frame { kind: Some(Kind::Checkpoint(_) | Kind::AddCheckpoint(_)) }) => continue,
                    _ => return Some(bytes),
                }
            }
            self.decoder.buffer().reserve(READ_BYTES);
            let read = self.stream.read_buf(self.decoder.buffer());
            match timeout(ANSWER_TIME_MAX, read).await.expect("the relay answers or closes") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame; `None` once the relay has closed.
    pub async fn next(&mut self) -> Option<Kind> {
        let bytes = self.next_bytes().await?;
        pb::Frame::decode(bytes).expect("the relay sends frames that can be read").kind
    }

    /// The first frame of the kind that a test waits for.
    pub async fn wait_for<T>(&mut self, wanted: impl Fn(Kind) -> Option<T>) -> T {
        loop {
            let frame = self.next().await.expect("the session is open");
            assert!(!matches!(frame, Kind::Goodbye(_)), "{frame:?}");
            if let Some(found) = wanted(frame) {
                return found;
            }
        }
    }

    /// The relay's last words: code and sentence, and nothing after them.
    pub async fn goodbye(mut self) -> (GoodbyeCode, String) {
        loop {
            if let Kind::Goodbye(goodbye) = self.next().await.expect("closed without a word") {
                assert_eq!(self.next().await, None, "nothing follows a Goodbye");
                let code = i32::try_from(goodbye.code).ok().and_then(|code| code.try_into().ok());
                return (code.expect("a known code"), goodbye.sentence);
            }
        }
    }
}

/// Number and sign key of a party of the example.
pub fn keys_of(site: &Site, name: &str) -> (PartyNumber, SigningKey) {
    let key = SigningKey::load(&site.example().folder.join(name).join("sign.key")).expect("sign key");
    (party(site, name).number, key)
}

/// A party of the example by its folder's name.
pub fn party<'a>(site: &'a Site, name: &str) -> &'a Party {
    let code = if name == "hub" { "MOD" } else { name };
    site.example().roster.party_by_code(code).expect("in the example")
}
