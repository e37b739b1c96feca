//! Tables `models` and `provider_models`: models an operator described, and which provider is asked for them.

use std::collections::HashMap;

use rusqlite::{Connection, Row};
use serde::Serialize;
use serde_json::Value;

use crate::db::error::DbError;
use crate::db::json;

const ALL: &str = "
    SELECT id, name, description, capabilities, created_at, updated_at FROM models ORDER BY name, id";

const LINKED: &str = "
    SELECT models.id AS id, models.name AS name, models.description AS description,
           models.capabilities AS capabilities, models.created_at AS created_at, models.updated_at AS updated_at,
           provider_models.provider_id AS provider_id, provider_models.is_default AS is_default,
           provider_models.config AS config
      FROM provider_models
      JOIN models ON models.id = provider_models.model_id
     WHERE ?1 IS NULL OR provider_models.provider_id = ?1
     ORDER BY provider_models.provider_id, provider_models.is_default DESC, models.name, models.id";

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ModelRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) capabilities: Vec<String>,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) updated_at: i64,
}

/// A model as one provider offers it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LinkedModel {
    #[serde(flatten)]
    pub(crate) model: ModelRow,
    pub(crate) is_default: bool,
    /// What to send along with each request for it.
    pub(crate) provider_config: Option<Value>,
}

/// All models, by name.
pub(crate) fn all(conn: &Connection) -> Result<Vec<ModelRow>, DbError> {
    let mut statement = conn.prepare_cached(ALL)?;
    let rows = statement.query_map([], model)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The models linked to `provider`, or to each one, by its id; the default one first, then by name.
pub(super) fn linked(
    conn: &Connection,
    provider: Option<&str>,
) -> Result<HashMap<String, Vec<LinkedModel>>, DbError> {
    let mut statement = conn.prepare_cached(LINKED)?;
    let mut rows = statement.query([provider])?;
    let mut linked: HashMap<String, Vec<LinkedModel>> = HashMap::new();
    while let Some(row) = rows.next()? {
        linked
            .entry(row.get("provider_id")?)
            .or_default()
            .push(LinkedModel {
                model: model(row)?,
                is_default: row.get("is_default")?,
                provider_config: json::value(row, "config")?,
            });
    }
    Ok(linked)
}

fn model(row: &Row<'_>) -> rusqlite::Result<ModelRow> {
    let capabilities: String = row.get("capabilities")?;
    Ok(ModelRow {
        id: row.get("id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        capabilities: json::checked(serde_json::from_str(&capabilities))?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::db::testing;

    #[test]
    fn models_come_by_name_and_links_with_the_default_first() {
        let conn = testing::database();
        conn.execute_batch(
            "INSERT INTO providers VALUES ('p', 'P', 'openai', 1, 0, NULL, 'user', 0, 1, 1);
             INSERT INTO models VALUES ('x', 'B', NULL, '[\"chat\"]', 1, 2), ('y', 'A', 'old', '[]', 1, 2);
             INSERT INTO provider_models VALUES (1, 'p', 'x', 1, '{\"a\":1}', 1, 1), (2, 'p', 'y', 0, NULL, 1, 1)",
        )
        .unwrap();
        let ids: Vec<_> = all(&conn)
            .unwrap()
            .into_iter()
            .map(|model| model.id)
            .collect();
        assert_eq!(ids, ["y", "x"]);
        let linked = linked(&conn, None).unwrap().remove("p").unwrap();
        assert_eq!(
            serde_json::to_value(&linked[0]).unwrap(),
            json!({"id": "x", "name": "B", "description": null, "capabilities": ["chat"], "created_at": 1,
                   "updated_at": 2, "is_default": true, "provider_config": {"a": 1}})
        );
        assert_eq!(linked[1].model.id, "y");
    }
}
