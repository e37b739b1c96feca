//! Secrets at rest: sealed with a key that lies beside the database, in a file only its owner may read. Knows nobody.
//!
//! So a copy of the database alone (a backup, a bug report) gives no login away.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// Name of the key file.
const FILE: &str = "qwarden.key";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Seals and opens. Cheap to clone; without `Debug`, since it holds the key.
#[derive(Clone)]
pub(crate) struct Vault(Arc<XChaCha20Poly1305>);

/// A sealed value cannot be opened: another key, another place, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret cannot be opened with this key")]
pub(crate) struct Unopenable;

impl Vault {
    /// Reads the key of the data directory, or makes one.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key =
                    Key::try_generate().map_err(|error| io::Error::other(error.to_string()))?;
                write_private(&path, &key)?;
                Zeroizing::new(key.to_vec())
            }
            Err(error) => return Err(error),
        };
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("`{FILE}` is not a key"))
        })?;
        Ok(Self(Arc::new(XChaCha20Poly1305::new(&Key::from(key)))))
    }

    /// `place` says what the secret belongs to; it opens there only.
    pub(crate) fn seal(&self, secret: &[u8], place: &str) -> Result<Vec<u8>, Unopenable> {
        let nonce = XNonce::try_generate().map_err(|_| Unopenable)?;
        let payload = Payload {
            msg: secret,
            aad: place.as_bytes(),
        };
        let sealed = self.0.encrypt(&nonce, payload).map_err(|_| Unopenable)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The secret that was sealed for `place`.
    pub(crate) fn unseal(
        &self,
        sealed: &[u8],
        place: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Unopenable> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(Unopenable)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| Unopenable)?;
        let payload = Payload {
            msg: sealed,
            aad: place.as_bytes(),
        };
        self.0
            .decrypt(&XNonce::from(nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| Unopenable)
    }
}

/// Private from its first byte, and whole or not there at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_in_its_place_with_its_key_only() {
        let (dir, other) = (
            tempfile::tempdir().expect("a dir"),
            tempfile::tempdir().expect("a dir"),
        );
        let vault = Vault::open(dir.path()).expect("a vault");
        let sealed = vault.seal(b"cookie=1", "login a").expect("sealed");
        assert!(!sealed.windows(6).any(|window| window == b"cookie"));
        let again = Vault::open(dir.path()).expect("the same key");
        assert_eq!(
            again.unseal(&sealed, "login a").expect("opens").as_slice(),
            b"cookie=1"
        );
        assert_eq!(again.unseal(&sealed, "login b").err(), Some(Unopenable));
        let stranger = Vault::open(other.path()).expect("another key");
        assert_eq!(stranger.unseal(&sealed, "login a").err(), Some(Unopenable));
        assert_eq!(
            vault.unseal(&sealed[..9], "login a").err(),
            Some(Unopenable)
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a dir");
        Vault::open(dir.path()).expect("a vault");
        let mode = fs::metadata(dir.path().join(FILE))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
