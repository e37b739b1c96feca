use serde_json::json;

use super::*;
use crate::db::body::Body;
use crate::db::patch::Patch;
use crate::db::recovery::{self, Recovered};
use crate::db::salvage::Position;
use crate::db::testing::{
    self, content, sample_activity, sample_outcome, sample_provider, sample_request, sample_virtual,
};
use crate::routing::budgets::Budgets;

/// One of each, in an order in which all of them have something to do.
fn all_kinds() -> Vec<WriteOp> {
    let (provider, config) = sample_provider("made");
    let mut waiting = sample_provider("waiting");
    waiting.0.enabled = false;
    waiting.0.auto_enable = true;
    vec![
        WriteOp::Salvage(Arc::new(Piece::end(Position::default()))),
        WriteOp::SeedProviders(vec![sample_provider("seed"), waiting]),
        WriteOp::ProviderSeen {
            id: "waiting".into(),
            at: 9,
        },
        WriteOp::CreateProvider {
            provider,
            config,
            operation: "op-1".into(),
        },
        WriteOp::ChangeProvider(Box::new(ProviderChange {
            id: "made".into(),
            priority: Some(42),
            at: 10,
            ..ProviderChange::default()
        })),
        WriteOp::DeleteProvider {
            id: "seed".into(),
            operation: "op-2".into(),
        },
        seal_of_a_key("made"),
        WriteOp::PutSetting {
            key: "server.port".into(),
            value: "3001".into(),
            at: 4,
        },
        WriteOp::PutSetting {
            key: "logging.level".into(),
            value: "\"info\"".into(),
            at: 4,
        },
        WriteOp::DeleteSetting {
            key: "server.port".into(),
        },
        WriteOp::BeginExchange(sample_request("r1")),
        WriteOp::BeginExchange(sample_request("r2")),
        WriteOp::FinishExchange {
            request: sample_request("r1"),
            outcome: sample_outcome("a1"),
        },
        WriteOp::InterruptUnfinished { before: i64::MAX },
        WriteOp::FinishExchange {
            request: sample_request("r3"),
            outcome: sample_outcome("a3"),
        },
        WriteOp::RecordActivity(sample_activity("l1")),
        WriteOp::RecordActorEvent(ActorEventRow {
            id: "e1".into(),
            actor: "database".into(),
            event: "failed".into(),
            incarnation: 2,
            reason: Some("a crash".into()),
            timestamp: 5,
        }),
        WriteOp::PutCredential(Box::new(sample_credential("valid"))),
        WriteOp::JudgeCredential(Box::new(sample_credential("rejected"))),
        WriteOp::RecordTurn(Box::new(sample_turn('a'))),
        WriteOp::ForgetChat {
            chat_id: "chat".into(),
        },
        WriteOp::RecordTurn(Box::new(sample_turn('b'))),
        WriteOp::PruneTurns { before: i64::MAX },
        WriteOp::DeleteCredential {
            label: sample_credential("valid").label,
        },
        WriteOp::PutCredential(Box::new(sample_credential("valid"))),
        WriteOp::DeleteCredentials { at: 7 },
        WriteOp::Discard {
            what: Unwanted::Session {
                id: "session".into(),
            },
            most: 100,
        },
        WriteOp::CreateModel {
            model: ModelRow {
                id: "kept".into(),
                name: "Kept".into(),
                description: None,
                capabilities: vec!["chat".into()],
                created_at: 5,
                updated_at: 5,
            },
            operation: "op-3".into(),
        },
        WriteOp::ChangeModel(ModelChange {
            id: "kept".into(),
            description: Patch::Put(Some("new".into())),
            at: 6,
            ..ModelChange::default()
        }),
        WriteOp::LinkModel {
            link: NewLink {
                provider_id: "made".into(),
                model_id: "kept".into(),
                is_default: false,
                config: None,
                at: 5,
            },
            operation: "op-4".into(),
        },
        WriteOp::SetDefaultModel {
            provider: "made".into(),
            model: "kept".into(),
            at: 6,
        },
        WriteOp::OfferModels {
            provider: "waiting".into(),
            models: vec!["offered".into()],
            at: 7,
            operation: "op-7".into(),
        },
        WriteOp::UnlinkModel {
            provider: "waiting".into(),
            model: "offered".into(),
            operation: "op-5".into(),
        },
        WriteOp::DeleteModel {
            id: "offered".into(),
            operation: "op-6".into(),
        },
        WriteOp::CreateVirtual {
            row: sample_virtual("coder", &["made/a", "made/b"]),
            operation: "op-8".into(),
        },
        WriteOp::ChangeVirtual {
            name: "coder".into(),
            row: sample_virtual("renamed", &["made/c"]),
            operation: "op-9".into(),
        },
        WriteOp::CreateVirtual {
            row: sample_virtual("kept", &["made/a"]),
            operation: "op-10".into(),
        },
        WriteOp::DeleteVirtual {
            name: "renamed".into(),
            operation: "op-11".into(),
        },
        WriteOp::RememberAnswer(KeptAnswer {
            key: "k".into(),
            method: "POST".into(),
            path: "/api/models".into(),
            body_hash: "h".into(),
            status: 201,
            location: None,
            body: "{}".into(),
            at: 5,
        }),
        WriteOp::DeleteResponse {
            response_id: "a3".into(),
        },
        WriteOp::DeleteRequest {
            request_id: "r2".into(),
        },
        WriteOp::RecordTurn(Box::new(sample_turn('c'))),
        WriteOp::Discard {
            what: Unwanted::EndedSessions { before: i64::MAX },
            most: 100,
        },
        WriteOp::Import(Arc::new(sample_chunk())),
        WriteOp::BeginExchange(outlived_request()),
        // Which number it got depends on how often what came before was repeated.
        WriteOp::AddWords(
            (1..50)
                .map(|id| WordsRow {
                    id,
                    prompt: "words".into(),
                    answer: String::new(),
                })
                .collect(),
        ),
        WriteOp::InterruptUnfinished { before: i64::MAX },
        WriteOp::Retain {
            what: Outlived::Bodies { before: 100 },
            most: 100,
        },
        WriteOp::Retain {
            what: Outlived::Requests { until: (100, 0) },
            most: 100,
        },
        WriteOp::Retain {
            what: Outlived::Activity { before: i64::MAX },
            most: 100,
        },
        WriteOp::Retain {
            what: Outlived::ActorEvents { before: i64::MAX },
            most: 100,
        },
        WriteOp::Retain {
            what: Outlived::Answers { before: i64::MAX },
            most: 100,
        },
        WriteOp::PutKey(Box::new(sample_key("one"))),
        WriteOp::FinishExchange {
            request: paid_request("one"),
            outcome: sample_outcome("a-paid"),
        },
        WriteOp::PutKey(Box::new(sample_key("two"))),
        WriteOp::KeyUsed {
            id: "one".into(),
            at: 9,
        },
        WriteOp::DeleteKey { id: "two".into() },
        WriteOp::RecordAudit(AuditRow {
            id: "u1".into(),
            principal: "admin".into(),
            action: "create".into(),
            entity: "provider".into(),
            entity_id: Some("made".into()),
            before: None,
            after: Some(json!({"id": "made"})),
            request_id: None,
            timestamp: 5,
        }),
        WriteOp::Retain {
            what: Outlived::Audit { before: i64::MAX },
            most: 100,
        },
        WriteOp::KeepAnswer(Box::new(sample_answer(1))),
        WriteOp::KeepAnswer(Box::new(sample_answer(2))),
        WriteOp::FinishExchange {
            request: sample_request("r5"),
            outcome: Box::new(OutcomeRow {
                from_cache: Some(sample_answer(2).key),
                attempts: Vec::new(),
                ..*sample_outcome("a5")
            }),
        },
        WriteOp::Retain {
            what: Outlived::Unhit {
                until: (5, i64::MAX),
            },
            most: 100,
        },
        WriteOp::Discard {
            what: Unwanted::KeptAnswers {
                model: Some("m".into()),
                by: i64::MAX,
            },
            most: 100,
        },
        // After all that counts something.
        WriteOp::CloseDay(Box::new(ClosedDay::sample(0, 4))),
    ]
}

