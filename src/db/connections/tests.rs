use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::db::history::words::WordsRow;
use crate::db::testing::{sample_activity, sample_outcome, sample_provider, sample_request};
use crate::db::{activity, history, providers, settings};

async fn open() -> (TempDir, PathBuf, WriteConnection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qwarden.db");
    let (writer, migrated) = WriteConnection::open(&path, 1).await.unwrap();
    assert_eq!(migrated.from, 0);
    (dir, path, writer)
}

fn batch(ops: Vec<WriteOp>) -> Vec<Arc<WriteOp>> {
    ops.into_iter().map(Arc::new).collect()
}

fn put(key: &str, value: &str) -> WriteOp {
    WriteOp::PutSetting {
        key: key.into(),
        value: value.into(),
        at: 1,
    }
}

fn log(id: &str) -> WriteOp {
    WriteOp::RecordActivity(sample_activity(id))
}

async fn pragma(thread: &tokio_rusqlite::Connection, name: &'static str) -> i64 {
    thread
        .call(move |conn| Ok::<_, DbError>(conn.pragma_query_value(None, name, |row| row.get(0))?))
        .await
        .unwrap()
}

#[tokio::test]
async fn one_bad_write_fails_alone() {
    let (_dir, path, writer) = open().await;
    let (provider, config) = sample_provider("a");
    let create = |operation: &str| WriteOp::CreateProvider {
        provider: provider.clone(),
        config: config.clone(),
        operation: operation.into(),
    };
    let results = writer
        .commit(batch(vec![
            create("op-1"),
            create("op-2"),
            put("bad", "no json"),
            put("good", "1"),
            log("l1"),
        ]))
        .await
        .unwrap();
    assert!(matches!(
        &results[..],
        [Ok(_), Err(DbError::Conflict { column, .. }), Err(DbError::Invalid(_)), Ok(_), Ok(_)] if column == "id"
    ));
    let readers = ReadConnections::open(&path, 2).await.unwrap();
    assert_eq!(
        readers.run(settings::all).await.unwrap(),
        [("good".to_owned(), "1".to_owned())]
    );
    assert_eq!(readers.run(providers::all).await.unwrap().len(), 1);
    assert_eq!(
        readers
            .run(|conn| activity::recent(conn, 0, 9))
            .await
            .unwrap()
            .len(),
        1
    );
    // The intent that failed was not remembered as carried out.
    let again = writer.commit(batch(vec![create("op-2")])).await.unwrap();
    assert!(matches!(again[..], [Err(DbError::Conflict { .. })]));
}

