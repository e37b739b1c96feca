//! A history of any length, made up: for the bench of the questions that are asked of one.

use std::path::Path;

use rusqlite::Connection;

use crate::db::error::DbError;
use crate::db::history::ExchangeStatus;
use crate::db::migrate;
use crate::db::usage::{self, HOUR_MS, Spent};

const PROVIDERS: [&str; 5] = ["qwen-web", "openrouter", "ollama", "dashscope", "groq"];
const MODELS: [&str; 8] = [
    "qwen3-max",
    "qwen3-coder",
    "gpt-4.1",
    "llama3:8b",
    "glm",
    "kimi",
    "o4",
    "phi",
];
/// Exchanges of a conversation.
const TURNS: i64 = 10;
/// The hours the exchanges are spread over: a month.
const HOURS: i64 = 720;

const SESSIONS: &str = "
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 / ?3)
    INSERT INTO sessions (id, chat_id, first_user_message, message_count, created_at, last_accessed, expires_at)
    SELECT printf('conversation-%08d', i), 'chat-' || i, 'question ' || i, 2 * ?3, ?2, ?2, ?2 FROM n";

const ROWS: &str = "
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
    INSERT INTO requests (request_id, session_id, timestamp, method, path, openai_request, model, stream, provider_id, status, created_at)
    SELECT printf('%08x', i), printf('conversation-%08d', i / ?3), ?2 + i * 2592, 'POST', '/v1/chat/completions',
           json_object('model', 'm', 'messages', json_array(json_object('role', 'user', 'content', 'question ' || i))),
           'model-' || (i % 8), i % 2, 'provider-' || (i % 5), CASE WHEN i % 50 = 0 THEN 'failed' ELSE 'completed' END,
           ?2 + i * 2592
      FROM n";

const ANSWERS: &str = "
    INSERT INTO responses (request_id, session_id, response_id, timestamp, openai_response, total_tokens, finish_reason, error,
                           provider_id, http_status, duration_ms, created_at)
    SELECT id, session_id, 'a' || request_id, timestamp, json_object('content', 'answer ' || id), 100, 'stop',
           CASE WHEN status = 'failed' THEN 'broken' END, provider_id, 200, id % 5000, timestamp
      FROM requests";

/// Fills the file at `path` with `count` exchanges that began at `from` (Unix ms), over a month.
pub(crate) fn fill(path: &Path, count: i64, from: i64) -> Result<(), DbError> {
    let mut conn = Connection::open(path)?;
    migrate::migrate(&mut conn, path, from)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = conn.transaction()?;
    transaction.execute(SESSIONS, (count, from, TURNS))?;
    transaction.execute(ROWS, (count, from, TURNS))?;
    transaction.execute(ANSWERS, [])?;
    for number in 0..count {
        let pick = |list: &[&'static str]| {
            let length = i64::try_from(list.len()).unwrap_or(1);
            let at = usize::try_from(number.rem_euclid(length)).unwrap_or_default();
            list.get(at).copied().unwrap_or_default()
        };
        let spent = Spent {
            provider: pick(&PROVIDERS),
            model: pick(&MODELS),
            finished_at: from + number * HOURS * HOUR_MS / count,
            status: ExchangeStatus::Completed,
            attempts: 1,
            prompt_tokens: Some(900),
            completion_tokens: Some(100),
            total_tokens: Some(1_000),
            cached_tokens: None,
            reasoning_tokens: None,
            cost_microusd: None,
            duration_ms: number * 7_919 % 60_000,
            ttft_ms: Some(number * 104_729 % 3_000),
        };
        let session = format!("conversation-{:08}", number / TURNS);
        usage::add_spent(&transaction, Some(&session), &spent)?;
    }
    transaction.commit()?;
    Ok(())
}
