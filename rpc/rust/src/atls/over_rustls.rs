//! How does a session of rustls prove which container is at its end?
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # fn judge(_: &[u8], _: &[u8], _: &[u8]) -> Result<(), String> { Ok(()) }
//! use cima_client::atls::{self, over_rustls};
//! use rustls::{crypto::CryptoProvider, ClientConnection, StreamOwned};
//!
//! let cryptography = CryptoProvider::get_default().ok_or("none is installed")?.clone();
//! let config = over_rustls::client_config(cryptography)?;
//! let tls = ClientConnection::new(config.into(), "container".try_into()?)?;
//! let tcp = std::net::TcpStream::connect("container:8443")?;
//! let appraiser = atls::Appraiser::new(judge); // cimactl verify
//! let stream = atls::connect(StreamOwned::new(tls, tcp), &appraiser, None)?;
//! # Ok(())
//! # }
//! ```

use super::{Session, PROTOCOL};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls13_signature, CryptoProvider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ConnectionCommon, DigitallySignedStruct, Error, HandshakeKind, ProtocolVersion,
    ServerConfig, SideData, SignatureScheme, StreamOwned,
};
use std::io::{self, Read, Write};
use std::ops::DerefMut;
use std::sync::Arc;

impl<C, D, T> Session for StreamOwned<C, T>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData + 'static,
    T: Read + Write,
{
    fn handshake(&mut self) -> io::Result<()> {
        while self.conn.is_handshaking() {
            self.conn.complete_io(&mut self.sock)?;
        }
        let whole = matches!(
            self.conn.handshake_kind(),
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
        );
        match whole && self.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            true => Ok(()),
            false => Err(io::Error::other(
                "the session must be one of TLS 1.3, and not a resumed one",
            )),
        }
    }

    fn protocol(&self) -> Option<&[u8]> {
        self.conn.alpn_protocol()
    }

    fn export(&self, label: &[u8], context: &[u8]) -> io::Result<[u8; 32]> {
        let value = self
            .conn
            .export_keying_material([0; 32], label, Some(context));
        value.map_err(io::Error::other)
    }
}

/// Settings of a server: TLS 1.3, the protocol, no tickets. Nobody needs to trust the
/// certificate: make a new one for each process.
pub fn server_config(
    cryptography: Arc<CryptoProvider>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(cryptography)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// Settings of a client: TLS 1.3, the protocol, no tickets, and any certificate. The
/// evidence says who the server is; the certificate says nothing.
pub fn client_config(cryptography: Arc<CryptoProvider>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(cryptography.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(cryptography)))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Takes any certificate, whose key must have signed the handshake.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the session must be one of TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let by = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, by)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
