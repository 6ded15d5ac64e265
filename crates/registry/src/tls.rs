//! Whom a TLS connection trusts and who we are on it.

use crate::error::Result;
use crate::hosts::{TlsFiles, broken, read_small};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// The contents of the certificate files of a host: two hosts with the same share connections, and a file
/// that changed makes new ones.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsSettings {
    ca: Vec<Vec<u8>>,
    client: Option<Client>,
    skip_verify: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Client {
    chain: Vec<Vec<u8>>,
    key_pem: Vec<u8>,
}

impl TlsSettings {
    /// Reads the files and tries them, so that what is wrong with one is said with its name.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self> {
        let mut ca = Vec::new();
        for path in &files.ca {
            ca.extend(certificates(path)?);
        }
        let client = match &files.client {
            Some((certificate, key)) => Some(client(certificate, key)?),
            None => None,
        };
        Ok(Self {
            ca,
            client,
            skip_verify: files.skip_verify,
        })
    }

    /// What holds for another host that this one sends us to.
    pub(crate) fn for_others(&self) -> Self {
        Self {
            ca: self.ca.clone(),
            client: None,
            skip_verify: false,
        }
    }
}

fn content(path: &Path) -> Result<Vec<u8>> {
    read_small(path)?.ok_or_else(|| broken(path, "it is not there: hosts.toml or its folder names it"))
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = content(path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|_| broken(path, "it is not PEM: convert it with openssl x509"))?;
    if found.is_empty() {
        return Err(broken(path, "it holds no certificate in PEM"));
    }
    let mut store = rustls::RootCertStore::empty();
    for certificate in &found {
        store
            .add(certificate.clone())
            .map_err(|error| broken(path, &format!("a certificate in it cannot be used: {error}")))?;
    }
    Ok(found.into_iter().map(|certificate| certificate.to_vec()).collect())
}

fn client(certificate: &Path, key_path: &Path) -> Result<Client> {
    let chain = certificates(certificate)?;
    let key_pem = content(key_path)?;
    let no_key = || broken(key_path, "it holds no private key in PEM without a password");
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| no_key())?;
    PrivateKey::from_pem(&key_pem).map_err(|_| no_key())?;
    let ders: Vec<CertificateDer<'static>> = chain.iter().cloned().map(CertificateDer::from).collect();
    rustls::sign::CertifiedKey::from_der(ders, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| broken(key_path, &format!("it is not the key of {}: {error}", certificate.display())))?;
    Ok(Client { chain, key_pem })
}

/// The authorities that this machine trusts, read when the first connection over TLS is made.
#[derive(Default)]
pub(crate) struct Roots {
    system: OnceLock<Vec<Certificate<'static>>>,
}

impl Roots {
    /// What ureq takes. The cryptography is named here, so that nothing depends on what the process has
    /// installed.
    pub(crate) fn config(&self, settings: Option<&TlsSettings>) -> TlsConfig {
        let Some(settings) = settings else {
            return TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[])).build();
        };
        let system = self.system.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            found
                .certs
                .iter()
                .map(|certificate| Certificate::from_der(certificate).to_owned())
                .collect()
        });
        let own = settings.ca.iter().map(|der| Certificate::from_der(der).to_owned());
        let roots: Vec<Certificate<'static>> = system.iter().cloned().chain(own).collect();
        let client = settings.client.as_ref().and_then(|client| {
            let chain: Vec<Certificate<'static>> = client.chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            // It was read before, so it can be read again.
            Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&client.key_pem).ok()?))
        });
        TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(client)
            .disable_verification(settings.skip_verify)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build()
    }
}
