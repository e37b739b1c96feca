//! Tables `providers` and `provider_configs`: what requests can be routed to.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rusqlite::{Connection, Row, named_params};
use serde::Serialize;
use serde_json::Value;

use crate::db::error::DbError;
use crate::db::json;
use crate::db::models::{self, LinkedModel, Links, ModelRow};
use crate::db::patch::Patch;

const ALL: &str = "
    SELECT id, name, type, enabled, priority, description, origin, auto_enable, created_at, updated_at
      FROM providers
     ORDER BY priority DESC, name";

const CONFIG: &str = "
    SELECT provider_id, key, value, is_sensitive, sealed
      FROM provider_configs
     ORDER BY provider_id, key";

const INSERT: &str = "
    INSERT INTO providers (id, name, type, enabled, priority, description, origin, auto_enable, created_at, updated_at)
    VALUES (:id, :name, :type, :enabled, :priority, :description, :origin, :auto_enable, :created_at, :updated_at)";

const INSERT_CONFIG: &str = "
    INSERT INTO provider_configs (provider_id, key, value, is_sensitive, sealed, created_at, updated_at)
    VALUES (:provider_id, :key, :value, :is_sensitive, :sealed, :at, :at)";

const ANY: &str = "SELECT 1 FROM providers LIMIT 1";

const DELETE: &str = "DELETE FROM providers WHERE id = ?1";

const CHANGE: &str = "
    UPDATE providers
       SET name = coalesce(:name, name), type = coalesce(:type, type), enabled = coalesce(:enabled, enabled),
           priority = coalesce(:priority, priority),
           description = CASE WHEN :describes THEN :description ELSE description END,
           auto_enable = 0, updated_at = :at
     WHERE id = :id";

const CLEAR_CONFIG: &str = "DELETE FROM provider_configs WHERE provider_id = ?1";

const REMOVE_CONFIG: &str = "DELETE FROM provider_configs WHERE provider_id = ?1 AND key = ?2";

const PUT_CONFIG: &str = "
    INSERT INTO provider_configs (provider_id, key, value, is_sensitive, sealed, created_at, updated_at)
    VALUES (:provider_id, :key, :value, :is_sensitive, :sealed, :at, :at)
        ON CONFLICT (provider_id, key) DO UPDATE
       SET value = excluded.value, is_sensitive = excluded.is_sensitive, sealed = excluded.sealed,
           updated_at = excluded.updated_at";

/// Only what is still as it was read: a value that was changed meanwhile is not put back.
const SEAL_CONFIG: &str = "
    UPDATE provider_configs SET value = :sealed, sealed = 1
     WHERE provider_id = :provider_id AND key = :key AND sealed = 0 AND value = :plain";

const SEEN: &str = "
    UPDATE providers SET enabled = 1, auto_enable = 0, updated_at = ?2 WHERE id = ?1 AND auto_enable = 1";

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProviderRow {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) enabled: bool,
    /// The highest is tried first.
    pub(crate) priority: i64,
    pub(crate) description: Option<String>,
    /// `user`, `seed`, `discovered` or `import`.
    pub(crate) origin: String,
    /// Becomes enabled when its local server is first seen.
    pub(crate) auto_enable: bool,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) updated_at: i64,
}

/// One key of a provider's configuration.
#[derive(Clone, PartialEq, Serialize)]
pub(crate) struct ConfigRow {
    pub(crate) key: String,
    pub(crate) value: Value,
    /// Must not be shown or logged.
    pub(crate) is_sensitive: bool,
    /// The value is a text that nobody but the owner of the key can read: to use it as it is would be wrong.
    pub(crate) sealed: bool,
}

impl ConfigRow {
    /// It, or a part of it, must not be stored in the open: headers and queries carry keys, too.
    pub(crate) fn holds_secret(&self) -> bool {
        let in_value = match &self.value {
            Value::Object(entries) => entries.keys().any(|key| is_sensitive(key)),
            Value::String(text) => text.split_once('?').is_some_and(|(_, query)| {
                query
                    .split('&')
                    .filter_map(|pair| pair.split_once('='))
                    .any(|(name, _)| is_sensitive(name))
            }),
            _ => false,
        };
        self.is_sensitive || in_value
    }

    /// As the column holds it.
    fn text(&self) -> String {
        match &self.value {
            Value::String(text) if self.sealed => text.clone(),
            value => value.to_string(),
        }
    }
}

