//! The TLS of both ends: TLS 1.3 only, both sides authenticated, post-quantum key exchange, ALPN
//! `pouch/1`, every handshake a full one (DESIGN 7).
//!
//! There is no resumption and no early data, so a revoked certificate has no side door. A peer's
//! certificate must chain to the root whose key stands in the trust bundle, and must be a leaf of
//! ours: no CA, exactly one purpose (`clientAuth` for desks, `serverAuth` for the relay), exactly
//! one SPIFFE ID, in our trust domain. rustls and webpki check chain, dates, name and signature;
//! [`check_leaf`] checks the rest within the same handshake.

mod explain;
mod own;
mod revocation;
mod verify;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{
    ClientConfig, CommonState, ConnectionCommon, NamedGroup, RootCertStore, ServerConfig,
    SupportedCipherSuite,
};
use socket2::SockRef;
use webpki::EndEntityCert;

use crate::identity::{IdentityError, PartyId};
use crate::keys::{self, KeyError};
use crate::limits::{FRAME_BYTES_MAX, FRAME_CONTROL_BYTES_MAX, Limits};
use crate::merkle::{self, Hash};

pub use explain::explain;
pub use own::{Dates, Validity};
pub use revocation::{RevocationListError, RevocationLists};
pub use verify::{LeafError, Purpose, check_leaf, purpose_of};

/// The protocol name both ends must agree on (DESIGN 7).
pub const ALPN: &[u8] = b"pouch/1";

/// The protocol name of the relay's HTTPS listener, where a client names any (RFC 7301).
pub const HTTP_ALPN: &[u8] = b"http/1.1";

/// Label of the TLS exporter that binds Hello and Welcome to their connection (RFC 9266).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Bytes that one connection buffers before TLS takes no more: one frame of the largest kind and
/// one control frame. Reached: writes wait, as they do for a full socket.
const BUFFER_BYTES_MAX: usize = FRAME_BYTES_MAX + FRAME_CONTROL_BYTES_MAX;

/// Bytes not yet sent that the kernel may hold for one connection (DESIGN 7), so that a FLASH
/// never waits behind megabytes there. Reached: the socket is not writable.
const UNSENT_BYTES_MAX: u32 = 16 * 1024;