fn sample_credential(state: &str) -> CredentialRow {
    CredentialRow {
        id: "login".into(),
        label: "login".into(),
        kind: "jwt".into(),
        token: Some(b"sealed".to_vec()),
        cookies: Some(b"sealed".to_vec()),
        headers: None,
        sealed: true,
        expires_at: Some(9),
        state: state.into(),
        last_used_at: None,
        limited_until: None,
        last_verified_at: None,
        last_error: None,
        created_at: 5,
        updated_at: 5,
    }
}

/// Older than all others: what is counted in the usage stays.
fn outlived_request() -> Arc<RequestRow> {
    Arc::new(RequestRow {
        timestamp: 50,
        ..RequestRow::clone(&sample_request("r4"))
    })
}

fn seal_of_a_key(provider: &str) -> WriteOp {
    let plain = sample_provider(provider).1.remove(0);
    WriteOp::SealConfig {
        provider: provider.into(),
        sealed: ConfigRow {
            value: json!("sealed"),
            sealed: true,
            ..plain.clone()
        },
        plain,
    }
}

fn paid_request(key: &str) -> Arc<RequestRow> {
    Arc::new(RequestRow {
        key_id: Some(key.into()),
        ..RequestRow::clone(&sample_request("paid"))
    })
}

fn sample_key(id: &str) -> KeyRow {
    KeyRow {
        id: id.into(),
        name: "Laptop".into(),
        prefix: "qw-abcd".into(),
        hash: "sha256$00$00".into(),
        allowed_models: Some(vec!["m".into()]),
        expires_at: Some(9),
        disabled: false,
        rate_per_minute: Some(60),
        budgets: Budgets::default(),
        created_at: 5,
        updated_at: 5,
        last_used_at: None,
    }
}

