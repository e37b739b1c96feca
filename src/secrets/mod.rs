//! Secrets at rest: sealed with a key that lies beside the database, in a file only its owner may read. Knows nobody.
//!
//! So a copy of the database alone (a backup, a bug report) gives no login away.

mod keyring;
pub(crate) mod tokens;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::hex;

/// What stands in place of a secret; in a change it means "as it is".
pub(crate) const MASK: &str = "***MASKED***";

/// Name of the key file.
const FILE: &str = "qwarden.key";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Where the key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    /// In a file beside the database.
    File,
    /// In the desktop's keyring; in the file where there is none.
    Keyring,
}

/// Seals with the first of its keys, opens with any. Cheap to clone; without `Debug`, since it holds keys.
#[derive(Clone)]
pub(crate) struct Vault(Arc<Vec<XChaCha20Poly1305>>);

/// A sealed value cannot be opened: another key, another place, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret cannot be opened with this key")]
pub(crate) struct Unopenable;

impl Vault {
    /// Reads the key of the data directory, or makes one. Blocks as long as the keyring takes.
    ///
    /// A keyring that cannot be had now (locked, no session) never stops the start: a key file serves, and what was
    /// sealed with the other key opens again when that is back.
    pub(crate) fn open(dir: &Path, place: KeyPlace) -> io::Result<Self> {
        let path = dir.join(FILE);
        let kept = match fs::read(&path) {
            Ok(bytes) => Some(key_of(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let ringed = match place {
            KeyPlace::File => None,
            KeyPlace::Keyring => from_keyring(dir, kept.as_ref())?,
        };
        if ringed.is_some() && ringed == kept {
            // Moved: the file's key is in the keyring now.
            fs::remove_file(&path)?;
        }
        let mut keys: Vec<Secret> = ringed.into_iter().collect();
        keys.extend(kept.filter(|kept| !keys.contains(kept)));
        if keys.is_empty() {
            let key = new_key()?;
            write_private(&path, key.as_slice())?;
            keys.push(key);
        }
        let ciphers = keys
            .iter()
            .map(|key| XChaCha20Poly1305::new(&Key::from(**key)));
        Ok(Self(Arc::new(ciphers.collect())))
    }

    /// Without a key: seals and opens nothing.
    pub(crate) fn keyless() -> Self {
        Self(Arc::default())
    }

    /// `place` says what the secret belongs to; it opens there only.
    pub(crate) fn seal(&self, secret: &[u8], place: &str) -> Result<Vec<u8>, Unopenable> {
        let nonce = XNonce::try_generate().map_err(|_| Unopenable)?;
        let payload = Payload {
            msg: secret,
            aad: place.as_bytes(),
        };
        let cipher = self.0.first().ok_or(Unopenable)?;
        let sealed = cipher.encrypt(&nonce, payload).map_err(|_| Unopenable)?;
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
        let open = |cipher: &XChaCha20Poly1305| {
            let payload = Payload {
                msg: sealed,
                aad: place.as_bytes(),
            };
            cipher.decrypt(&XNonce::from(nonce), payload).ok()
        };
        self.0
            .iter()
            .find_map(open)
            .map(Zeroizing::new)
            .ok_or(Unopenable)
    }
}

/// The bytes of a key.
type Secret = Zeroizing<[u8; KEY_BYTES]>;

fn key_of(bytes: &[u8]) -> io::Result<Secret> {
    let key = bytes.try_into().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, format!("`{FILE}` is not a key"))
    })?;
    Ok(Zeroizing::new(key))
}

fn new_key() -> io::Result<Secret> {
    let key = Key::try_generate().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Zeroizing::new(key.into()))
}

/// The keyring's key for this directory; when it has none, `kept` or a new one is put there. None when there is no
/// keyring to be had.
fn from_keyring(dir: &Path, kept: Option<&Secret>) -> io::Result<Option<Secret>> {
    let account = fs::canonicalize(dir)?.to_string_lossy().into_owned();
    let new = match kept {
        Some(kept) => kept.clone(),
        None => new_key()?,
    };
    let found = keyring::read(&account).and_then(|found| {
        if found.is_some() {
            return Ok(found);
        }
        keyring::write(&account, &hex::encode(new.as_slice()))?;
        // Believed only once it can be read again.
        keyring::read(&account)
    });
    match found {
        Ok(found) => Ok(found.and_then(|text| key_of(&hex::decode(&text)?).ok())),
        Err(error) => {
            tracing::warn!(%error, "the keyring cannot be used; the key file is");
            Ok(None)
        }
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
        let vault = Vault::open(dir.path(), KeyPlace::File).expect("a vault");
        let sealed = vault.seal(b"cookie=1", "login a").expect("sealed");
        assert!(!sealed.windows(6).any(|window| window == b"cookie"));
        let again = Vault::open(dir.path(), KeyPlace::File).expect("the same key");
        assert_eq!(
            again.unseal(&sealed, "login a").expect("opens").as_slice(),
            b"cookie=1"
        );
        assert_eq!(again.unseal(&sealed, "login b").err(), Some(Unopenable));
        let stranger = Vault::open(other.path(), KeyPlace::File).expect("another key");
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
        Vault::open(dir.path(), KeyPlace::File).expect("a vault");
        let mode = fs::metadata(dir.path().join(FILE))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
