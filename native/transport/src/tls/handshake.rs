//! The handshake: TLS 1.3 only, both ends authenticated, and not one byte read beyond it.

use std::io;
use std::sync::Arc;

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, DistinguishedName, Error,
    RootCertStore, ServerConfig, ServerConnection, SideData, SignatureScheme, SupportedProtocolVersion,
};

use super::{
    ClientKey, IdentityError, Keys, Opener, RECORD_HEAD_BYTES, Sealer, TlsError, WorkerIdentity, randomness,
};
use crate::lane::refusal_in_clear;
use crate::socket::Socket;

/// The only version that is spoken.
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Bytes of a record at most, its head not counted.
const MOST_RECORD: usize = (1 << 14) + 256;

/// AES-128 first: the fastest with the processor's instructions, and strong enough.
fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, ..default_provider() })
}

/// How a client process shakes hands.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// For workers of the server `server_id` with a certificate of one of the authorities `trusted` (DER), with the
    /// process's key.
    pub fn new(key: &ClientKey, trusted: &[Vec<u8>], server_id: &str) -> Result<ClientTls, IdentityError> {
        let unusable = |error: String| IdentityError::Key(error);
        let provider = provider();
        let mut roots = RootCertStore::empty();
        for authority in trusted {
            roots
                .add(CertificateDer::from(authority.clone()))
                .map_err(|error| unusable(error.to_string()))?;
        }
        let name = ServerName::try_from(format!("{server_id}.servers.farpool.internal"))
            .map_err(|error| unusable(error.to_string()))?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)
            .map_err(|error| unusable(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OneServer { inner, name }))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(
                &key.certified,
            ))));
        config.enable_secret_extraction = true;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(ClientTls { config: Arc::new(config) })
    }
}

/// How a worker shakes hands.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// As the server that `identity` names.
    pub fn new(identity: &WorkerIdentity) -> Result<ServerTls, IdentityError> {
        let unusable = |error: Error| IdentityError::Key(error.to_string());
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(AnyRawKey { algorithms }))
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(unusable)?;
        config.enable_secret_extraction = true;
        config.send_tls13_tickets = 0;
        Ok(ServerTls { config: Arc::new(config) })
    }
}

/// Shakes hands as the client; `name` is what the acceptor routes by.
pub fn client_handshake(socket: &Socket, tls: &ClientTls, name: &str) -> io::Result<Keys> {
    randomness::prepare()?;
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::clone(&tls.config), name).map_err(failed)?;
    shake_hands(socket, &mut connection, true)?;
    let secrets = connection.dangerous_extract_secrets().map_err(failed)?;
    Ok(Keys { sealer: Sealer::new(secrets.tx)?, opener: Opener::new(secrets.rx)? })
}

/// Shakes hands as a worker. Answers the keys, and the client's public key as SubjectPublicKeyInfo (DER).
pub fn server_handshake(socket: &Socket, tls: &ServerTls) -> io::Result<(Keys, Vec<u8>)> {
    randomness::prepare()?;
    let mut connection = ServerConnection::new(Arc::clone(&tls.config)).map_err(failed)?;
    shake_hands(socket, &mut connection, false)?;
    let peer = connection.peer_certificates().and_then(<[_]>::first).map(|key| key.as_ref().to_vec());
    let peer = peer.ok_or_else(|| TlsError::Handshake("the client showed no key".into()))?;
    let secrets = connection.dangerous_extract_secrets().map_err(failed)?;
    Ok((Keys { sealer: Sealer::new(secrets.tx)?, opener: Opener::new(secrets.rx)? }, peer))
}

/// Sends and receives records until both ends know the keys.
fn shake_hands<D: SideData>(
    socket: &Socket,
    connection: &mut ConnectionCommon<D>,
    may_be_refused: bool,
) -> io::Result<()> {
    loop {
        let mut out = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut out)?;
        }
        socket.send_all(&[&out])?;
        if !connection.is_handshaking() {
            return Ok(());
        }
        let record = receive_record(socket, may_be_refused)?;
        feed(|bytes| connection.read_tls(bytes), &record)?;
        if let Err(error) = connection.process_new_packets() {
            alert(socket, |out| connection.write_tls(out));
            return Err(failed(error));
        }
    }
}

fn failed(error: Error) -> io::Error {
    TlsError::Handshake(error.to_string()).into()
}

/// Tells the other end why, as far as the socket takes it.
fn alert(socket: &Socket, mut write: impl FnMut(&mut Vec<u8>) -> io::Result<usize>) {
    let mut out = Vec::new();
    while write(&mut out).is_ok_and(|count| count > 0) {}
    let _ = socket.send_all(&[&out]);
}

fn feed(mut read: impl FnMut(&mut &[u8]) -> io::Result<usize>, mut record: &[u8]) -> io::Result<()> {
    while !record.is_empty() {
        if read(&mut record)? == 0 {
            return Err(TlsError::Record.into());
        }
    }
    Ok(())
}

/// One record, exactly: what follows the handshake is not rustls's. Where an acceptor may refuse in clear, it does so
/// instead of a first record.
fn receive_record(socket: &Socket, may_be_refused: bool) -> io::Result<Vec<u8>> {
    let mut record = vec![0; RECORD_HEAD_BYTES];
    socket.receive_exact(&mut record)?;
    let is_record = (20..=23).contains(&record[0]) && record[1] == 3;
    if !is_record {
        if may_be_refused && let Some(refusal) = refusal_in_clear(socket, &record) {
            return Err(refusal);
        }
        return Err(TlsError::Record.into());
    }
    receive_body(socket, &mut record)?;
    Ok(record)
}

/// The rest of a record of which the head is there.
pub(crate) fn receive_body(socket: &Socket, record: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    if length > MOST_RECORD {
        return Err(TlsError::Record.into());
    }
    record.resize(RECORD_HEAD_BYTES + length, 0);
    socket.receive_exact(&mut record[RECORD_HEAD_BYTES..])
}

/// Accepts the certificate of one server, whatever name the connection was routed by.
#[derive(Debug)]
struct OneServer {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for OneServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _routing_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(certificate, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts any raw key that the client can sign with: what it may do, its grant says.
#[derive(Debug)]
struct AnyRawKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyRawKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
