//! The secrets of providers at rest: sealed before they are stored, opened when they are loaded.
//!
//! The database keeps what it is given and says whether it is sealed; only here is it known how. A value is bound to its
//! provider and key: it opens nowhere else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::actors::database::StoreError;
use crate::db::error::DbError;
use crate::db::providers::{ConfigRow, StoredProvider};
use crate::providers::{ConfigError, InvalidConfig};
use crate::secrets::{Unopenable, Vault};

/// The rows as they may be stored. What is sealed already stays as it is.
pub(crate) fn sealed(
    vault: &Vault,
    provider: &str,
    rows: Vec<ConfigRow>,
) -> Result<Vec<ConfigRow>, StoreError> {
    rows.into_iter()
        .map(|row| sealed_row(vault, provider, row).map_err(StoreError::Db))
        .collect()
}

/// The same for one.
pub(crate) fn sealed_row(
    vault: &Vault,
    provider: &str,
    row: ConfigRow,
) -> Result<ConfigRow, DbError> {
    if row.sealed || !row.holds_secret() {
        return Ok(row);
    }
    seal(vault, provider, row)
        .map_err(|Unopenable| DbError::Other("a secret could not be sealed".into()))
}

/// Opens what is sealed; what cannot be opened stays sealed, and the error names it.
pub(crate) fn open(vault: &Vault, stored: &mut StoredProvider) -> Result<(), InvalidConfig> {
    let provider = stored.provider.id.clone();
    let mut errors = Vec::new();
    for row in stored.config.iter_mut().filter(|row| row.sealed) {
        match opened(vault, &provider, row) {
            Ok(value) => {
                row.value = value;
                row.sealed = false;
            }
            Err(Unopenable) => errors.push(ConfigError {
                key: row.key.clone(),
                message: format!(
                    "`{}` was sealed with another key and cannot be opened; store it again",
                    row.key
                ),
            }),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(InvalidConfig { provider, errors })
    }
}

fn seal(vault: &Vault, provider: &str, row: ConfigRow) -> Result<ConfigRow, Unopenable> {
    let place = place(provider, &row.key);
    let sealed = vault.seal(row.value.to_string().as_bytes(), &place)?;
    Ok(ConfigRow {
        value: STANDARD.encode(sealed).into(),
        sealed: true,
        ..row
    })
}

fn opened(vault: &Vault, provider: &str, row: &ConfigRow) -> Result<Value, Unopenable> {
    let text = row.value.as_str().ok_or(Unopenable)?;
    let bytes = STANDARD.decode(text).map_err(|_| Unopenable)?;
    let plain = vault.unseal(&bytes, &place(provider, &row.key))?;
    serde_json::from_slice(&plain).map_err(|_| Unopenable)
}

fn place(provider: &str, key: &str) -> String {
    format!("provider_configs/{provider}/{key}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::db::providers::ProviderRow;
    use crate::secrets::KeyPlace;

    fn row(key: &str, value: Value, is_sensitive: bool) -> ConfigRow {
        ConfigRow {
            key: key.into(),
            value,
            is_sensitive,
            sealed: false,
        }
    }

    fn stored(id: &str, config: Vec<ConfigRow>) -> StoredProvider {
        StoredProvider {
            provider: ProviderRow {
                id: id.into(),
                name: id.into(),
                kind: "openai".into(),
                enabled: true,
                priority: 0,
                description: None,
                origin: "user".into(),
                auto_enable: false,
                created_at: 1,
                updated_at: 1,
            },
            config,
            models: Vec::new(),
        }
    }

    #[test]
    fn secrets_are_sealed_wherever_they_stand_and_open_for_their_provider_only() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), KeyPlace::File).unwrap();
        let plain = vec![
            row("apiKey", json!("hush-1"), true),
            row("note", json!("hush-2"), true),
            row("headers", json!({"x-api-key": "hush-3"}), false),
            row("baseURL", json!("https://h/v1?api-key=hush-4"), false),
            row("timeout", json!(7), false),
            row("baseUrl", json!("http://h"), false),
        ];
        let kept = sealed(&vault, "p", plain.clone()).unwrap();
        let flags: Vec<_> = kept.iter().map(|row| row.sealed).collect();
        assert_eq!(flags, [true, true, true, true, false, false]);
        assert!(!serde_json::to_string(&kept).unwrap().contains("hush"));
        assert_eq!(sealed(&vault, "p", kept.clone()).unwrap(), kept, "once");
        let mut own = stored("p", kept.clone());
        open(&vault, &mut own).unwrap();
        assert_eq!(own.config, plain);
        let mut other = stored("q", kept.clone());
        assert_eq!(open(&vault, &mut other).unwrap_err().errors.len(), 4);
        assert_eq!(other.config, kept);
    }
}
