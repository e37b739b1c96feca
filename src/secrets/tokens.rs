//! Tokens that let somebody in: made here, kept as salted hashes, compared in constant time.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::Key;
use chacha20poly1305::aead::Generate;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::hex;

const BYTES: usize = 32;
/// What a hash begins with where it is stored.
const FORM: &str = "sha256$";
/// A token that people choose must be as hard to guess as one of ours, or nearly.
const SHORTEST: usize = 32;
const LONGEST: usize = 200;

/// A new token of 256 random bits, with `prefix` before them.
pub(crate) fn generate(prefix: &str) -> io::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(random()?);
    Ok(Zeroizing::new(format!(
        "{prefix}{}",
        URL_SAFE_NO_PAD.encode(bytes.as_slice())
    )))
}

/// Why `token` may not be one that somebody chose, or None when it may.
pub(crate) fn fault(token: &str) -> Option<String> {
    let is_good = (SHORTEST..=LONGEST).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_good).then(|| {
        format!("must be {SHORTEST} to {LONGEST} printable ASCII characters without blanks")
    })
}

/// What is kept of a token. Without `Debug`: not even this is for logs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hashed {
    salt: [u8; BYTES],
    hash: [u8; BYTES],
}

impl Hashed {
    /// With a salt of its own. One round is enough: what is hashed has 256 bits, or cannot be guessed otherwise.
    pub(crate) fn of(token: &str) -> io::Result<Self> {
        let salt = random()?;
        Ok(Self {
            salt,
            hash: digest(&salt, token),
        })
    }

    /// Whether it was made of `token`; takes as long for every token of one length.
    pub(crate) fn matches(&self, token: &str) -> bool {
        let given = digest(&self.salt, token);
        !token.is_empty() && bool::from(self.hash.ct_eq(&given))
    }

    /// As it is stored.
    pub(crate) fn text(&self) -> String {
        format!(
            "{FORM}{}${}",
            hex::encode(&self.salt),
            hex::encode(&self.hash)
        )
    }

    /// What [`Hashed::text`] made; none for anything else.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (salt, hash) = text.strip_prefix(FORM)?.split_once('$')?;
        Some(Self {
            salt: hex::decode(salt)?.try_into().ok()?,
            hash: hex::decode(hash)?.try_into().ok()?,
        })
    }
}

fn digest(salt: &[u8; BYTES], token: &str) -> [u8; BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(salt);
    hasher.update(token.as_bytes());
    hasher.finalize().into()
}

fn random() -> io::Result<[u8; BYTES]> {
    let bytes = Key::try_generate().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_its_own_hash_only() {
        let token = generate("qwa-").unwrap();
        assert_eq!(token.len(), 4 + 43);
        assert_ne!(token, generate("qwa-").unwrap());
        let hashed = Hashed::of(&token).unwrap();
        let stored = hashed.text();
        assert!(!stored.contains(&token[4..]));
        let read = Hashed::read(&stored).unwrap();
        assert!(read.matches(&token));
        for other in ["", "qwa-", &token[..46], &stored] {
            assert!(!read.matches(other), "{other}");
        }
        assert!(
            Hashed::of(&token).unwrap().text() != stored,
            "each has a salt"
        );
        assert!(!Hashed::of("").unwrap().matches(""));
        for bad in ["", "sha256$", "sha256$00$00", "plain"] {
            assert!(Hashed::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_chosen_token_must_be_long() {
        assert_eq!(fault(&"x".repeat(32)), None);
        for bad in ["", "short", &"x".repeat(201), &"x ".repeat(20)] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