#[tokio::test]
async fn management_is_synced_and_history_is_not() {
    let (_dir, _path, writer) = open().await;
    assert_eq!(pragma(&writer.thread, "synchronous").await, 2);
    for (ops, synchronous) in [
        (vec![log("l1")], 1),
        (vec![log("l2"), put("a", "1"), log("l3")], 2),
        (vec![put("b", "1")], 2),
        (vec![log("l4")], 1),
    ] {
        writer.commit(batch(ops)).await.unwrap();
        assert_eq!(pragma(&writer.thread, "synchronous").await, synchronous);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_batch_as_a_whole_and_heals() {
    let (_dir, path, writer) = open().await;
    let limit = |pages: i64| {
        let thread = writer.thread.clone();
        async move {
            thread
                .call(move |conn| {
                    conn.pragma_update_and_check(None, "max_page_count", pages, |row| {
                        row.get::<_, i64>(0)
                    })
                })
                .await
                .unwrap()
        }
    };
    limit(1).await;
    let big = format!("\"{}\"", "x".repeat(100_000));
    let outcome = writer
        .commit(batch(vec![put("small", "1"), put("big", &big), log("l1")]))
        .await;
    assert_eq!(outcome, Err(DbError::Full));
    assert_eq!(outcome.unwrap_err().code(), "storage_full");
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    assert_eq!(
        readers.run(settings::all).await.unwrap(),
        [],
        "nothing of it is stored"
    );
    limit(1_000_000).await;
    let healed = writer
        .commit(batch(vec![put("small", "1"), put("big", &big)]))
        .await
        .unwrap();
    assert!(healed.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_transaction_that_was_left_open_is_rolled_back_first() {
    let (_dir, path, writer) = open().await;
    writer
        .thread
        .call(|conn| conn.execute_batch("BEGIN; INSERT INTO settings VALUES ('stale', '1', 1)"))
        .await
        .unwrap();
    writer.commit(batch(vec![put("fresh", "1")])).await.unwrap();
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    assert_eq!(
        readers.run(settings::all).await.unwrap(),
        [("fresh".to_owned(), "1".to_owned())]
    );
}

#[tokio::test]
async fn a_file_of_a_newer_qwarden_is_left_byte_for_byte() {
    let (dir, path, writer) = open().await;
    writer.commit(batch(vec![put("a", "1")])).await.unwrap();
    // As after `kill -9`: with a log that was not folded in.
    writer
        .thread
        .call(|conn| {
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            conn.pragma_update(None, "user_version", 99)
        })
        .await
        .unwrap();
    writer.close().await;
    let log = dir.path().join("qwarden.db-wal");
    let before = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    assert!(!before.1.is_empty());
    let refused = WriteConnection::open(&path, 1).await.err().unwrap();
    assert_eq!(
        refused,
        DbError::NewerSchema {
            found: 99,
            known: migrate::SCHEMA_VERSION
        }
    );
    assert_eq!(before, (fs::read(&path).unwrap(), fs::read(&log).unwrap()));
    assert!(!dir.path().join("backups").exists());
}

#[tokio::test]
async fn a_second_start_finds_everything() {
    let (_dir, path, writer) = open().await;
    let finish = WriteOp::FinishExchange {
        request: sample_request("r1"),
        outcome: sample_outcome("a1"),
    };
    writer.commit(batch(vec![finish])).await.unwrap();
    writer.close().await;
    let (_writer, migrated) = WriteConnection::open(&path, 2).await.unwrap();
    let now = migrate::SCHEMA_VERSION;
    assert_eq!(
        (migrated.from, migrated.to, migrated.backup),
        (now, now, None)
    );
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    assert_eq!(readers.run(history::counts).await.unwrap().responses, 1);
}

#[tokio::test]
async fn readers_cannot_write_and_survive_a_job_that_panics() {
    let (_dir, path, _writer) = open().await;
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    let write = readers
        .run(|conn| Ok(conn.execute("DELETE FROM settings", [])?))
        .await;
    assert_eq!(write, Err(DbError::ReadOnly));
    let crash: Result<(), _> = readers.run(|_| panic!("a bug")).await;
    assert!(matches!(crash, Err(DbError::Other(_))));
    assert_eq!(readers.run(settings::all).await, Ok(vec![]));
    assert_eq!(readers.readers[0].jobs.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_long_read_does_not_hold_up_the_next() {
    let (_dir, path, _writer) = open().await;
    let readers = ReadConnections::open(&path, 2).await.unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let long = readers.run(move |_| Ok(released.recv().is_ok()));
    // Polled in this order: the long one has its connection when the others look for theirs.
    let others = async {
        for _ in 0..3 {
            assert_eq!(readers.run(settings::all).await, Ok(vec![]));
        }
        release.send(()).unwrap();
    };
    let (long, ()) = tokio::join!(biased; long, others);
    assert_eq!(long, Ok(true));
}

#[tokio::test]
async fn a_checkpoint_empties_the_log() {
    let (dir, _path, writer) = open().await;
    writer.commit(batch(vec![put("a", "1")])).await.unwrap();
    let log = dir.path().join("qwarden.db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    writer.checkpoint().await.unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    assert_eq!(pragma(&writer.thread, "auto_vacuum").await, 2);
    assert_eq!(pragma(&writer.thread, "secure_delete").await, 1);
}

#[cfg(unix)]
/// Folding beside changes the file, which is otherwise a sign of somebody else.
#[tokio::test]
async fn the_log_is_folded_beside_and_only_others_count_as_others() {
    let (_dir, path, writer) = open().await;
    let folder = writer.folding().await.unwrap();
    assert_eq!(writer.look().await, Ok(Look::Sound));
    for round in 0..5 {
        let value = format!("\"{}\"", "x".repeat(100_000));
        let committed = writer
            .commit_timed(batch(vec![put(&format!("key-{round}"), &value)]))
            .await
            .unwrap();
        assert!(
            committed.log.frames - committed.log.folded >= 24,
            "{round}: {:?}",
            committed.log
        );
        let length = fs::metadata(&path).unwrap().len();
        let log = folder.fold().await.unwrap();
        assert_eq!(log.frames, log.folded, "nobody was in the way");
        assert!(
            fs::metadata(&path).unwrap().len() > length,
            "it reached the file"
        );
        assert_eq!(writer.look().await, Ok(Look::Sound));
    }
    // Somebody else, between two foldings, before one and after one.
    let touch = |day: u64| {
        let file = fs::File::options().write(true).open(&path).unwrap();
        let day = std::time::Duration::from_secs(day * 86_400);
        file.set_modified(std::time::UNIX_EPOCH + day).unwrap();
    };
    touch(1);
    assert_eq!(writer.look().await, Ok(Look::Touched));
    touch(2);
    folder.fold().await.unwrap();
    assert_eq!(writer.look().await, Ok(Look::Touched));
    folder.fold().await.unwrap();
    touch(3);
    assert_eq!(writer.look().await, Ok(Look::Touched));
    folder.fold().await.unwrap();
    touch(4);
    folder.fold().await.unwrap();
    assert_eq!(writer.look().await, Ok(Look::Touched));
    folder.fold().await.unwrap();
    assert_eq!(writer.look().await, Ok(Look::Sound));
}

/// As at a stop in the midst of one.
#[tokio::test]
async fn the_log_is_emptied_whoever_folds_it_now() {
    let (_dir, path, writer) = open().await;
    let folder = writer.folding().await.unwrap();
    for round in 0..40 {
        let value = format!("\"{}\"", "x".repeat(200_000));
        writer
            .commit(batch(vec![put("key", &value)]))
            .await
            .unwrap();
        let (beside, emptied) = tokio::join!(folder.fold(), writer.checkpoint());
        assert_eq!(emptied, Ok(()), "{round}");
        beside.unwrap();
    }
    assert_eq!(fs::metadata(files::beside(&path, "-wal")).unwrap().len(), 0);
}

/// Else many that end at once would make as many parts, and there can be 2,000.
#[tokio::test]
async fn what_one_transaction_adds_to_the_index_of_words_is_one_part() {
    let (_dir, path, writer) = open().await;
    let exchange = |number: usize| {
        let request = sample_request(&format!("r{number}"));
        let begin = WriteOp::BeginExchange(request.clone());
        let outcome = sample_outcome(&format!("a{number}"));
        [begin, WriteOp::FinishExchange { request, outcome }]
    };
    // The last that began ends first.
    let (begin, finish): (Vec<_>, Vec<_>) = (0..100).map(exchange).map(Into::into).unzip();
    let many = begin.into_iter().chain(finish.into_iter().rev()).collect();
    let committed = writer.commit_timed(batch(many)).await.unwrap();
    assert_eq!(committed.parts, Some(1));
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    let ids = readers
        .run(|conn| {
            let mut statement = conn.prepare("SELECT id FROM requests ORDER BY id")?;
            let ids = statement.query_map([], |row| row.get(0))?;
            Ok(ids.collect::<Result<Vec<i64>, _>>()?)
        })
        .await
        .unwrap();
    writer
        .prepare(|conn| {
            let sql = "INSERT INTO history_words (history_words) VALUES ('delete-all')";
            Ok(conn.execute_batch(sql)?)
        })
        .await
        .unwrap();
    let words = ids.into_iter().map(|id| WordsRow {
        id,
        prompt: "hello".into(),
        answer: "there".into(),
    });
    let add = WriteOp::AddWords(words.collect());
    let committed = writer.commit_timed(batch(vec![add])).await.unwrap();
    assert_eq!(committed.results[0].outcome, Ok(Written::Rows(100)));
    let parts = committed.parts.unwrap();
    assert!(parts <= 3, "{parts}");
}

/// What goes with its exchange in the same transaction leaves no words, and an answer that goes takes its own along.
#[tokio::test]
async fn words_are_of_what_a_transaction_leaves() {
    let (_dir, path, writer) = open().await;
    let request = sample_request("r");
    let outcome = sample_outcome("a");
    let finish = || WriteOp::FinishExchange {
        request: request.clone(),
        outcome: outcome.clone(),
    };
    let delete = WriteOp::DeleteRequest {
        request_id: "r".into(),
    };
    writer.commit(batch(vec![finish(), delete])).await.unwrap();
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    let with_words = || readers.run(upkeep::with_words);
    assert_eq!(with_words().await, Ok(0));
    // Told again, as after a crash, it is as it was.
    for _ in 0..2 {
        writer.commit(batch(vec![finish()])).await.unwrap();
        assert_eq!(with_words().await, Ok(1));
    }
}

/// A file of schema 5 may have so many parts that nothing more can be added, and nothing merged.
#[tokio::test]
async fn an_index_with_as_many_parts_as_there_can_be_is_begun_anew() {
    let (_dir, path, writer) = open().await;
    let fill = |conn: &mut Connection| {
        conn.execute_batch("PRAGMA synchronous = OFF; INSERT INTO history_words (history_words, rank) VALUES ('crisismerge', 1999)")?;
        let mut number = 0;
        while upkeep::parts(conn)? < 1_999 {
            number += 1;
            words::put(conn, number, "hello", "there")?;
        }
        Ok(())
    };
    writer.prepare(fill).await.unwrap();
    drop(writer);
    let (writer, _) = WriteConnection::open(&path, 1).await.unwrap();
    let request = sample_request("r");
    let outcome = sample_outcome("a");
    let finish = WriteOp::FinishExchange { request, outcome };
    let committed = writer.commit_timed(batch(vec![finish])).await.unwrap();
    assert_eq!(committed.results[0].outcome, Ok(Written::Rows(1)));
    assert_eq!(committed.parts, Some(1));
}

/// What each transaction adds to the index of words is merged on request alone, in pieces, until there is nothing left.
#[tokio::test]
async fn words_are_merged_between_transactions() {
    let (_dir, path, writer) = open().await;
    let parts = |conn: &Connection| {
        let sql = "SELECT count(DISTINCT segid) FROM history_words_idx";
        Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    };
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    for number in 0..40 {
        let request = sample_request(&format!("r{number}"));
        let begin = WriteOp::BeginExchange(request.clone());
        let outcome = sample_outcome(&format!("a{number}"));
        let finish = WriteOp::FinishExchange { request, outcome };
        let committed = writer
            .commit_timed(batch(vec![begin, finish]))
            .await
            .unwrap();
        assert_eq!(committed.parts, Some(number + 1));
    }
    assert_eq!(readers.run(parts).await, Ok(40));
    let merge = Upkeep::MergeWords { pages: 4 };
    let mut pieces = 0;
    while writer.upkeep(merge).await.unwrap().left.is_some() {
        pieces += 1;
    }
    assert!(pieces > 0);
    let left = readers.run(parts).await.unwrap();
    assert!(left < 10, "{left}");
}

#[tokio::test]
async fn database_and_log_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, _path, writer) = open().await;
    writer.commit(batch(vec![put("a", "1")])).await.unwrap();
    for name in ["qwarden.db", "qwarden.db-wal", "qwarden.db-shm"] {
        let mode = fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn damage_is_found() {
    let (_dir, path, writer) = open().await;
    let many = (0..300).map(|number| log(&format!("l{number}"))).collect();
    writer.commit(batch(many)).await.unwrap();
    writer.checkpoint().await.unwrap();
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    assert_eq!(readers.quick_check().await, Ok(vec![]));
    drop(readers);
    writer.close().await;
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 3 * 4096;
    bytes[last..].fill(7);
    fs::write(&path, bytes).unwrap();
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    assert!(!readers.quick_check().await.unwrap().is_empty());

    fs::write(&path, "this is no database ".repeat(500)).unwrap();
    assert!(matches!(
        WriteConnection::open(&path, 1).await.err(),
        Some(DbError::Corrupt(_))
    ));
}

#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn a_write_that_panics_closes_the_connection_and_stores_nothing() {
    let (_dir, path, writer) = open().await;
    let crash = writer
        .commit(batch(vec![put("a", "1"), WriteOp::Panic]))
        .await;
    assert_eq!(crash, Err(DbError::Closed));
    let after = writer.commit(batch(vec![put("a", "1")])).await;
    assert!(after.unwrap_err().is_closed());
    let (next, _) = WriteConnection::open(&path, 1).await.unwrap();
    let readers = ReadConnections::open(&path, 1).await.unwrap();
    assert_eq!(readers.run(settings::all).await, Ok(vec![]));
    assert!(next.commit(batch(vec![put("a", "1")])).await.unwrap()[0].is_ok());
}
