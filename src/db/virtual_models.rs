//! Tables `virtual_models` and `virtual_targets`: names that stand for a list of targets.

use std::collections::HashMap;

use rusqlite::{Connection, named_params};

use crate::db::error::DbError;
use crate::routing::virtuals::{HEAVIEST, Strategy, VirtualModel, VirtualTarget};

const ALL: &str = "
    SELECT name, description, strategy, enabled, created_at, updated_at FROM virtual_models ORDER BY name";

const TARGETS: &str =
    "SELECT virtual_model, target, weight FROM virtual_targets ORDER BY virtual_model, position";

const INSERT: &str = "
    INSERT INTO virtual_models (name, description, strategy, enabled, created_at, updated_at)
    VALUES (:name, :description, :strategy, :enabled, :created_at, :updated_at)";

const CHANGE: &str = "
    UPDATE virtual_models
       SET name = :name, description = :description, strategy = :strategy, enabled = :enabled,
           updated_at = :updated_at
     WHERE name = :old";

const DELETE: &str = "DELETE FROM virtual_models WHERE name = ?1";

const INSERT_TARGET: &str = "
    INSERT INTO virtual_targets (virtual_model, position, target, weight)
    VALUES (:virtual_model, :position, :target, :weight)";

const CLEAR_TARGETS: &str = "DELETE FROM virtual_targets WHERE virtual_model = ?1";

/// One virtual model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VirtualRow {
    pub(crate) model: VirtualModel,
    pub(crate) description: Option<String>,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) updated_at: i64,
}

/// All virtual models, by name.
pub(crate) fn all(conn: &Connection) -> Result<Vec<VirtualRow>, DbError> {
    let mut targets = targets(conn)?;
    let mut statement = conn.prepare_cached(ALL)?;
    let rows = statement.query_map([], |row| {
        let name: String = row.get("name")?;
        let strategy: String = row.get("strategy")?;
        Ok(VirtualRow {
            model: VirtualModel {
                targets: targets.remove(&name).unwrap_or_default(),
                name,
                strategy: Strategy::parse(&strategy).unwrap_or_default(),
                enabled: row.get("enabled")?,
            },
            description: row.get("description")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a virtual model. [`DbError::Conflict`] when its name is taken.
pub(super) fn insert(conn: &Connection, row: &VirtualRow) -> Result<(), DbError> {
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":name": row.model.name,
        ":description": row.description,
        ":strategy": row.model.strategy.as_str(),
        ":enabled": row.model.enabled,
        ":created_at": row.created_at,
        ":updated_at": row.updated_at,
    })?;
    insert_targets(conn, &row.model)
}

/// Puts `row` in the place of the virtual model `name`, whose beginning stays. [`DbError::Missing`] when there is none,
/// [`DbError::Conflict`] when its new name is taken.
pub(super) fn change(conn: &Connection, name: &str, row: &VirtualRow) -> Result<(), DbError> {
    let changed = conn.prepare_cached(CHANGE)?.execute(named_params! {
        ":old": name,
        ":name": row.model.name,
        ":description": row.description,
        ":strategy": row.model.strategy.as_str(),
        ":enabled": row.model.enabled,
        ":updated_at": row.updated_at,
    })?;
    found(changed, name)?;
    conn.prepare_cached(CLEAR_TARGETS)?
        .execute([&row.model.name])?;
    insert_targets(conn, &row.model)
}

/// Removes a virtual model with its targets. [`DbError::Missing`] when there is none.
pub(super) fn delete(conn: &Connection, name: &str) -> Result<(), DbError> {
    let deleted = conn.prepare_cached(DELETE)?.execute([name])?;
    found(deleted, name)
}

fn insert_targets(conn: &Connection, model: &VirtualModel) -> Result<(), DbError> {
    let mut statement = conn.prepare_cached(INSERT_TARGET)?;
    for (position, target) in model.targets.iter().enumerate() {
        statement.execute(named_params! {
            ":virtual_model": model.name,
            ":position": i64::try_from(position).unwrap_or(i64::MAX),
            ":target": target.target,
            ":weight": target.weight,
        })?;
    }
    Ok(())
}

fn targets(conn: &Connection) -> Result<HashMap<String, Vec<VirtualTarget>>, DbError> {
    let mut statement = conn.prepare_cached(TARGETS)?;
    let mut rows = statement.query([])?;
    let mut targets: HashMap<String, Vec<VirtualTarget>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let weight: i64 = row.get("weight")?;
        targets
            .entry(row.get("virtual_model")?)
            .or_default()
            .push(VirtualTarget {
                target: row.get("target")?,
                // The column allows more than we write.
                weight: u32::try_from(weight).map_or(HEAVIEST, |weight| weight.min(HEAVIEST)),
            });
    }
    Ok(targets)
}

fn found(rows: usize, name: &str) -> Result<(), DbError> {
    if rows == 0 {
        return Err(DbError::Missing {
            what: "the virtual model",
            id: name.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{self, sample_virtual};

    #[test]
    fn they_come_by_name_with_their_targets_in_order() {
        let conn = testing::database();
        let rows = [
            sample_virtual("a", &["b", "p/2", "p/1"]),
            sample_virtual("b*", &["p/3"]),
        ];
        insert(&conn, &rows[1]).unwrap();
        insert(&conn, &rows[0]).unwrap();
        assert_eq!(all(&conn).unwrap(), rows);
        let taken = insert(&conn, &rows[0]).unwrap_err();
        assert_eq!(
            taken,
            DbError::Conflict {
                table: "virtual_models".into(),
                column: "name".into()
            }
        );
    }

    #[test]
    fn a_change_takes_its_place_and_targets_go_along() {
        let conn = testing::database();
        insert(&conn, &sample_virtual("a", &["p/1", "p/2"])).unwrap();
        insert(&conn, &sample_virtual("b", &["p/3"])).unwrap();
        let mut new = sample_virtual("c", &["p/4"]);
        new.model.enabled = false;
        new.model.strategy = Strategy::Sticky;
        new.description = Some("mine".into());
        new.updated_at = 9;
        change(&conn, "a", &new).unwrap();
        assert_eq!(
            all(&conn).unwrap(),
            [sample_virtual("b", &["p/3"]), new.clone()]
        );
        assert_eq!(change(&conn, "a", &new).unwrap_err().code(), "not_found");
        assert_eq!(change(&conn, "b", &new).unwrap_err().code(), "conflict");
        delete(&conn, "c").unwrap();
        assert_eq!(delete(&conn, "c").unwrap_err().code(), "not_found");
        let left: i64 = conn
            .query_row("SELECT count(*) FROM virtual_targets", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 1);
    }

    #[test]
    fn a_weight_of_another_hand_is_brought_into_bounds() {
        let conn = testing::database();
        insert(&conn, &sample_virtual("a", &["p/1"])).unwrap();
        conn.execute(
            "UPDATE virtual_targets SET weight = 9223372036854775807",
            [],
        )
        .unwrap();
        assert_eq!(all(&conn).unwrap()[0].model.targets[0].weight, HEAVIEST);
        let refused = conn.execute("UPDATE virtual_targets SET weight = 0", []);
        assert!(refused.is_err());
    }
}
