//! Whom we trust: the system's roots, or the files that were named; and who we are where a
//! server asks.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig as TlsConfig, RootCertStore};

use crate::config::ClientConfig;

/// Makes the TLS settings: ring, TLS 1.2 and 1.3, verified always.
///
/// # Errors
/// What is wrong with the certificates, in words.
pub(crate) fn tls_config(config: &ClientConfig) -> Result<TlsConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = builder.with_root_certificates(roots(config)?);
    let Some(identity) = &config.identity else { return Ok(builder.with_no_client_auth()) };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&identity.certificates_pem).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err("our own certificate is not in PEM form".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.reveal().as_bytes())
        .map_err(|_| "the key of our own certificate is not in PEM form, or has a passphrase".to_owned())?;
    builder.with_client_auth_cert(chain, key).map_err(|error| format!("our own certificate: {error}"))
}

fn roots(config: &ClientConfig) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    if config.ca_files.is_empty() {
        // Honours SSL_CERT_DIR. Certificates that do not parse are left out, as every client
        // of the system's list does; an empty list shows at the first https request.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    for path in &config.ca_files {
        add_file(&mut store, path)?;
    }
    for pem in &config.extra_roots_pem {
        let found = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
        store.add_parsable_certificates(found);
    }
    Ok(store)
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let text =
        std::fs::read(path).map_err(|error| format!("certificates in `{}`: {error}", path.display()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
    let (added, _) = store.add_parsable_certificates(found);
    if added == 0 {
        return Err(format!("`{}` holds no certificate in PEM form", path.display()));
    }
    Ok(())
}
