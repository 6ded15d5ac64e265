//! TLS: whom is trusted, who we are, and that neither is passed on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use cofferdam_registry::{Client, Error, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use support::{DIGEST, MANIFEST, OCI, Server, Wrap, answer, assert_words, options};

struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    fn leaf(&self, name: &str) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        Leaf { certificate, key }
    }

    /// A server's side: with this certificate, and asking for one of ours where `client` says so.
    fn wrap(&self, name: &str, client: bool) -> Wrap {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let leaf = self.leaf(name);
        let key = PrivateKeyDer::Pkcs8(leaf.key.serialize_der().into());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(self.issuer.der().to_vec())).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let config = Arc::new(builder.with_single_cert(vec![leaf.certificate.der().clone()], key).unwrap());
        Box::new(move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            Some(Box::new(rustls::StreamOwned::new(connection, stream)))
        })
    }
}

fn good(_: &support::Seen, stream: &mut dyn support::Stream) {
    answer(stream, 200, &[("Content-Type", OCI)], MANIFEST.as_bytes());
}

/// Asks the server for a manifest with this `hosts.toml`, in which `@` stands for its address.
fn ask(server: &Server, dir: &Path, hosts_toml: &str) -> Result<String, Error> {
    let own = dir.join(server.address.to_string());
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("hosts.toml"), hosts_toml.replace('@', &server.address.to_string())).unwrap();
    let client = Client::new(Options {
        hosts_dirs: vec![dir.to_owned()],
        ..options()
    })
    .unwrap();
    client.manifest(&server.image(), "latest").map(|manifest| manifest.digest)
}

#[test]
fn only_known_authorities_are_trusted() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("ca.pem"), pki.issuer.pem()).unwrap();
    std::fs::write(dir.path().join("other.pem"), Pki::new().issuer.pem()).unwrap();
    let server = Server::wrapped(pki.wrap("127.0.0.1", false), good);
    let refused = ask(&server, dir.path(), "server = 'https://@'").unwrap_err();
    assert!(matches!(refused, Error::Tls { .. }), "{refused}");
    assert_words(
        &refused,
        &[
            &server.address.to_string(),
            "authority that is not trusted here",
            "ca in hosts.toml",
        ],
    );
    assert!(ask(&server, dir.path(), "server = 'https://@'\nca = '../other.pem'").is_err());
    for ca in ["'../ca.pem'", "['../other.pem', '../ca.pem']"] {
        assert_eq!(
            ask(&server, dir.path(), &format!("server = 'https://@'\nca = {ca}")).unwrap(),
            DIGEST
        );
    }
    assert_eq!(
        ask(&server, dir.path(), "server = 'https://@'\nskip_verify = true").unwrap(),
        DIGEST
    );
    // TLS that is configured for a registry on loopback is spoken.
    assert_eq!(ask(&server, dir.path(), "ca = '../ca.pem'").unwrap(), DIGEST);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("ca.pem"), pki.issuer.pem()).unwrap();
    let server = Server::wrapped(pki.wrap("registry.example", false), good);
    let refused = ask(&server, dir.path(), "server = 'https://@'\nca = '../ca.pem'").unwrap_err();
    assert_words(&refused, &["certificate is not good", "not valid for name"]);
}

#[test]
fn our_certificate_is_shown_where_it_is_configured() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let leaf = pki.leaf("client");
    let (certificate, key) = (leaf.certificate.pem(), leaf.key.serialize_pem());
    for (name, text) in [
        ("ca.pem", pki.issuer.pem()),
        ("c.pem", certificate.clone()),
        ("k.pem", key.clone()),
        ("both.pem", certificate + &key),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let server = Server::wrapped(pki.wrap("127.0.0.1", true), good);
    let base = "server = 'https://@'\nca = '../ca.pem'\n";
    for client in ["[['../c.pem', '../k.pem']]", "'../both.pem'", "['../both.pem']"] {
        assert_eq!(ask(&server, dir.path(), &format!("{base}client = {client}")).unwrap(), DIGEST);
    }
    let refused = ask(&server, dir.path(), base).unwrap_err();
    assert!(matches!(refused, Error::Tls { .. } | Error::Cut { .. }), "{refused}");
    let other = Pki::new().leaf("x").key.serialize_pem();
    std::fs::write(dir.path().join("other.pem"), other).unwrap();
    for (client, words) in [
        ("[['../c.pem', '../other.pem']]", "is not the key of"),
        ("'../c.pem'", "no private key"),
        ("'../k.pem'", "no certificate"),
        ("'../missing.pem'", "not there"),
    ] {
        assert_words(
            &ask(&server, dir.path(), &format!("{base}client = {client}")).unwrap_err(),
            &[words, ".pem: "],
        );
    }
    std::fs::write(
        dir.path().join("ca.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    assert_words(
        &ask(&server, dir.path(), base).unwrap_err(),
        &["ca.pem: a certificate in it cannot be used"],
    );
}

#[test]
fn what_does_not_speak_tls_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    // As servers do that get TLS where they speak HTTP.
    let wrap: Wrap = Box::new(|mut stream| {
        let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        support::hold(&mut stream);
        None
    });
    let server = Server::wrapped(wrap, good);
    let refused = ask(&server, dir.path(), "server = 'https://@'").unwrap_err();
    assert_words(&refused, &["does not speak TLS", "http:// in hosts.toml"]);
}

#[test]
fn from_tls_no_way_leads_into_the_clear() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let clear = Server::start(good);
    let to = format!("http://{}/", clear.address);
    let redirecting = Server::wrapped(pki.wrap("127.0.0.1", false), move |_, stream| {
        answer(stream, 307, &[("Location", &to)], b"")
    });
    let refused = ask(&redirecting, dir.path(), "server = 'https://@'\nskip_verify = true").unwrap_err();
    assert!(matches!(refused, Error::Redirect { .. }), "{refused}");
    let challenge = format!("Bearer realm=\"http://{}/token\"", clear.address);
    let asking = Server::wrapped(pki.wrap("127.0.0.1", false), move |_, stream| {
        answer(stream, 401, &[("WWW-Authenticate", &challenge)], b"")
    });
    let refused = ask(&asking, dir.path(), "server = 'https://@'\nskip_verify = true").unwrap_err();
    assert!(matches!(refused, Error::Realm { .. }), "{refused}");
    assert!(clear.seen().is_empty());
}

#[test]
fn trust_in_one_host_is_not_trust_in_where_it_sends_us() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let other = Server::wrapped(Pki::new().wrap("127.0.0.1", false), good);
    let to = format!("https://{}/", other.address);
    let server = Server::wrapped(pki.wrap("127.0.0.1", false), move |_, stream| {
        answer(stream, 307, &[("Location", &to)], b"")
    });
    let refused = ask(&server, dir.path(), "server = 'https://@'\nskip_verify = true").unwrap_err();
    assert_words(&refused, &[&other.address.to_string(), "authority that is not trusted"]);
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let wrap: Wrap = Box::new(|mut stream| {
        support::hold(&mut stream);
        None
    });
    let server = Server::wrapped(wrap, good);
    let refused = ask(&server, dir.path(), "server = 'https://@'\ndial_timeout = '300ms'").unwrap_err();
    assert_words(&refused, &["no connection", "within 0.3 s"]);
}
