//! TLS between a desk and the relay: who gets in, and what each side is told when it does not.
//!
//! Handshakes run in memory, on a PKI made for each test.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pouch::identity::Kind;
use pouch::tls::{self, Credentials, KeyExchange, LeafError, RevocationLists, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, ServerConfig, ServerConnection, SideData, SignatureScheme,
};
use tempfile::TempDir;

const TRUST_DOMAIN: &str = "mod.example";
const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_desk_and_the_relay_know_each_other_after_the_handshake() {
    let pki = Pki::new();
    let (desk, relay) = pki.meet(&pki.desk(|_| ()), &pki.relay(|_| ()));
    let (desk, relay) = (desk.unwrap(), relay.unwrap());

    let (seen_by_relay, serial) = tls::peer(&relay).unwrap();
    assert_eq!(seen_by_relay.spiffe().to_string(), "spiffe://mod.example/mission/idn");
    assert_eq!(serial, "0102030405060708");
    let (seen_by_desk, _) = tls::peer(&desk).unwrap();
    assert_eq!(seen_by_desk.spiffe().kind(), Kind::Relay);

    assert_eq!(desk.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = desk.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(tls::channel_binding(&desk).unwrap(), tls::channel_binding(&relay).unwrap());
}

#[test]
fn each_connection_has_its_own_channel_binding_and_a_full_handshake() {
    let pki = Pki::new();
    let client = pki.client(&pki.desk(|_| ()), KeyExchange::Hybrid);
    let server = pki.server(&pki.relay(|_| ()), KeyExchange::Hybrid);
    let mut bindings = Vec::new();
    for _ in 0..2 {
        let (desk, relay) = handshake(client.clone(), server.clone());
        let (desk, relay) = (desk.unwrap(), relay.unwrap());
        assert_eq!(desk.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(relay.handshake_kind(), Some(HandshakeKind::Full));
        bindings.push(tls::channel_binding(&desk).unwrap());
    }
    assert_ne!(bindings[0], bindings[1]);
}

/// FAULTS 69: a session that could be resumed would let a party in again without its certificate being looked at.
#[test]
fn a_client_that_would_resume_its_session_gets_no_ticket_and_a_full_handshake_again() {
    let pki = Pki::new();
    let mut client = (*pki.client(&pki.desk(|_| ()), KeyExchange::Hybrid)).clone();
    client.resumption = Resumption::in_memory_sessions(8);
    client.enable_early_data = true;
    let (client, server) = (Arc::new(client), pki.server(&pki.relay(|_| ()), KeyExchange::Hybrid));
    for _ in 0..2 {
        let (desk, relay) = handshake(client.clone(), server.clone());
        let (desk, relay) = (desk.unwrap(), relay.unwrap());
        assert_eq!(desk.tls13_tickets_received(), 0);
        assert_eq!(relay.handshake_kind(), Some(HandshakeKind::Full));
        assert!(!desk.is_early_data_accepted());
    }
}

#[test]
fn a_connection_has_no_peer_and_no_binding_before_the_handshake_ends() {
    let pki = Pki::new();
    let name = tls::server_name(TRUST_DOMAIN).unwrap();
    let desk = ClientConnection::new(pki.client(&pki.desk(|_| ()), KeyExchange::Hybrid), name).unwrap();
    assert!(matches!(tls::peer(&desk), Err(TlsError::Unfinished)));
    assert!(matches!(tls::channel_binding(&desk), Err(TlsError::Unfinished)));
}

/// FAULTS 67.
#[test]
fn a_client_without_a_certificate_is_refused() {
    let pki = Pki::new();
    let client = pki.lax_client(None, aws_lc_rs::kx_group::X25519MLKEM768);
    let (desk, relay) = handshake(client, pki.server(&pki.relay(|_| ()), KeyExchange::Hybrid));
    assert!(matches!(relay, Err(TlsError::NoCertificate)));
    assert!(matches!(desk, Err(TlsError::OwnRefused)));
}

#[test]
fn a_desk_of_another_ca_is_refused() {
    let pki = Pki::new();
    let stranger = Pki::new().desk(|_| ());
    let (desk, relay) = pki.meet(&stranger, &pki.relay(|_| ()));
    assert!(matches!(relay, Err(TlsError::WrongCa)), "{relay:?}");
    assert!(matches!(desk, Err(TlsError::OwnWrongCa)), "{desk:?}");
}

#[test]
fn a_self_signed_desk_is_refused() {
    let pki = Pki::new();
    let key = KeyPair::generate().unwrap();
    let certificate = desk_params().self_signed(&key).unwrap();
    let own = pki.credentials(&certificate.pem(), &key);
    let (_, relay) = pki.meet(&own, &pki.relay(|_| ()));
    assert!(matches!(relay, Err(TlsError::WrongCa)), "{relay:?}");
}

#[test]
fn a_desk_leaves_a_relay_of_another_ca() {
    let pki = Pki::new();
    let stranger = Pki::new().relay(|_| ());
    let (desk, _) = pki.meet(&pki.desk(|_| ()), &stranger);
    assert!(matches!(desk, Err(TlsError::WrongCa)), "{desk:?}");
}

/// FAULTS 68.
#[test]
fn an_expired_desk_is_told_so_on_both_sides() {
    let pki = Pki::new();
    let expired = pki.desk(|params| params.not_after = (SystemTime::now() - DAY).into());
    let (desk, relay) = pki.meet(&expired, &pki.relay(|_| ()));
    assert!(matches!(relay, Err(TlsError::Expired)), "{relay:?}");
    assert!(matches!(desk, Err(TlsError::OwnExpired)), "{desk:?}");
}

/// FAULTS 68.
#[test]
fn a_desk_that_is_not_valid_yet_is_refused() {
    let pki = Pki::new();
    let early = pki.desk(|params| params.not_before = (SystemTime::now() + DAY).into());
    let (_, relay) = pki.meet(&early, &pki.relay(|_| ()));
    assert!(matches!(relay, Err(TlsError::NotYetValid)), "{relay:?}");
}

#[test]
fn an_expired_relay_is_left() {
    let pki = Pki::new();
    let expired = pki.relay(|params| params.not_after = (SystemTime::now() - DAY).into());
    let (desk, _) = pki.meet(&pki.desk(|_| ()), &expired);
    assert!(matches!(desk, Err(TlsError::Expired)), "{desk:?}");
}

/// FAULTS 67.
#[test]
fn a_desk_leaf_that_is_none_of_ours_is_refused() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change, LeafError); 8] = [
        ("no purpose", |params| params.extended_key_usages = vec![], LeafError::NoPurpose),
        ("a server's purpose", |params| params.extended_key_usages = vec![ServerAuth], LeafError::Purpose),
        (
            "two purposes",
            |params| params.extended_key_usages = vec![ClientAuth, ServerAuth],
            LeafError::Purpose,
        ),
        ("any purpose", |params| params.extended_key_usages = vec![ClientAuth, Any], LeafError::Purpose),
        ("a CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), LeafError::Ca),
        (
            "a relay's id",
            |params| params.subject_alt_names = vec![uri("spiffe://mod.example/relay/a")],
            LeafError::Kind("spiffe://mod.example/relay/a".to_owned()),
        ),
        (
            "another trust domain",
            |params| params.subject_alt_names = vec![uri("spiffe://evil.example/hub")],
            LeafError::TrustDomain("evil.example".to_owned()),
        ),
        (
            "a trust domain that ours is the beginning of",
            |params| params.subject_alt_names = vec![uri("spiffe://mod.example.org/hub")],
            LeafError::TrustDomain("mod.example.org".to_owned()),
        ),
    ];
    let pki = Pki::new();
    for (what, change, expected) in cases {
        let (desk, relay) = pki.meet(&pki.desk(change), &pki.relay(|_| ()));
        match relay {
            Err(TlsError::Leaf(error)) => assert_eq!(error, expected, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert!(matches!(desk, Err(TlsError::OwnRefused)), "{what}: {desk:?}");
    }
}

#[test]
fn a_desk_without_exactly_one_spiffe_id_is_refused() {
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change); 4] = [
        ("two ids", |params| params.subject_alt_names.push(uri("spiffe://mod.example/hub"))),
        ("another URI beside it", |params| params.subject_alt_names.push(uri("https://mod.example/"))),
        ("none", |params| {
            params.subject_alt_names = vec![SanType::DnsName("idn.mod.example".try_into().unwrap())]
        }),
        ("another scheme", |params| params.subject_alt_names = vec![uri("https://mod.example/mission/idn")]),
    ];
    let pki = Pki::new();
    for (what, change) in cases {
        let (_, relay) = pki.meet(&pki.desk(change), &pki.relay(|_| ()));
        assert!(matches!(relay, Err(TlsError::Leaf(LeafError::Identity(_)))), "{what}: {relay:?}");
    }
}

