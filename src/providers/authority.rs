//! Certificates that a provider's own may be signed by, beside those of the system (S13): a company's, or a home server's.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use reqwest::{Certificate, Client};

/// Far more than all authorities of a system.
const LONGEST: u64 = 4 << 20;

/// One or more certificates in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authority(Arc<Vec<u8>>);

impl Authority {
    /// Reads a file; the error is what is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        if !path.is_absolute() {
            return Err("must be the whole path of a file".into());
        }
        let mut pem = Vec::new();
        // A pipe would never end, and nobody would answer.
        let is_file = path.metadata().is_ok_and(|found| found.is_file());
        let read = is_file
            .then(|| File::open(path))
            .transpose()
            .and_then(|file| {
                file.map(|file| file.take(LONGEST + 1).read_to_end(&mut pem))
                    .transpose()
            });
        match read {
            Ok(Some(read)) if read as u64 > LONGEST => return Err("is longer than 4 MiB".into()),
            Ok(Some(_)) => {}
            Ok(None) => return Err("names no file".into()),
            Err(error) => return Err(format!("cannot be read: {}", error.kind())),
        }
        let authority = Self(Arc::new(pem));
        match authority.certificates() {
            Ok(found) if !found.is_empty() => {
                // What looks like one may be none, which would else be found out by each request.
                let client = Client::builder().tls_certs_only(found).build();
                client
                    .map(|_| authority)
                    .map_err(|_| "holds a certificate that cannot be used".into())
            }
            _ => Err("must hold certificates in PEM (-----BEGIN CERTIFICATE-----)".into()),
        }
    }

    pub(super) fn certificates(&self) -> reqwest::Result<Vec<Certificate>> {
        Certificate::from_pem_bundle(&self.0)
    }
}
