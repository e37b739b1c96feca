//! Tables `models` and `provider_models`: models an operator described, and which provider is asked for them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::db::error::DbError;
use crate::db::json;
use crate::db::patch::Patch;

// Both are read by position: a registry may have thousands of models, and names cost a search each.
const MODELS: &str =
    "SELECT id, name, description, capabilities, created_at, updated_at FROM models";

const LINKS: &str = "SELECT provider_id, model_id, is_default, config FROM provider_models";

const INSERT: &str = "
    INSERT INTO models (id, name, description, capabilities, created_at, updated_at)
    VALUES (:id, :name, :description, :capabilities, :created_at, :updated_at)";

const CHANGE: &str = "
    UPDATE models
       SET name = coalesce(:name, name),
           description = CASE WHEN :describes THEN :description ELSE description END,
           capabilities = coalesce(:capabilities, capabilities), updated_at = :at
     WHERE id = :id";

const DELETE: &str = "DELETE FROM models WHERE id = ?1";

const UNSET_DEFAULT: &str = "
    UPDATE provider_models SET is_default = 0, updated_at = ?2 WHERE provider_id = ?1 AND is_default = 1";

const SET_DEFAULT: &str = "
    UPDATE provider_models SET is_default = 1, updated_at = ?3 WHERE provider_id = ?1 AND model_id = ?2";

const LINK: &str = "
    INSERT INTO provider_models (provider_id, model_id, config, created_at, updated_at)
    VALUES (:provider_id, :model_id, :config, :at, :at)";

const UNLINK: &str = "DELETE FROM provider_models WHERE provider_id = ?1 AND model_id = ?2";

const LINK_OF: &str = "
    SELECT id, provider_id, model_id, is_default, config, created_at, updated_at
      FROM provider_models
     WHERE provider_id = ?1 AND model_id = ?2";

const OFFERED: &str = "
    INSERT INTO models (id, name, capabilities, created_at, updated_at) VALUES (?1, ?1, '[\"chat\"]', ?2, ?2)
        ON CONFLICT (id) DO NOTHING";

const OFFERED_BY: &str = "
    INSERT INTO provider_models (provider_id, model_id, created_at, updated_at)
    SELECT id, ?2, ?3, ?3 FROM providers WHERE id = ?1
        ON CONFLICT (provider_id, model_id) DO NOTHING";

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
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

/// What is changed of a model; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelChange {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) description: Patch,
    pub(crate) capabilities: Option<Vec<String>>,
    /// Unix time, ms.
    pub(crate) at: i64,
}

/// That a provider offers a model.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Link {
    pub(crate) id: i64,
    pub(crate) provider_id: String,
    pub(crate) model_id: String,
    pub(crate) is_default: bool,
    /// What is known of it here: `price`, `context_length`, `tools` and the like.
    pub(crate) config: Option<Value>,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) updated_at: i64,
}

/// A link to be made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewLink {
    pub(crate) provider_id: String,
    pub(crate) model_id: String,
    pub(crate) is_default: bool,
    pub(crate) config: Option<Value>,
    /// Unix time, ms.
    pub(crate) at: i64,
}

/// A model as one provider offers it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LinkedModel {
    /// Shared by all who offer it.
    #[serde(flatten, serialize_with = "shared")]
    #[schema(value_type = ModelRow)]
    pub(crate) model: Arc<ModelRow>,
    pub(crate) is_default: bool,
    /// What is known of it here: `price`, `context_length`, `tools` and the like.
    pub(crate) provider_config: Option<Value>,
}

fn shared<S: Serializer>(model: &Arc<ModelRow>, serializer: S) -> Result<S::Ok, S::Error> {
    model.as_ref().serialize(serializer)
}

/// All models, by name.
pub(crate) fn all(conn: &Connection) -> Result<Vec<ModelRow>, DbError> {
    let mut models = unordered(conn)?;
    models.sort_unstable_by(|one, other| by_name(one).cmp(&by_name(other)));
    Ok(models)
}

fn unordered(conn: &Connection) -> Result<Vec<ModelRow>, DbError> {
    let mut statement = conn.prepare_cached(MODELS)?;
    let mut rows = statement.query([])?;
    let mut models: Vec<ModelRow> = Vec::new();
    // Nearly all can do the same, and the words of one need not be read again for the next.
    let (mut written, mut able) = (String::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let text = text(row, 3)?;
        if text != written {
            able = json::checked(serde_json::from_str(text))?;
            text.clone_into(&mut written);
        }
        models.push(model(row, able.clone())?);
    }
    Ok(models)
}

fn by_name(model: &ModelRow) -> (&str, &str) {
    (&model.name, &model.id)
}

/// Adds a model. [`DbError::Conflict`] when its id is taken.
pub(super) fn insert(conn: &Connection, model: &ModelRow) -> Result<(), DbError> {
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":id": model.id,
        ":name": model.name,
        ":description": model.description,
        ":capabilities": Value::from(model.capabilities.clone()).to_string(),
        ":created_at": model.created_at,
        ":updated_at": model.updated_at,
    })?;
    Ok(())
}