#[test]
fn a_relay_leaf_that_is_none_of_ours_is_left() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let pki = Pki::new();
    let left = |change: fn(&mut CertificateParams)| pki.meet(&pki.desk(|_| ()), &pki.relay(change)).0;

    let desk = left(|params| params.extended_key_usages = vec![]);
    assert!(matches!(desk, Err(TlsError::Leaf(LeafError::NoPurpose))), "{desk:?}");
    let desk = left(|params| params.extended_key_usages = vec![ClientAuth]);
    assert!(matches!(desk, Err(TlsError::Leaf(LeafError::Purpose))), "{desk:?}");
    let desk = left(|params| params.extended_key_usages = vec![ServerAuth, ClientAuth]);
    assert!(matches!(desk, Err(TlsError::Leaf(LeafError::Purpose))), "{desk:?}");
    let desk = left(|params| params.subject_alt_names[0] = uri("spiffe://mod.example/mission/idn"));
    assert!(matches!(desk, Err(TlsError::Leaf(LeafError::Kind(_)))), "{desk:?}");
    let desk = left(|params| params.subject_alt_names[0] = uri("spiffe://evil.example/relay/a"));
    assert!(matches!(desk, Err(TlsError::Leaf(LeafError::TrustDomain(_)))), "{desk:?}");
    let desk = left(|params| params.subject_alt_names[1] = dns("relay.evil.example"));
    assert!(matches!(desk, Err(TlsError::WrongName)), "{desk:?}");
}