fn sample_chunk() -> ImportChunk {
    let (mut provider, config) = sample_provider("old");
    provider.origin = "import".into();
    ImportChunk {
        rows: import::ImportRows::Provider(Box::new(provider), config),
        bytes: 100,
    }
}

fn sample_answer(number: u8) -> CacheRow {
    CacheRow {
        key: cache::Key([number; 32]),
        model: "m".into(),
        provider_id: "p".into(),
        upstream_model: "m-large".into(),
        is_stream: false,
        only_asked: false,
        usage: Some(json!({"total_tokens": 7})),
        body: cache::PackedAnswer::of(b"an answer"),
        created_at: 5,
        expires_at: 9,
        bounds: cache::Bounds {
            entries: 10,
            bytes: 1 << 20,
        },
    }
}

fn sample_turn(hash: char) -> TurnRow {
    TurnRow {
        hash: hash.to_string().repeat(64),
        session_id: "session".into(),
        login: "account".into(),
        credential_id: "login".into(),
        chat_id: "chat".into(),
        parent_id: "answer".into(),
        first_user_message: "hi".into(),
        message_count: 2,
        model: "m".into(),
        request_id: "r9".into(),
        at: 5,
        expires_at: 10,
    }
}

/// Every variant that can be applied; a new one does not compile until it is thought of here.
fn number(op: &WriteOp) -> usize {
    match op {
        WriteOp::BeginExchange(_) => 0,
        WriteOp::FinishExchange { .. } => 1,
        WriteOp::InterruptUnfinished { .. } => 2,
        WriteOp::CreateProvider { .. } => 3,
        WriteOp::DeleteProvider { .. } => 4,
        WriteOp::SeedProviders(_) => 5,
        WriteOp::ProviderSeen { .. } => 6,
        WriteOp::PutSetting { .. } => 7,
        WriteOp::DeleteSetting { .. } => 8,
        WriteOp::RecordActivity(_) => 9,
        WriteOp::RecordActorEvent(_) => 10,
        WriteOp::RecordAudit(_) => 11,
        WriteOp::PutCredential(_) => 12,
        WriteOp::JudgeCredential(_) => 13,
        WriteOp::DeleteCredentials { .. } => 14,
        WriteOp::RecordTurn(_) => 15,
        WriteOp::ForgetChat { .. } => 16,
        WriteOp::PruneTurns { .. } => 17,
        WriteOp::ChangeProvider(_) => 19,
        WriteOp::Discard { .. } => 18,
        WriteOp::CreateModel { .. } => 20,
        WriteOp::ChangeModel(_) => 21,
        WriteOp::DeleteModel { .. } => 22,
        WriteOp::LinkModel { .. } => 23,
        WriteOp::UnlinkModel { .. } => 24,
        WriteOp::SetDefaultModel { .. } => 25,
        WriteOp::OfferModels { .. } => 26,
        WriteOp::RememberAnswer(_) => 27,
        WriteOp::DeleteRequest { .. } => 28,
        WriteOp::DeleteResponse { .. } => 29,
        WriteOp::Import(_) => 31,
        WriteOp::Retain { .. } => 36,
        WriteOp::AddWords(_) => 37,
        WriteOp::PutKey(_) => 32,
        WriteOp::DeleteKey { .. } => 33,
        WriteOp::KeyUsed { .. } => 34,
        WriteOp::SealConfig { .. } => 35,
        WriteOp::CreateVirtual { .. } => 38,
        WriteOp::ChangeVirtual { .. } => 39,
        WriteOp::DeleteVirtual { .. } => 40,
        WriteOp::KeepAnswer(_) => 30,
        WriteOp::DeleteCredential { .. } => 41,
        WriteOp::CloseDay(_) => 42,
        WriteOp::Salvage(_) => 43,
        #[cfg(feature = "fault-injection")]
        WriteOp::Panic => usize::MAX,
    }
}