/// Changes a model. [`DbError::Missing`] when there is none.
pub(super) fn change(conn: &Connection, change: &ModelChange) -> Result<(), DbError> {
    let capabilities = change
        .capabilities
        .as_ref()
        .map(|list| Value::from(list.clone()).to_string());
    let changed = conn.prepare_cached(CHANGE)?.execute(named_params! {
        ":id": change.id,
        ":name": change.name,
        ":describes": change.description.is_put(),
        ":description": change.description.value(),
        ":capabilities": capabilities,
        ":at": change.at,
    })?;
    found(changed, "the model", &change.id)
}

/// Removes a model with its links. [`DbError::Missing`] when there is none.
pub(super) fn delete(conn: &Connection, id: &str) -> Result<(), DbError> {
    let deleted = conn.prepare_cached(DELETE)?.execute([id])?;
    found(deleted, "the model", id)
}

/// Links a model to a provider; as the default it takes the place of the one before.
pub(super) fn link(conn: &Connection, link: &NewLink) -> Result<(), DbError> {
    conn.prepare_cached(LINK)?.execute(named_params! {
        ":provider_id": link.provider_id,
        ":model_id": link.model_id,
        ":config": link.config.as_ref().map(Value::to_string),
        ":at": link.at,
    })?;
    if link.is_default {
        set_default(conn, &link.provider_id, &link.model_id, link.at)?;
    }
    Ok(())
}

/// Takes a model from a provider. [`DbError::Missing`] when it was not linked.
pub(super) fn unlink(conn: &Connection, provider: &str, model: &str) -> Result<(), DbError> {
    let deleted = conn.prepare_cached(UNLINK)?.execute((provider, model))?;
    found(deleted, "the link to the model", model)
}

/// Makes a linked model the provider's default. [`DbError::Missing`] when it is not linked.
pub(super) fn set_default(
    conn: &Connection,
    provider: &str,
    model: &str,
    at: i64,
) -> Result<(), DbError> {
    conn.prepare_cached(UNSET_DEFAULT)?
        .execute((provider, at))?;
    let set = conn
        .prepare_cached(SET_DEFAULT)?
        .execute((provider, model, at))?;
    found(set, "the link to the model", model)
}

/// Adds what a provider lists and is not known yet; what somebody made by hand stays. Returns the new models and links.
pub(super) fn offered(
    conn: &Connection,
    provider: &str,
    models: &[String],
    at: i64,
) -> Result<(usize, usize), DbError> {
    let (mut added, mut linked) = (0, 0);
    for model in models {
        added += conn.prepare_cached(OFFERED)?.execute((model, at))?;
        linked += conn
            .prepare_cached(OFFERED_BY)?
            .execute((provider, model, at))?;
    }
    Ok((added, linked))
}

/// How a provider offers a model, if it does.
pub(crate) fn link_of(
    conn: &Connection,
    provider: &str,
    model: &str,
) -> Result<Option<Link>, DbError> {
    let mut statement = conn.prepare_cached(LINK_OF)?;
    let row = statement.query_row((provider, model), |row| {
        Ok(Link {
            id: row.get("id")?,
            provider_id: row.get("provider_id")?,
            model_id: row.get("model_id")?,
            is_default: row.get("is_default")?,
            config: json::value(row, "config")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
        })
    });
    Ok(row.optional()?)
}

fn found(rows: usize, what: &'static str, id: &str) -> Result<(), DbError> {
    if rows == 0 {
        return Err(DbError::Missing {
            what,
            id: id.to_owned(),
        });
    }
    Ok(())
}

/// All models, in no order, to be shared by those who offer them.
pub(crate) fn shared_models(conn: &Connection) -> Result<Vec<Arc<ModelRow>>, DbError> {
    Ok(unordered(conn)?.into_iter().map(Arc::new).collect())
}

/// What one provider offers, as it is stored.
pub(crate) struct Links {
    provider: String,
    links: Vec<(String, bool, Option<Value>)>,
}

/// All links to models. Those of one provider mostly come one after another, but not always.
pub(crate) fn links(conn: &Connection) -> Result<Vec<Links>, DbError> {
    let mut statement = conn.prepare_cached(LINKS)?;
    let mut rows = statement.query([])?;
    let mut all: Vec<Links> = Vec::new();
    while let Some(row) = rows.next()? {
        let provider = text(row, 0)?;
        if all.last().is_none_or(|last| last.provider != provider) {
            all.push(Links {
                provider: provider.to_owned(),
                links: Vec::new(),
            });
        }
        let link = (row.get(1)?, row.get(2)?, json::value(row, 3)?);
        if let Some(last) = all.last_mut() {
            last.links.push(link);
        }
    }
    Ok(all)
}