/// Why a TLS configuration cannot be made, or a connection has no authenticated peer.
///
/// The texts about certificates are for the clerk at the box that shows them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The operator's key file is missing, exposed or no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operator's certificate file cannot be read.
    #[error("{path}: {source}: check the name and who may read it", path = path.display())]
    File {
        /// The file that was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operator's certificate file holds something else.
    #[error("{path}: {problem}; put the file there that `pouch pki issue` or `pouch pki init` wrote", path = path.display())]
    Certificate {
        /// The file that was named.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The root certificate is not the one whose key the trust bundle names.
    #[error("{path} is not the root CA that the trust bundle names (its key has SHA-256 {found}, the bundle says {expected}): get root.pem and trust.toml from the ministry once more", path = path.display())]
    Root {
        /// The root certificate's file.
        path: PathBuf,
        /// Hash of the key in the file.
        found: Hash,
        /// Hash of the key in the trust bundle.
        expected: Hash,
    },
    /// A list of revoked certificates cannot be used.
    #[error("{path} is not used as a list of revoked certificates: {problem}", path = path.display())]
    RevocationList {
        /// The file that was named.
        path: PathBuf,
        /// Why not.
        problem: RevocationListError,
    },
    /// The own certificate and key do not fit together, or TLS cannot work with them.
    #[error(
        "TLS cannot be set up with this certificate and key ({0}): check that tls.pem and tls.key belong together"
    )]
    Setup(rustls::Error),
    /// The trust domain of the roster gives no host name.
    #[error("the trust domain {0:?} is no valid DNS name: correct trust.toml")]
    TrustDomain(String),
    /// The peer's certificate has expired by our clock.
    #[error(
        "the other side's certificate has expired, or this machine's clock runs ahead: check the clock with `timedatectl`, then ask the other side to renew"
    )]
    Expired,
    /// The peer's certificate is not valid yet by our clock.
    #[error(
        "the other side's certificate is not valid yet: this machine's clock is probably behind; check it with `timedatectl`"
    )]
    NotYetValid,
    /// The peer's certificate, or that of its CA, stands on a list of revoked ones.
    #[error("the other side's certificate is revoked: it must ask the ministry for a new one")]
    Revoked,
    /// The peer's certificate comes from another CA.
    #[error(
        "the other side's certificate comes from a CA that root.pem does not stand for: check that the address is right, and that both sides belong to the same ministry's PKI"
    )]
    WrongCa,
    /// The relay's certificate names another relay or domain.
    #[error(
        "the certificate at this address is not for this relay's name: check the relay address in the roster"
    )]
    WrongName,
    /// The peer's certificate is none that our CA makes.
    #[error("the other side's certificate is not usable here: {0}")]
    Leaf(LeafError),
    /// The peer showed no certificate.
    #[error(
        "the other side showed no certificate: it must be a Pouch desk with tls.pem and tls.key in place"
    )]
    NoCertificate,
    /// The peer refused our certificate as expired.
    #[error(
        "the other side says that this machine's certificate has expired or is not valid yet: see the dates with `pouch pki show tls.pem`, check the clock, and ask the ministry for a new certificate"
    )]
    OwnExpired,
    /// The peer refused our certificate as coming from another CA.
    #[error(
        "the other side does not know the CA of this machine's certificate: tls.pem must hold the chain that the ministry's `pouch pki issue` wrote"
    )]
    OwnWrongCa,
    /// The peer refused our certificate for another reason.
    #[error(
        "the other side does not accept this machine's certificate: compare `pouch pki show tls.pem` with the roster; the relay's log says what it found"
    )]
    OwnRefused,
    /// The peers have no protocol, key exchange or cipher in common.
    #[error(
        "the other side does not speak pouch/1 over TLS 1.3 with post-quantum key exchange: check the address, and that no TLS-inspecting proxy stands between"
    )]
    Incompatible,
    /// The handshake is not complete.
    #[error("the connection is not established yet")]
    Unfinished,
    /// The handshake failed for a reason that is no clerk's business.
    #[error("the TLS handshake failed ({0}): try again, and report it if it stays")]
    Handshake(rustls::Error),
}

impl From<IdentityError> for TlsError {
    fn from(error: IdentityError) -> TlsError {
        TlsError::Leaf(LeafError::Identity(error))
    }
}

/// The key exchange that an endpoint offers and accepts (DESIGN 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    /// X25519MLKEM768 alone: the default. A peer without it is refused.
    Hybrid,
    /// Also plain X25519, where the operator's configuration allows it; the operator is warned,
    /// because what is recorded today may be read when quantum computers come.
    HybridOrClassical,
}

/// What an endpoint shows to its peers: certificate chain and private key.
pub struct Credentials {
    /// Where the chain was read.
    path: PathBuf,
    /// Leaf first; never empty.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads `tls.pem` (leaf first, then the issuing CA) and `tls.key` of a party's folder.
    ///
    /// # Errors
    /// [`TlsError::Key`], [`TlsError::File`] or [`TlsError::Certificate`], naming the file.
    pub fn load(folder: &Path) -> Result<Credentials, TlsError> {
        let path = folder.join("tls.pem");
        let chain = read_certificates(&path)?;
        let key = keys::load_tls_key(&folder.join("tls.key"))?;
        Ok(Credentials { path, chain, key })
    }

    /// The CAs of the chain, the leaf's first.
    fn issuers(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.chain.iter().skip(1)
    }