fn carried_out(op: &WriteOp, conn: &Connection) {
    if op.apply(conn).unwrap() == Written::Rows(1)
        && let Some((id, asked, answered)) = op.said(conn).unwrap()
    {
        words::put(conn, id, asked, answered).unwrap();
    }
}

#[test]
fn every_operation_applied_twice_has_the_effect_of_once() {
    let conn = testing::database();
    let mut walked = std::collections::BTreeSet::new();
    recovery::put(&conn, &Recovered::begun(5)).unwrap();
    for op in all_kinds() {
        let before = content(&conn);
        carried_out(&op, &conn);
        let once = content(&conn);
        assert_ne!(before, once, "{op:?} has something to do");
        carried_out(&op, &conn);
        assert_eq!(once, content(&conn), "{op:?}");
        walked.insert(number(&op));
    }
    assert_eq!(
        walked.into_iter().collect::<Vec<_>>(),
        (0..=43).collect::<Vec<_>>()
    );
}

#[test]
fn a_whole_queue_may_be_repeated() {
    let conn = testing::database();
    for op in all_kinds() {
        carried_out(&op, &conn);
    }
    let once = content(&conn);
    for op in all_kinds() {
        carried_out(&op, &conn);
    }
    let known: Vec<_> = once
        .iter()
        .filter(|row| !row.starts_with("settings: logging"))
        .collect();
    let again = content(&conn);
    assert_eq!(
        known,
        again
            .iter()
            .filter(|row| !row.starts_with("settings: logging"))
            .collect::<Vec<_>>()
    );
}

#[test]
fn another_intent_with_the_same_id_or_name_is_a_conflict() {
    let conn = testing::database();
    let create = |id: &str, name: &str, operation: &str| {
        let (mut provider, config) = sample_provider(id);
        provider.name = name.into();
        WriteOp::CreateProvider {
            provider,
            config,
            operation: operation.into(),
        }
        .apply(&conn)
    };
    let conflict = |column: &str| {
        Err(DbError::Conflict {
            table: "providers".into(),
            column: column.into(),
        })
    };
    assert_eq!(create("a", "A", "op-1"), Ok(Written::Done));
    assert_eq!(create("a", "B", "op-2"), conflict("id"));
    assert_eq!(create("b", "A", "op-3"), conflict("name"));
    let delete = |operation: &str| {
        WriteOp::DeleteProvider {
            id: "a".into(),
            operation: operation.into(),
        }
        .apply(&conn)
    };
    assert_eq!(delete("op-4"), Ok(Written::Done));
    assert_eq!(delete("op-4"), Ok(Written::Done), "a repetition");
    assert!(
        matches!(delete("op-5"), Err(DbError::Missing { .. })),
        "another intent"
    );
}

#[test]
fn history_is_no_management_and_all_else_is() {
    let history = [0, 1, 2, 9, 10, 15, 16, 17, 30, 34, 36, 37, 42, 43];
    for op in all_kinds() {
        assert_eq!(
            op.is_management(),
            !history.contains(&number(&op)),
            "{op:?}"
        );
    }
}

#[test]
fn bodies_weigh_what_they_hold_and_are_not_printed() {
    let mut request = RequestRow::clone(&sample_request("r1"));
    request.openai_request = Body::of("9".repeat(4_000));
    request.words = "9".repeat(1_000);
    let op = WriteOp::BeginExchange(Arc::new(request));
    assert!((5_000..7_000).contains(&op.weight()));
    assert_eq!(format!("{op:?}"), "begin exchange");
    let finish = |outcome| WriteOp::FinishExchange {
        request: sample_request("r1"),
        outcome,
    };
    let mut bare = sample_outcome("a1");
    let recording = bare.recording.take();
    let packed = recording.map_or(0, |recording| recording.len());
    assert!(packed > 0);
    let (with, without) = (finish(sample_outcome("a1")), finish(bare));
    assert_eq!(with.weight(), without.weight() + packed);
}

#[test]
fn a_recording_is_stored_once_and_goes_with_its_exchange() {
    let conn = testing::database();
    let count = || -> i64 {
        conn.query_row("SELECT count(*) FROM recordings", [], |row| row.get(0))
            .unwrap()
    };
    let finish = WriteOp::FinishExchange {
        request: sample_request("r1"),
        outcome: sample_outcome("a1"),
    };
    for _ in 0..2 {
        finish.apply(&conn).unwrap();
        assert_eq!(count(), 1);
    }
    let delete = WriteOp::DeleteRequest {
        request_id: "r1".into(),
    };
    delete.apply(&conn).unwrap();
    assert_eq!(count(), 0);
}