/// The models linked to each provider, by its id; the default one first, then by name. Put together here rather than by
/// `SQLite`, which seeks in `models` for each link and sorts rows as wide as both. A model that is not there is left out.
pub(crate) fn linked(
    models: &[Arc<ModelRow>],
    links: Vec<Links>,
) -> HashMap<String, Vec<LinkedModel>> {
    let models: HashMap<&str, &Arc<ModelRow>> = models
        .iter()
        .map(|model| (model.id.as_str(), model))
        .collect();
    let mut linked: HashMap<String, Vec<LinkedModel>> = HashMap::new();
    for Links { provider, links } in links {
        let links = links.into_iter().filter_map(|(id, is_default, config)| {
            Some(LinkedModel {
                model: Arc::clone(models.get(id.as_str())?),
                is_default,
                provider_config: config,
            })
        });
        linked.entry(provider).or_default().extend(links);
    }
    for models in linked.values_mut() {
        models.sort_unstable_by(|one, other| {
            let place = |linked: &LinkedModel| !linked.is_default;
            let names = || by_name(&one.model).cmp(&by_name(&other.model));
            place(one).cmp(&place(other)).then_with(names)
        });
    }
    linked
}

fn text<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<&'row str> {
    Ok(row.get_ref(column)?.as_str()?)
}

fn model(row: &Row<'_>, capabilities: Vec<String>) -> rusqlite::Result<ModelRow> {
    Ok(ModelRow {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        capabilities,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
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
        let links = links(&conn).unwrap();
        let linked = linked(&shared_models(&conn).unwrap(), links)
            .remove("p")
            .unwrap();
        assert_eq!(
            serde_json::to_value(&linked[0]).unwrap(),
            json!({"id": "x", "name": "B", "description": null, "capabilities": ["chat"], "created_at": 1,
                   "updated_at": 2, "is_default": true, "provider_config": {"a": 1}})
        );
        assert_eq!(linked[1].model.id, "y");
    }

    #[test]
    fn a_provider_has_one_default_and_a_list_from_upstream_changes_nothing_made_by_hand() {
        let conn = testing::database();
        conn.execute_batch(
            "INSERT INTO providers VALUES ('p', 'P', 'openai', 1, 0, NULL, 'user', 0, 1, 1)",
        )
        .unwrap();
        let model = |id: &str| ModelRow {
            id: id.into(),
            name: format!("Model {id}"),
            description: None,
            capabilities: vec!["tools".into()],
            created_at: 1,
            updated_at: 1,
        };
        insert(&conn, &model("a/1")).unwrap();
        insert(&conn, &model("b")).unwrap();
        assert_eq!(insert(&conn, &model("b")).unwrap_err().code(), "conflict");
        let linked_as_default = |id: &str| NewLink {
            provider_id: "p".into(),
            model_id: id.into(),
            is_default: true,
            config: Some(json!({"temperature": 0})),
            at: 2,
        };
        link(&conn, &linked_as_default("a/1")).unwrap();
        link(&conn, &linked_as_default("b")).unwrap();
        assert_eq!(
            link(&conn, &linked_as_default("b")).unwrap_err().code(),
            "conflict"
        );
        assert_eq!(
            link(&conn, &linked_as_default("c")).unwrap_err().code(),
            "not_found"
        );
        let is_default = |id: &str| link_of(&conn, "p", id).unwrap().map(|link| link.is_default);
        assert_eq!(
            (is_default("a/1"), is_default("b"), is_default("c")),
            (Some(false), Some(true), None)
        );
        let listed = ["a/1".to_owned(), "c".to_owned()];
        assert_eq!(offered(&conn, "p", &listed, 3).unwrap(), (1, 1));
        assert_eq!(offered(&conn, "p", &listed, 4).unwrap(), (0, 0));
        assert_eq!(
            (is_default("b"), is_default("c")),
            (Some(true), Some(false))
        );
        let renamed = ModelChange {
            id: "b".into(),
            name: Some("B".into()),
            at: 5,
            ..ModelChange::default()
        };
        change(&conn, &renamed).unwrap();
        let b = all(&conn)
            .unwrap()
            .into_iter()
            .find(|model| model.id == "b")
            .unwrap();
        assert_eq!(
            (b.name.as_str(), b.capabilities.len(), b.updated_at),
            ("B", 1, 5)
        );
        set_default(&conn, "p", "c", 6).unwrap();
        assert_eq!(
            (is_default("b"), is_default("c")),
            (Some(false), Some(true))
        );
        unlink(&conn, "p", "c").unwrap();
        assert_eq!(unlink(&conn, "p", "c").unwrap_err().code(), "not_found");
        assert_eq!(
            set_default(&conn, "p", "c", 7).unwrap_err().code(),
            "not_found"
        );
        delete(&conn, "b").unwrap();
        assert_eq!(delete(&conn, "b").unwrap_err().code(), "not_found");
        assert_eq!(change(&conn, &renamed).unwrap_err().code(), "not_found");
    }
}