impl fmt::Debug for ConfigRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value: &dyn fmt::Debug = if self.sealed || self.holds_secret() {
            &"***"
        } else {
            &self.value
        };
        formatter
            .debug_struct("ConfigRow")
            .field("key", &self.key)
            .field("value", value)
            .finish_non_exhaustive()
    }
}

/// What is changed of a provider; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProviderChange {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) enabled: Option<bool>,
    pub(crate) priority: Option<i64>,
    pub(crate) description: Patch,
    /// Configuration keys that are set.
    pub(crate) put: Vec<ConfigRow>,
    /// Configuration keys that go.
    pub(crate) remove: Vec<String>,
    /// All other configuration keys go, too.
    pub(crate) replaces: bool,
    /// Unix time, ms.
    pub(crate) at: i64,
}

/// A provider with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct StoredProvider {
    pub(crate) provider: ProviderRow,
    /// By key.
    pub(crate) config: Vec<ConfigRow>,
    /// The default one first, then by name.
    pub(crate) models: Vec<LinkedModel>,
}

/// Providers whose models are not linked to them yet.
pub(crate) struct Unlinked {
    providers: Vec<StoredProvider>,
    models: Vec<Arc<ModelRow>>,
}

impl Unlinked {
    /// Reads all providers, by falling priority, then by name, and all models.
    pub(crate) fn read(conn: &Connection) -> Result<Self, DbError> {
        let mut config = config(conn)?;
        let mut statement = conn.prepare_cached(ALL)?;
        let providers = statement.query_map([], provider)?.map(|provider| {
            let provider = provider?;
            Ok(StoredProvider {
                config: config.remove(&provider.id).unwrap_or_default(),
                models: Vec::new(),
                provider,
            })
        });
        Ok(Self {
            providers: providers.collect::<Result<_, DbError>>()?,
            models: models::shared_models(conn)?,
        })
    }

    /// Puts them together with the links, which may have been read on another connection.
    pub(crate) fn linked(self, links: Vec<Links>) -> Vec<StoredProvider> {
        let mut linked = models::linked(&self.models, links);
        let mut providers = self.providers;
        for stored in &mut providers {
            stored.models = linked.remove(&stored.provider.id).unwrap_or_default();
        }
        providers
    }
}

/// All providers, by falling priority, then by name.
pub(crate) fn all(conn: &Connection) -> Result<Vec<StoredProvider>, DbError> {
    Ok(Unlinked::read(conn)?.linked(models::links(conn)?))
}

/// Adds a provider. [`DbError::Conflict`] names `id` or `name`.
pub(super) fn insert(
    conn: &Connection,
    provider: &ProviderRow,
    config: &[ConfigRow],
) -> Result<(), DbError> {
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":id": provider.id,
        ":name": provider.name,
        ":type": provider.kind,
        ":enabled": provider.enabled,
        ":priority": provider.priority,
        ":description": provider.description,
        ":origin": provider.origin,
        ":auto_enable": provider.auto_enable,
        ":created_at": provider.created_at,
        ":updated_at": provider.updated_at,
    })?;
    let mut statement = conn.prepare_cached(INSERT_CONFIG)?;
    for row in config {
        statement.execute(named_params! {
            ":provider_id": provider.id,
            ":key": row.key,
            ":value": row.text(),
            ":is_sensitive": row.is_sensitive,
            ":sealed": row.sealed,
            ":at": provider.updated_at,
        })?;
    }
    Ok(())
}

/// Changes a provider. [`DbError::Missing`] when there is none, [`DbError::Conflict`] when the name is taken.
pub(super) fn change(conn: &Connection, change: &ProviderChange) -> Result<(), DbError> {
    let changed = conn.prepare_cached(CHANGE)?.execute(named_params! {
        ":id": change.id,
        ":name": change.name,
        ":type": change.kind,
        ":enabled": change.enabled,
        ":priority": change.priority,
        ":describes": change.description.is_put(),
        ":description": change.description.value(),
        ":at": change.at,
    })?;
    if changed == 0 {
        return Err(DbError::Missing {
            what: "the provider",
            id: change.id.clone(),
        });
    }
    if change.replaces {
        conn.prepare_cached(CLEAR_CONFIG)?.execute([&change.id])?;
    }
    for key in &change.remove {
        conn.prepare_cached(REMOVE_CONFIG)?
            .execute((&change.id, key))?;
    }
    let mut statement = conn.prepare_cached(PUT_CONFIG)?;
    for row in &change.put {
        statement.execute(named_params! {
            ":provider_id": change.id,
            ":key": row.key,
            ":value": row.text(),
            ":is_sensitive": row.is_sensitive,
            ":sealed": row.sealed,
            ":at": change.at,
        })?;
    }
    Ok(())
}