    /// Who the certificate says that this endpoint is.
    ///
    /// # Errors
    /// [`TlsError::Leaf`] when the certificate does not hold exactly one SPIFFE ID.
    pub fn party_id(&self) -> Result<PartyId, TlsError> {
        Ok(PartyId::from_verified(&self.chain[0])?)
    }
}

/// Reads the root CA's certificate and holds it against the trust bundle's hash of its key.
///
/// # Errors
/// [`TlsError::Root`] when it is another root; otherwise as [`Credentials::load`].
pub fn load_root(path: &Path, key_sha256: &Hash) -> Result<CertificateDer<'static>, TlsError> {
    let wrong = |problem| TlsError::Certificate { path: path.to_owned(), problem };
    let mut certificates = read_certificates(path)?;
    let root = certificates.swap_remove(0);
    if !certificates.is_empty() {
        return Err(wrong("more than one certificate"));
    }
    let found = spki_sha256(&root).ok_or_else(|| wrong("no X.509 certificate"))?;
    if found != *key_sha256 {
        let (path, expected) = (path.to_owned(), *key_sha256);
        return Err(TlsError::Root { path, found, expected });
    }
    Ok(root)
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER): how the trust bundle names
/// the root (FORMATS 11). `None` when the bytes are no certificate.
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> Option<Hash> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    Some(merkle::sha256(&parsed.subject_public_key_info()))
}

/// Reads the certificates of a PEM file; there is at least one.
///
/// # Errors
/// [`TlsError::File`] when it cannot be read, [`TlsError::Certificate`] when it holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem| TlsError::Certificate { path: path.to_owned(), problem };
    let text = fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| wrong("no certificate in PEM form"))?;
    if certificates.is_empty() {
        return Err(wrong("no certificate in it"));
    }
    Ok(certificates)
}

/// The relay's TLS configuration: accepts desks of `trust_domain` whose chain ends at `root` and holds nothing that
/// `revoked` lists. A CA without a list revokes nothing by it, and a list that is overdue counts on.
///
/// To reload, make a new one and use it for the next accept; live connections keep theirs.
///
/// # Errors
/// [`TlsError::Setup`] when certificate and key do not fit.
pub fn server_config(
    credentials: &Credentials,
    root: &CertificateDer<'static>,
    trust_domain: &str,
    key_exchange: KeyExchange,
    revoked: &RevocationLists,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider(key_exchange);
    let verifier = verify::desks(roots(root)?, provider.clone(), trust_domain, revoked)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(TlsError::Setup)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// The same for HTTP: certificates as of a desk, and no `pouch/1`, so that neither listener can be taken for the
/// other.
pub fn http_config(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![HTTP_ALPN.to_vec()];
    Arc::new(config)
}

/// A desk's TLS configuration: accepts a relay of `trust_domain` whose chain ends at `root`.
/// Connect with [`server_name`].
///
/// # Errors
/// [`TlsError::Setup`] when certificate and key do not fit.
pub fn client_config(
    credentials: &Credentials,
    root: &CertificateDer<'static>,
    trust_domain: &str,
    key_exchange: KeyExchange,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider(key_exchange);
    let verifier = verify::relay(roots(root)?, provider.clone(), trust_domain)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .dangerous() // the verifier asks webpki's first and only refuses more
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(TlsError::Setup)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The same for HTTP, as [`http_config`] for the other side.
pub fn http_client_config(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![HTTP_ALPN.to_vec()];
    Arc::new(config)
}

/// The name that desks ask for and the relay's certificate holds, whatever its address
/// (FORMATS 4): `relay.<trust domain>`.
///
/// # Errors
/// [`TlsError::TrustDomain`] when that is no DNS name.
pub fn server_name(trust_domain: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(relay_host(trust_domain)).map_err(|_| TlsError::TrustDomain(trust_domain.to_owned()))
}

/// The relay's host name in `trust_domain`, as its certificate has it.
pub fn relay_host(trust_domain: &str) -> String {
    format!("relay.{trust_domain}")
}

/// Who is at the other end of an established connection, and the serial of its certificate in
/// lower hex, to be held against the roster's revoked ones.
///
/// # Errors
/// [`TlsError::Unfinished`] before the handshake ended, [`TlsError::Incompatible`] when it did not
/// agree on `pouch/1`, [`TlsError::NoCertificate`] or [`TlsError::Leaf`] when the peer has no
/// identity.
pub fn peer(connection: &CommonState) -> Result<(PartyId, String), TlsError> {
    if connection.is_handshaking() {
        return Err(TlsError::Unfinished);
    }
    // rustls goes on without ALPN when one side has none.
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::Incompatible);
    }
    certified(connection)
}