#[test]
fn a_mission_cannot_play_the_relay() {
    let pki = Pki::new();
    let (desk, _) = pki.meet(&pki.desk(|_| ()), &pki.desk(|_| ()));
    assert!(desk.is_err());
}

#[test]
fn a_classical_client_is_refused_unless_the_relay_allows_it() {
    let pki = Pki::new();
    let client = pki.lax_client(Some(&pki.desk(|_| ())), ring::kx_group::X25519);

    let strict = pki.server(&pki.relay(|_| ()), KeyExchange::Hybrid);
    let (desk, relay) = handshake(client.clone(), strict);
    assert!(matches!(relay, Err(TlsError::Incompatible)), "{relay:?}");
    assert!(matches!(desk, Err(TlsError::Incompatible)), "{desk:?}");

    let lenient = pki.server(&pki.relay(|_| ()), KeyExchange::HybridOrClassical);
    let (desk, relay) = handshake(client, lenient);
    assert!(relay.is_ok(), "{relay:?}");
    assert!(desk.is_ok(), "{desk:?}");
}

/// FAULTS 73.
#[test]
fn a_tls_1_2_client_is_refused() {
    let pki = Pki::new();
    let mut relay = ServerConnection::new(pki.server(&pki.relay(|_| ()), KeyExchange::Hybrid)).unwrap();
    relay.read_tls(&mut tls_1_2_hello().as_slice()).unwrap();
    let error = TlsError::from(relay.process_new_packets().unwrap_err());
    assert!(matches!(error, TlsError::Incompatible), "{error:?}");
}

#[test]
fn another_protocol_name_is_refused_by_both_ends() {
    let pki = Pki::new();
    let mut client = (*pki.client(&pki.desk(|_| ()), KeyExchange::Hybrid)).clone();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let server = pki.server(&pki.relay(|_| ()), KeyExchange::Hybrid);
    let (desk, relay) = handshake(Arc::new(client.clone()), server.clone());
    assert!(matches!(relay, Err(TlsError::Incompatible)), "{relay:?}");
    assert!(matches!(desk, Err(TlsError::Incompatible)), "{desk:?}");

    // Without any name TLS itself goes on; the peer is refused all the same.
    client.alpn_protocols.clear();
    let (_, relay) = handshake(Arc::new(client), server);
    assert!(matches!(tls::peer(&relay.unwrap()), Err(TlsError::Incompatible)));

    let mut server = (*pki.server(&pki.relay(|_| ()), KeyExchange::Hybrid)).clone();
    server.alpn_protocols.clear();
    let client = pki.client(&pki.desk(|_| ()), KeyExchange::Hybrid);
    let (desk, _) = handshake(client, Arc::new(server));
    assert!(matches!(tls::peer(&desk.unwrap()), Err(TlsError::Incompatible)));
}

#[test]
fn another_root_than_the_trust_bundle_names_is_refused() {
    let (ours, other) = (Pki::new(), Pki::new());
    let key = tls::spki_sha256(&ours.root).unwrap();
    assert!(tls::load_root(&ours.folder.path().join("root.pem"), &key).is_ok());
    let error = tls::load_root(&other.folder.path().join("root.pem"), &key).unwrap_err();
    assert!(matches!(error, TlsError::Root { .. }), "{error:?}");
}