/// Adds the providers of a first start. Returns how many: 0 when there are others already.
pub(in crate::db) fn seed(
    conn: &Connection,
    seeds: &[(ProviderRow, Vec<ConfigRow>)],
) -> Result<usize, DbError> {
    if conn.prepare_cached(ANY)?.exists([])? {
        return Ok(0);
    }
    for (provider, config) in seeds {
        insert(conn, provider, config)?;
    }
    Ok(seeds.len())
}

/// Puts a sealed value in the place of the open one. Returns how many rows that took.
pub(super) fn seal_config(
    conn: &Connection,
    provider: &str,
    plain: &ConfigRow,
    sealed: &ConfigRow,
) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(SEAL_CONFIG)?.execute(named_params! {
        ":provider_id": provider,
        ":key": plain.key,
        ":plain": plain.text(),
        ":sealed": sealed.text(),
    })?)
}

/// Removes a provider, its configuration and its links.
pub(super) fn delete(conn: &Connection, id: &str) -> Result<(), DbError> {
    match conn.prepare_cached(DELETE)?.execute([id])? {
        0 => Err(DbError::Missing {
            what: "the provider",
            id: id.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Enables a provider that waited for its server to be seen. Returns 1 then, 0 when nothing changed.
pub(super) fn seen(conn: &Connection, id: &str, at: i64) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(SEEN)?.execute((id, at))?)
}

/// Whether a configuration key holds a secret, by its name: `apiKey` does, `maxTokens` does not.
pub(crate) fn is_sensitive(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["key", "secret", "password", "cookie", "authorization"];
    words.iter().any(|word| key.contains(word))
        || (key.contains("token") && !key.contains("tokens"))
}

fn config(conn: &Connection) -> Result<HashMap<String, Vec<ConfigRow>>, DbError> {
    let mut statement = conn.prepare_cached(CONFIG)?;
    let mut rows = statement.query([])?;
    let mut config: HashMap<String, Vec<ConfigRow>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let sealed = row.get("sealed")?;
        let value = if sealed {
            Value::String(row.get("value")?)
        } else {
            json::value(row, "value")?.unwrap_or_default()
        };
        config
            .entry(row.get("provider_id")?)
            .or_default()
            .push(ConfigRow {
                key: row.get("key")?,
                value,
                is_sensitive: row.get("is_sensitive")?,
                sealed,
            });
    }
    Ok(config)
}

fn provider(row: &Row<'_>) -> rusqlite::Result<ProviderRow> {
    Ok(ProviderRow {
        id: row.get("id")?,
        name: row.get("name")?,
        kind: row.get("type")?,
        enabled: row.get("enabled")?,
        priority: row.get("priority")?,
        description: row.get("description")?,
        origin: row.get("origin")?,
        auto_enable: row.get("auto_enable")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::db::testing::{self, sample_provider};

    fn find(conn: &Connection, id: &str) -> Result<Option<StoredProvider>, DbError> {
        let mut all = all(conn)?.into_iter();
        Ok(all.find(|stored| stored.provider.id == id))
    }

    #[test]
    fn secrets_are_told_from_limits_by_name() {
        for key in [
            "apiKey",
            "token",
            "cookies",
            "clientSecret",
            "Authorization",
            "x-api-key",
        ] {
            assert!(is_sensitive(key), "{key}");
        }
        for key in ["maxTokens", "timeout", "baseURL", "defaultModel"] {
            assert!(!is_sensitive(key), "{key}");
        }
    }

    #[test]
    fn providers_come_by_priority_then_name_with_their_configuration() {
        let conn = testing::database();
        for (id, name, priority) in [("a", "Z", 1), ("b", "B", 5), ("c", "A", 1)] {
            let (mut provider, config) = sample_provider(id);
            provider.name = name.into();
            provider.priority = priority;
            insert(&conn, &provider, &config).unwrap();
        }
        let all = all(&conn).unwrap();
        let ids: Vec<_> = all
            .iter()
            .map(|stored| stored.provider.id.as_str())
            .collect();
        assert_eq!(ids, ["b", "c", "a"]);
        let found = find(&conn, "c").unwrap().unwrap();
        assert_eq!(found, all[1]);
        assert_eq!(found.config, sample_provider("c").1);
        assert_eq!(find(&conn, "d").unwrap(), None);
        assert_eq!(
            serde_json::to_value(&found.provider).unwrap()["type"],
            json!("openai")
        );
    }

    #[test]
    fn a_sensitive_value_is_not_printed() {
        let secret = ConfigRow {
            key: "apiKey".into(),
            value: json!("sk-1234"),
            is_sensitive: true,
            sealed: false,
        };
        assert!(!format!("{secret:?}").contains("1234"));
        let open = ConfigRow {
            is_sensitive: false,
            ..secret
        };
        assert!(format!("{open:?}").contains("1234"));
    }

    #[test]
    fn seeds_are_sown_on_empty_ground_only() {
        let conn = testing::database();
        let seeds = [sample_provider("a"), sample_provider("b")];
        assert_eq!(seed(&conn, &seeds).unwrap(), 2);
        delete(&conn, "a").unwrap();
        assert_eq!(seed(&conn, &seeds).unwrap(), 0);
        assert_eq!(delete(&conn, "a").unwrap_err().code(), "not_found");
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let conn = testing::database();
        let (provider, config) = sample_provider("a");
        insert(&conn, &provider, &config).unwrap();
        let named = ProviderChange {
            id: "a".into(),
            name: Some("New".into()),
            description: Patch::Put(None),
            put: vec![ConfigRow {
                key: "timeout".into(),
                value: json!(7),
                is_sensitive: false,
                sealed: false,
            }],
            remove: vec!["apiKey".into()],
            at: 99,
            ..ProviderChange::default()
        };
        change(&conn, &named).unwrap();
        let stored = find(&conn, "a").unwrap().unwrap();
        assert_eq!(
            (
                stored.provider.name.as_str(),
                stored.provider.priority,
                stored.provider.description
            ),
            ("New", provider.priority, None)
        );
        let keys: Vec<_> = stored.config.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys, ["baseURL", "timeout"]);
        let replacing = ProviderChange {
            replaces: true,
            name: None,
            ..named
        };
        change(&conn, &replacing).unwrap();
        assert_eq!(find(&conn, "a").unwrap().unwrap().config.len(), 1);
        let missing = ProviderChange {
            id: "b".into(),
            ..replacing
        };
        assert_eq!(change(&conn, &missing).unwrap_err().code(), "not_found");
    }

    #[test]
    fn a_server_that_is_seen_enables_its_provider_once() {
        let conn = testing::database();
        let (mut provider, config) = sample_provider("a");
        provider.enabled = false;
        provider.auto_enable = true;
        insert(&conn, &provider, &config).unwrap();
        assert_eq!(
            (seen(&conn, "a", 9).unwrap(), seen(&conn, "a", 10).unwrap()),
            (1, 0)
        );
        let stored = find(&conn, "a").unwrap().unwrap().provider;
        assert!(stored.enabled && !stored.auto_enable);
        assert_eq!(stored.updated_at, 9);
    }

    #[test]
    fn a_sealed_value_is_not_taken_for_the_secret() {
        let conn = testing::database();
        let (provider, config) = sample_provider("a");
        insert(&conn, &provider, &config).unwrap();
        conn.execute(
            "UPDATE provider_configs SET value = 'x9', sealed = 1 WHERE key = 'apiKey'",
            [],
        )
        .unwrap();
        let found = find(&conn, "a").unwrap().unwrap();
        let row = &found.config[0];
        assert_eq!((row.sealed, &row.value), (true, &json!("x9")));
        assert!(!format!("{row:?}").contains("x9"));
    }

    #[test]
    fn an_open_value_is_sealed_unless_it_was_changed_meanwhile() {
        let conn = testing::database();
        let (provider, config) = sample_provider("a");
        insert(&conn, &provider, &config).unwrap();
        let plain = config[0].clone();
        let sealed = ConfigRow {
            value: json!("x9"),
            sealed: true,
            ..plain.clone()
        };
        let changed = ConfigRow {
            value: json!("another"),
            ..plain.clone()
        };
        assert_eq!(seal_config(&conn, "a", &changed, &sealed).unwrap(), 0);
        assert_eq!(seal_config(&conn, "a", &plain, &sealed).unwrap(), 1);
        assert_eq!(seal_config(&conn, "a", &plain, &sealed).unwrap(), 0);
        assert_eq!(find(&conn, "a").unwrap().unwrap().config[0], sealed);
    }
}