/// The same of a connection that speaks HTTP, whether its client named that protocol or none.
///
/// # Errors
/// As [`peer`].
pub fn http_peer(connection: &CommonState) -> Result<(PartyId, String), TlsError> {
    if connection.is_handshaking() {
        return Err(TlsError::Unfinished);
    }
    if connection.alpn_protocol().is_some_and(|protocol| protocol != HTTP_ALPN) {
        return Err(TlsError::Incompatible);
    }
    certified(connection)
}

fn certified(connection: &CommonState) -> Result<(PartyId, String), TlsError> {
    let chain = connection.peer_certificates().ok_or(TlsError::NoCertificate)?;
    let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
    let serial = serial_hex(leaf).ok_or(TlsError::Leaf(LeafError::Malformed))?;
    Ok((PartyId::from_verified(leaf)?, serial))
}

/// Whether the keys of an established connection were agreed by plain X25519, which is allowed only by
/// configuration and worth an alarm at both ends.
pub fn is_classical(connection: &CommonState) -> bool {
    connection.negotiated_key_exchange_group().is_none_or(|group| group.name() != NamedGroup::X25519MLKEM768)
}

/// A certificate's serial number in lower hex without leading zero bytes, as the roster lists
/// revoked ones. `None` when the bytes are no certificate.
pub fn serial_hex(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let serial = parsed.serial();
    let zeros = serial.iter().take_while(|&&byte| byte == 0).count();
    Some(HEXLOWER.encode(&serial[zeros..]))
}

/// 32 bytes that only the two ends of this TLS connection know, the same at both (RFC 9266).
///
/// # Errors
/// [`TlsError::Unfinished`] before the handshake ended.
pub fn channel_binding<Side>(connection: &ConnectionCommon<Side>) -> Result<[u8; 32], TlsError> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None).map_err(|_| TlsError::Unfinished)
}

/// Lets TLS buffer a whole frame, so that a frame is one write and many small ones share one.
pub fn raise_buffer_limit<Side>(connection: &mut ConnectionCommon<Side>) {
    connection.set_buffer_limit(Some(BUFFER_BYTES_MAX));
}

/// Sets a connection's socket options: small frames leave at once, a silent peer is given up
/// after 25 s, and the kernel holds at most 16 KiB that it has not sent (DESIGN 7).
///
/// # Errors
/// What the system says; the connection is to be dropped then.
pub fn set_socket_options(stream: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(Limits::DEFAULT.silence_max))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

fn roots(root: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    store.add(root.clone()).map_err(TlsError::Setup)?;
    Ok(Arc::new(store))
}

/// ring for everything but the ML-KEM group, which it lacks.
fn provider(key_exchange: KeyExchange) -> Arc<CryptoProvider> {
    const SUITES: [SupportedCipherSuite; 3] = [
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    ];
    let hybrid: &'static dyn SupportedKxGroup = aws_lc_rs::kx_group::X25519MLKEM768;
    let kx_groups = match key_exchange {
        KeyExchange::Hybrid => vec![hybrid],
        KeyExchange::HybridOrClassical => vec![hybrid, ring::kx_group::X25519],
    };
    Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), kx_groups, ..ring::default_provider() })
}
