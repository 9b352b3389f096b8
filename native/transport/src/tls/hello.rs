//! What an acceptor, which has no keys, reads of a TLS connection: the server name in the clear first record.

use rustls::server::Acceptor;

use super::TlsError;

/// The server name of the ClientHello at the beginning of `bytes`; `None` when it is not all there.
///
/// Errors: it is no ClientHello, or names nobody.
pub fn server_name(mut bytes: &[u8]) -> Result<Option<String>, TlsError> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        match acceptor.read_tls(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(TlsError::Handshake(error.to_string())),
        }
    }
    match acceptor.accept() {
        Ok(None) => Ok(None),
        Ok(Some(accepted)) => match accepted.client_hello().server_name() {
            Some(name) => Ok(Some(name.to_owned())),
            None => Err(TlsError::Handshake("the ClientHello names no server".into())),
        },
        Err((error, _)) => Err(TlsError::Handshake(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_when_it_is_all_there_and_other_bytes_are_refused() {
        let key = crate::tls::ClientKey::generate().expect("a key");
        let tls = crate::tls::ClientTls::new(&key, &[], "g-1");
        assert!(tls.is_err(), "no authority is trusted");
        let mut config =
            rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("versions")
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        config.enable_sni = true;
        let name = rustls::pki_types::ServerName::try_from("abc.f0.s-1.farpool.internal").expect("a name");
        let mut connection = rustls::ClientConnection::new(config.into(), name).expect("a connection");
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).expect("written");
        for length in 0..hello.len() {
            assert_eq!(server_name(&hello[..length]), Ok(None), "{length} bytes");
        }
        assert_eq!(server_name(&hello), Ok(Some("abc.f0.s-1.farpool.internal".into())));
        assert!(server_name(b"GET / HTTP/1.1\r\n").is_err());
    }
}
