//! By whom a collector is believed over TLS.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::settings::Settings;
use crate::Error;

/// For POSTs.
pub(super) fn for_posts(settings: &Settings) -> Result<TlsConfig, Error> {
    let roots: Vec<Certificate<'static>> = authorities(settings)?
        .iter()
        .map(|found| Certificate::from_der(found).to_owned())
        .collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(cryptography())
        .build())
}

/// For gRPC: HTTP/2 and nothing else.
pub(super) fn for_grpc(settings: &Settings) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(authorities(settings)?);
    if taken == 0 {
        return Err(wrong(settings, "no certificate can be used as an authority".to_owned()));
    }
    let mut config = ClientConfig::builder_with_provider(cryptography())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(settings, error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The cryptography is named here, so that nothing depends on what the process has installed.
fn cryptography() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of the named file, else the system's; at least one.
fn authorities(settings: &Settings) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = match &settings.certificate {
        Some(path) => of_file(path).map_err(|why| wrong(settings, format!("{path}: {why}")))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if found.is_empty() {
        return Err(wrong(settings, "no certificate authority was found".to_owned()));
    }
    Ok(found)
}

fn of_file(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut found = vec![];
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            found.push(CertificateDer::from(certificate.der().to_vec()));
        }
    }
    Ok(found)
}

fn wrong(settings: &Settings, why: String) -> Error {
    Error::Tls {
        endpoint: settings.url.clone(),
        why,
    }
}