/// A CA made by the code under test, from which a test makes leaves that the CA itself never would.
struct Pki {
    folder: TempDir,
    root: CertificateDer<'static>,
    issuing: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Pki {
        let folder = TempDir::new().unwrap();
        pouch::pki::init(folder.path(), TRUST_DOMAIN, SystemTime::now()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let key = KeyPair::from_pem(&read("issuing.key")).unwrap();
        let issuing = Issuer::from_ca_cert_pem(&read("issuing.pem"), key).unwrap();
        let root = tls::read_certificates(&folder.path().join("root.pem")).unwrap().remove(0);
        Pki { folder, root, issuing }
    }

    fn desk(&self, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        self.leaf(desk_params(), change)
    }

    fn relay(&self, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        let mut params = desk_params();
        params.subject_alt_names = vec![uri("spiffe://mod.example/relay/a"), dns("relay.mod.example")];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.leaf(params, change)
    }

    fn leaf(
        &self,
        mut params: CertificateParams,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Credentials {
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuing).unwrap();
        let chain = leaf.pem() + &std::fs::read_to_string(self.folder.path().join("issuing.pem")).unwrap();
        self.credentials(&chain, &key)
    }

    fn credentials(&self, chain: &str, key: &KeyPair) -> Credentials {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("tls.pem"), chain).unwrap();
        pouch::keys::write_private(&folder.path().join("tls.key"), key.serialize_pem().as_bytes()).unwrap();
        Credentials::load(folder.path()).unwrap()
    }

    fn client(&self, credentials: &Credentials, key_exchange: KeyExchange) -> Arc<ClientConfig> {
        tls::client_config(credentials, &self.root, TRUST_DOMAIN, key_exchange).unwrap()
    }

    fn server(&self, credentials: &Credentials, key_exchange: KeyExchange) -> Arc<ServerConfig> {
        tls::server_config(credentials, &self.root, TRUST_DOMAIN, key_exchange, &RevocationLists::default())
            .unwrap()
    }

    fn meet(&self, desk: &Credentials, relay: &Credentials) -> Ends {
        handshake(self.client(desk, KeyExchange::Hybrid), self.server(relay, KeyExchange::Hybrid))
    }

    /// A client that shows `credentials` and asks nothing of the relay, with a key exchange of its own.
    fn lax_client(
        &self,
        credentials: Option<&Credentials>,
        group: &'static dyn SupportedKxGroup,
    ) -> Arc<ClientConfig> {
        let provider = CryptoProvider { kx_groups: vec![group], ..ring::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsEverybody));
        let mut config = match credentials {
            Some(credentials) => {
                let proper = self.client(credentials, KeyExchange::Hybrid);
                builder.with_client_cert_resolver(proper.client_auth_cert_resolver.clone())
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![tls::ALPN.to_vec()];
        Arc::new(config)
    }
}

type Ends = (Result<ClientConnection, TlsError>, Result<ServerConnection, TlsError>);

/// Runs a handshake to its end, or until both sides know that it failed.
fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Ends {
    let mut desk = ClientConnection::new(client, tls::server_name(TRUST_DOMAIN).unwrap()).unwrap();
    let mut relay = ServerConnection::new(server).unwrap();
    let (mut desk_error, mut relay_error) = (None, None);
    for _ in 0..4 {
        relay_error = relay_error.or(carry(&mut desk, &mut relay));
        desk_error = desk_error.or(carry(&mut relay, &mut desk));
    }
    (desk_error.map_or(Ok(desk), Err), relay_error.map_or(Ok(relay), Err))
}

/// Carries what one end has to say to the other, and returns what that one says to it.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Option<TlsError> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        if let Err(error) = to.process_new_packets() {
            return Some(TlsError::from(error));
        }
    }
    None
}

fn desk_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = (SystemTime::now() - 2 * DAY).into();
    params.not_after = (SystemTime::now() + 2 * DAY).into();
    params.serial_number = Some(vec![1, 2, 3, 4, 5, 6, 7, 8].into());
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![uri("spiffe://mod.example/mission/idn")];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// A ClientHello as TLS 1.2 has it: without the extension that names 1.3.
fn tls_1_2_hello() -> Vec<u8> {
    let signature_algorithms = [0, 13, 0, 4, 0, 2, 4, 3];
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2c, 1, 0, 0, 16]);
    body.extend(signature_algorithms);
    body.extend(groups);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[derive(Debug)]
struct TrustsEverybody;

impl ServerCertVerifier for TrustsEverybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
