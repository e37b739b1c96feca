use super::*;

const OLD: &str = "CREATE TABLE cats (name TEXT) STRICT;";
const NEW: &str = "CREATE TABLE cats (name TEXT) STRICT; CREATE TABLE dogs (name TEXT) STRICT;
                   CREATE TABLE birds (name TEXT) STRICT;";
const STEPS: [Step<'_>; 2] = [
    Step {
        from: 1,
        to: 2,
        sql: "CREATE TABLE dogs (name TEXT) STRICT",
    },
    Step {
        from: 2,
        to: 4,
        sql: "CREATE TABLE birds (name TEXT) STRICT",
    },
];

fn v1() -> Schema<'static> {
    Schema {
        version: 1,
        sql: OLD,
        steps: &[],
    }
}

fn shape(conn: &Connection) -> Vec<String> {
    conn.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn old_file(dir: &Path) -> (PathBuf, Connection) {
    let path = dir.join("qwarden.db");
    let mut conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    let made = migrate_with(&mut conn, &v1(), &path, 5).unwrap();
    assert_eq!(
        made,
        Migrated {
            from: 0,
            to: 1,
            backup: None
        }
    );
    conn.execute("INSERT INTO cats VALUES ('tom')", []).unwrap();
    (path, conn)
}

#[test]
fn the_schema_loads_is_strict_and_carries_its_version() {
    let mut conn = Connection::open_in_memory().unwrap();
    let migrated = migrate(&mut conn, Path::new(""), 1).unwrap();
    assert_eq!(
        migrated,
        Migrated {
            from: 0,
            to: SCHEMA_VERSION,
            backup: None
        }
    );
    assert_eq!(user_version(&conn).unwrap(), SCHEMA_VERSION);
    let loose: Vec<String> = conn
        .prepare("SELECT name FROM pragma_table_list WHERE strict = 0 AND name NOT LIKE 'sqlite_%'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(loose, Vec::<String>::new());
    assert_eq!(
        migrate(&mut conn, Path::new(""), 1).unwrap().from,
        SCHEMA_VERSION,
        "again: nothing to do"
    );
}

#[test]
fn an_older_file_is_backed_up_and_becomes_what_a_fresh_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut conn) = old_file(dir.path());
    let schema = Schema {
        version: 4,
        sql: NEW,
        steps: &STEPS,
    };
    let migrated = migrate_with(&mut conn, &schema, &path, 77).unwrap();
    let backup = dir.path().join("backups/qwarden-v1-77.db");
    assert_eq!(
        migrated,
        Migrated {
            from: 1,
            to: 4,
            backup: Some(backup.clone())
        }
    );

    let mut fresh = Connection::open_in_memory().unwrap();
    migrate_with(&mut fresh, &schema, Path::new(""), 1).unwrap();
    assert_eq!(shape(&conn), shape(&fresh));

    let copy = Connection::open(&backup).unwrap();
    assert_eq!(user_version(&copy).unwrap(), 1);
    let cat: String = copy
        .query_row("SELECT name FROM cats", [], |row| row.get(0))
        .unwrap();
    assert_eq!(cat, "tom");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&backup), mode(backup.parent().unwrap())),
            (0o600, 0o700)
        );
    }
}

#[test]
fn a_step_that_fails_takes_the_earlier_ones_back() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut conn) = old_file(dir.path());
    let before = shape(&conn);
    let steps = [
        Step {
            from: 1,
            to: 2,
            sql: "CREATE TABLE dogs (name TEXT) STRICT; DELETE FROM cats",
        },
        Step {
            from: 2,
            to: 3,
            sql: "CREATE TABLE cats (name TEXT) STRICT",
        },
    ];
    let schema = Schema {
        version: 3,
        sql: NEW,
        steps: &steps,
    };
    assert!(migrate_with(&mut conn, &schema, &path, 77).is_err());
    assert_eq!((shape(&conn), user_version(&conn).unwrap()), (before, 1));
    let cats: i64 = conn
        .query_row("SELECT count(*) FROM cats", [], |row| row.get(0))
        .unwrap();
    assert_eq!(cats, 1);
    assert_eq!(
        fs::read_dir(dir.path().join("backups")).unwrap().count(),
        0,
        "failing starts do not pile up copies"
    );
}

#[test]
fn a_step_that_leaves_dangling_references_is_taken_back() {
    let mut conn = Connection::open_in_memory().unwrap();
    let parents = "CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT;
                   CREATE TABLE b (a INTEGER REFERENCES a (id)) STRICT;";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qwarden.db");
    migrate_with(
        &mut conn,
        &Schema {
            version: 1,
            sql: parents,
            steps: &[],
        },
        &path,
        1,
    )
    .unwrap();
    conn.execute_batch("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
        .unwrap();
    let steps = [Step {
        from: 1,
        to: 2,
        sql: "DELETE FROM a",
    }];
    let outcome = migrate_with(
        &mut conn,
        &Schema {
            version: 2,
            sql: parents,
            steps: &steps,
        },
        &path,
        2,
    );
    assert!(matches!(outcome, Err(DbError::Corrupt(_))));
    assert_eq!(user_version(&conn).unwrap(), 1);
}

#[test]
fn a_file_of_another_program_is_not_taken_over() {
    let mut conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(
        migrate(&mut conn, Path::new(""), 1),
        Err(DbError::Invalid(_))
    ));
    assert_eq!(shape(&conn).len(), 1);
}

#[test]
fn a_version_no_step_knows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut conn) = old_file(dir.path());
    let schema = Schema {
        version: 9,
        sql: NEW,
        steps: &STEPS,
    };
    assert!(matches!(
        migrate_with(&mut conn, &schema, &path, 1),
        Err(DbError::Invalid(_))
    ));
    assert!(!dir.path().join("backups").exists());
}

/// A file of version 1 is what the current schema was before the last of its sections.
#[test]
fn a_file_of_version_1_becomes_what_a_fresh_one_is() {
    let (before, _) = CURRENT.sql.split_once("-- Access").unwrap();
    let first = Schema {
        version: 1,
        sql: before,
        steps: &[],
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qwarden.db");
    let mut conn = Connection::open(&path).unwrap();
    migrate_with(&mut conn, &first, &path, 1).unwrap();
    assert_eq!(migrate(&mut conn, &path, 2).unwrap().from, 1);
    let mut fresh = Connection::open_in_memory().unwrap();
    migrate(&mut fresh, Path::new(""), 1).unwrap();
    assert_eq!(shape(&conn), shape(&fresh));
}
