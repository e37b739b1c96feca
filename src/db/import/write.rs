//! Rows of an import into our tables. What is there already stays as it is, so that everything may be written twice.

use rusqlite::{Connection, Params, named_params};

use crate::db::error::DbError;
use crate::db::history::ExchangeStatus;
use crate::db::import::report::Tally;
use crate::db::import::{
    ERRORS, ImportRows, LINKS, LinkRow, MODELS, OldError, OldRequest, OldResponse, OldSession,
    PROVIDERS, REQUESTS, RESPONSES, SESSIONS, SETTINGS,
};
use crate::db::models::ModelRow;
use crate::db::providers::{self, ConfigRow, ProviderRow};
use crate::db::settings::SettingRow;
use crate::db::usage::{self, Spent};
use crate::settings::ACTIVE_PROVIDER;

/// One of a first start that nobody touched gives way to the older program's of the same id.
const PROVIDER_KNOWN: &str = "
    SELECT 1 FROM providers WHERE id = ?1 AND NOT (origin = 'seed' AND updated_at = created_at)";
const REMOVE_SEED: &str = "DELETE FROM providers WHERE id = ?1";
const NAME_TAKEN: &str = "SELECT 1 FROM providers WHERE name = ?1";
const PROVIDER_DISABLED: &str = "SELECT 1 FROM providers WHERE id = ?1 AND enabled = 0";
const MODEL_KNOWN: &str = "SELECT 1 FROM models WHERE id = ?1";
const LINK_KNOWN: &str = "SELECT 1 FROM provider_models WHERE provider_id = ?1 AND model_id = ?2";
const SETTING_KNOWN: &str = "SELECT 1 FROM settings WHERE key = ?1";
const SESSION_KNOWN: &str = "SELECT 1 FROM sessions WHERE id = ?1";
const REQUEST_KNOWN: &str = "SELECT 1 FROM requests WHERE request_id = ?1";
const RESPONSE_KNOWN: &str = "SELECT 1 FROM responses WHERE response_id = ?1";
const ERROR_KNOWN: &str = "SELECT 1 FROM errors WHERE error_id = ?1";

const ADD_MODEL: &str = "
    INSERT INTO models (id, name, description, capabilities, created_at, updated_at)
    VALUES (:id, :name, :description, :capabilities, :created_at, :updated_at)";

/// The first default of a provider stays the only one.
const ADD_LINK: &str = "
    INSERT INTO provider_models (provider_id, model_id, is_default, config, created_at, updated_at)
    SELECT p.id, m.id,
           :is_default AND NOT EXISTS (SELECT 1 FROM provider_models WHERE provider_id = :provider_id AND is_default = 1),
           :config, :created_at, :updated_at
      FROM providers p, models m
     WHERE p.id = :provider_id AND m.id = :model_id";

const ADD_SETTING: &str = "INSERT INTO settings (key, value, updated_at) VALUES (?1, ?2, ?3)";

const ADD_SESSION: &str = "
    INSERT INTO sessions (id, chat_id, parent_id, first_user_message, message_count, user_id, conversation_hash,
                          created_at, last_accessed, expires_at)
    VALUES (:id, :chat_id, :parent_id, :first_user_message, :message_count, :user_id, :conversation_hash, :created_at,
            :last_accessed, :expires_at)";

/// Without an answer it was interrupted; the answer, which comes later, says otherwise.
const ADD_REQUEST: &str = "
    INSERT INTO requests (request_id, session_id, timestamp, method, path, openai_request, qwen_request, model, stream,
                          status, created_at)
    VALUES (:request_id, (SELECT id FROM sessions WHERE id = :session_id), :timestamp, :method, :path,
            :openai_request, :qwen_request, :model, :stream, 'interrupted', :created_at)";

const ADD_RESPONSE: &str = "
    INSERT INTO responses (request_id, session_id, response_id, timestamp, qwen_response, openai_response, parent_id,
                           prompt_tokens, completion_tokens, total_tokens, finish_reason, error, http_status,
                           duration_ms, created_at)
    SELECT id, session_id, :response_id, :timestamp,
           :qwen_response, :openai_response, :parent_id, :prompt_tokens, :completion_tokens, :total_tokens, :finish_reason, :error, :http_status,
           :duration_ms, :created_at
      FROM requests
     WHERE request_id = :request
        ON CONFLICT (request_id) DO NOTHING";

const SESSION_OF: &str = "SELECT session_id FROM requests WHERE request_id = ?1";

const SETTLE: &str = "UPDATE requests SET status = ?2 WHERE request_id = ?1";

const ADD_ERROR: &str = "
    INSERT INTO errors (error_id, timestamp, error_type, error_code, error_message, stack_trace, session_id, request_id,
                        endpoint, method, user_agent, request_payload, response_payload, severity, resolved, notes,
                        created_at)
    VALUES (:error_id, :timestamp, :error_type, :error_code, :error_message, :stack_trace,
            (SELECT id FROM sessions WHERE id = :session_id), (SELECT id FROM requests WHERE request_id = :request),
            :endpoint, :method, :user_agent, :request_payload, :response_payload, :severity, :resolved, :notes,
            :created_at)";

/// The older program kept no status: what its clients got for a failure, as a rule.
const FAILED: u16 = 500;
const SUCCEEDED: u16 = 200;

/// What became of one row.
enum Fate {
    Imported,
    Existing,
    Refused,
}

/// The table the rows come from.
pub(super) fn table(rows: &ImportRows) -> &'static str {
    match rows {
        ImportRows::Provider(..) => PROVIDERS,
        ImportRows::Models(_) => MODELS,
        ImportRows::Links(_) => LINKS,
        ImportRows::Settings(_) => SETTINGS,
        ImportRows::Sessions(_) => SESSIONS,
        ImportRows::Requests(_) => REQUESTS,
        ImportRows::Responses(_) => RESPONSES,
        ImportRows::Errors(_) => ERRORS,
    }
}

/// Why one of them is refused, should it be.
pub(super) fn refusal(rows: &ImportRows) -> &'static str {
    match rows {
        ImportRows::Links(_) => "its provider or its model is not there",
        ImportRows::Settings(_) => "`active_provider` must name an enabled provider",
        ImportRows::Responses(_) => "its request is not there, or has another answer",
        ImportRows::Provider(..)
        | ImportRows::Models(_)
        | ImportRows::Sessions(_)
        | ImportRows::Requests(_)
        | ImportRows::Errors(_) => "a value is outside what its column allows",
    }
}

/// Stores the rows that are not there.
pub(in crate::db) fn apply(conn: &Connection, rows: &ImportRows) -> Result<Tally, DbError> {
    match rows {
        ImportRows::Provider(provider, config) => {
            each(&[provider], |provider| add_provider(conn, provider, config))
        }
        ImportRows::Models(rows) => each(rows, |row| add_model(conn, row)),
        ImportRows::Links(rows) => each(rows, |row| add_link(conn, row)),
        ImportRows::Settings(rows) => each(rows, |row| add_setting(conn, row)),
        ImportRows::Sessions(rows) => each(rows, |row| add_session(conn, row)),
        ImportRows::Requests(rows) => each(rows, |row| add_request(conn, row)),
        ImportRows::Responses(rows) => each(rows, |row| add_response(conn, row)),
        ImportRows::Errors(rows) => each(rows, |row| add_error(conn, row)),
    }
}

/// What [`apply`] would do, as far as that can be told without doing it: that rows refer to rows which an import would
/// bring is taken for granted.
pub(crate) fn preview(conn: &Connection, rows: &ImportRows) -> Result<Tally, DbError> {
    let fate = |is_known: Result<bool, DbError>| {
        is_known.map(|known| {
            if known {
                Fate::Existing
            } else {
                Fate::Imported
            }
        })
    };
    let known = |sql: &str, id: &str| fate(is_there(conn, sql, [id]));
    match rows {
        ImportRows::Provider(provider, _) => {
            each(&[provider], |row| known(PROVIDER_KNOWN, &row.id))
        }
        ImportRows::Models(rows) => each(rows, |row| known(MODEL_KNOWN, &row.id)),
        ImportRows::Links(rows) => each(rows, |row| {
            fate(is_there(
                conn,
                LINK_KNOWN,
                (&row.provider_id, &row.model_id),
            ))
        }),
        ImportRows::Settings(rows) => each(rows, |row| {
            if is_unusable(conn, row, PROVIDER_DISABLED)? {
                return Ok(Fate::Refused);
            }
            known(SETTING_KNOWN, &row.key)
        }),
        ImportRows::Sessions(rows) => each(rows, |row| known(SESSION_KNOWN, &row.id)),
        ImportRows::Requests(rows) => each(rows, |row| known(REQUEST_KNOWN, &row.request_id)),
        ImportRows::Responses(rows) => each(rows, |row| known(RESPONSE_KNOWN, &row.response_id)),
        ImportRows::Errors(rows) => each(rows, |row| known(ERROR_KNOWN, &row.error_id)),
    }
}

/// A row that breaks a rule is refused alone.
fn each<T>(
    rows: &[T],
    mut write: impl FnMut(&T) -> Result<Fate, DbError>,
) -> Result<Tally, DbError> {
    let mut tally = Tally::default();
    for row in rows {
        match write(row) {
            Ok(Fate::Imported) => tally.imported += 1,
            Ok(Fate::Existing) => tally.existing += 1,
            Err(error) if error.is_storage() => return Err(error),
            Ok(Fate::Refused) | Err(_) => tally.refused += 1,
        }
    }
    Ok(tally)
}

fn is_there(conn: &Connection, sql: &str, key: impl Params) -> Result<bool, DbError> {
    Ok(conn.prepare_cached(sql)?.exists(key)?)
}

/// Whether one row was added.
fn added(count: usize) -> Fate {
    if count > 0 {
        Fate::Imported
    } else {
        Fate::Refused
    }
}

fn add_provider(
    conn: &Connection,
    provider: &ProviderRow,
    config: &[ConfigRow],
) -> Result<Fate, DbError> {
    if is_there(conn, PROVIDER_KNOWN, [&provider.id])? {
        return Ok(Fate::Existing);
    }
    conn.prepare_cached(REMOVE_SEED)?.execute([&provider.id])?;
    let named = ProviderRow {
        name: free_name(conn, &provider.name)?,
        ..provider.clone()
    };
    providers::insert(conn, &named, config)?;
    Ok(Fate::Imported)
}

fn free_name(conn: &Connection, name: &str) -> Result<String, DbError> {
    let mut candidate = name.to_owned();
    let mut number = 1_u32;
    while is_there(conn, NAME_TAKEN, [&candidate])? {
        candidate = match number {
            1 => format!("{name} (imported)"),
            _ => format!("{name} (imported {number})"),
        };
        number += 1;
    }
    Ok(candidate)
}

fn add_model(conn: &Connection, row: &ModelRow) -> Result<Fate, DbError> {
    if is_there(conn, MODEL_KNOWN, [&row.id])? {
        return Ok(Fate::Existing);
    }
    let count = conn.prepare_cached(ADD_MODEL)?.execute(named_params! {
        ":id": row.id,
        ":name": row.name,
        ":description": row.description,
        ":capabilities": serde_json::json!(row.capabilities).to_string(),
        ":created_at": row.created_at,
        ":updated_at": row.updated_at,
    })?;
    Ok(added(count))
}

fn add_link(conn: &Connection, row: &LinkRow) -> Result<Fate, DbError> {
    if is_there(conn, LINK_KNOWN, (&row.provider_id, &row.model_id))? {
        return Ok(Fate::Existing);
    }
    let count = conn.prepare_cached(ADD_LINK)?.execute(named_params! {
        ":provider_id": row.provider_id,
        ":model_id": row.model_id,
        ":is_default": row.is_default,
        ":config": row.config,
        ":created_at": row.created_at,
        ":updated_at": row.updated_at,
    })?;
    Ok(added(count))
}

fn add_setting(conn: &Connection, row: &SettingRow) -> Result<Fate, DbError> {
    if is_there(conn, SETTING_KNOWN, [&row.key])? {
        return Ok(Fate::Existing);
    }
    if is_unusable(conn, row, PROVIDER_DISABLED)?
        || (row.key == ACTIVE_PROVIDER && !names(conn, row, PROVIDER_KNOWN)?)
    {
        return Ok(Fate::Refused);
    }
    let count =
        conn.prepare_cached(ADD_SETTING)?
            .execute((&row.key, &row.value, row.updated_at))?;
    Ok(added(count))
}

/// Whether it makes a provider the active one that is known not to be usable.
fn is_unusable(conn: &Connection, row: &SettingRow, sql: &str) -> Result<bool, DbError> {
    Ok(row.key == ACTIVE_PROVIDER && names(conn, row, sql)?)
}

fn names(conn: &Connection, row: &SettingRow, sql: &str) -> Result<bool, DbError> {
    let id: String = serde_json::from_str(&row.value).unwrap_or_default();
    is_there(conn, sql, [id])
}

fn add_session(conn: &Connection, row: &OldSession) -> Result<Fate, DbError> {
    if is_there(conn, SESSION_KNOWN, [&row.id])? {
        return Ok(Fate::Existing);
    }
    let count = conn.prepare_cached(ADD_SESSION)?.execute(named_params! {
        ":id": row.id,
        ":chat_id": row.chat_id,
        ":parent_id": row.parent_id,
        ":first_user_message": row.first_user_message,
        ":message_count": row.message_count,
        ":user_id": row.user_id,
        ":conversation_hash": row.conversation_hash,
        ":created_at": row.created_at,
        ":last_accessed": row.last_accessed,
        ":expires_at": row.expires_at,
    })?;
    Ok(added(count))
}

fn add_request(conn: &Connection, row: &OldRequest) -> Result<Fate, DbError> {
    if is_there(conn, REQUEST_KNOWN, [&row.request_id])? {
        return Ok(Fate::Existing);
    }
    let count = conn.prepare_cached(ADD_REQUEST)?.execute(named_params! {
        ":request_id": row.request_id,
        ":session_id": row.session_id,
        ":timestamp": row.timestamp,
        ":method": row.method,
        ":path": row.path,
        ":openai_request": row.openai_request,
        ":qwen_request": row.qwen_request,
        ":model": row.model,
        ":stream": row.stream,
        ":created_at": row.created_at,
    })?;
    Ok(added(count))
}

/// The usage is added with the row, in the same transaction, so once.
fn add_response(conn: &Connection, row: &OldResponse) -> Result<Fate, DbError> {
    if is_there(conn, RESPONSE_KNOWN, [&row.response_id])? {
        return Ok(Fate::Existing);
    }
    let (status, http_status) = if row.error.is_some() {
        (ExchangeStatus::Failed, FAILED)
    } else {
        (ExchangeStatus::Completed, SUCCEEDED)
    };
    let count = conn.prepare_cached(ADD_RESPONSE)?.execute(named_params! {
        ":request": row.request,
        ":response_id": row.response_id,
        ":timestamp": row.timestamp,
        ":qwen_response": row.qwen_response,
        ":openai_response": row.openai_response,
        ":parent_id": row.parent_id,
        ":prompt_tokens": row.prompt_tokens,
        ":completion_tokens": row.completion_tokens,
        ":total_tokens": row.total_tokens,
        ":finish_reason": row.finish_reason,
        ":error": row.error,
        ":http_status": http_status,
        ":duration_ms": row.duration_ms,
        ":created_at": row.created_at,
    })?;
    if count == 0 {
        return Ok(Fate::Refused);
    }
    conn.prepare_cached(SETTLE)?
        .execute((&row.request, status.as_str()))?;
    let spent = Spent {
        // Not kept by the older program.
        provider: "",
        // A name that was answered is a model's; one that failed may be made up.
        model: if row.error.is_some() { "" } else { &row.model },
        finished_at: row.timestamp,
        status,
        attempts: 0,
        prompt_tokens: row.prompt_tokens,
        completion_tokens: row.completion_tokens,
        total_tokens: row.total_tokens,
        cached_tokens: None,
        reasoning_tokens: None,
        cost_microusd: None,
        duration_ms: row.duration_ms,
        ttft_ms: None,
    };
    let session: Option<String> = conn
        .prepare_cached(SESSION_OF)?
        .query_row([&row.request], |row| row.get(0))?;
    usage::add_spent(conn, session.as_deref(), &spent)?;
    Ok(Fate::Imported)
}

fn add_error(conn: &Connection, row: &OldError) -> Result<Fate, DbError> {
    if is_there(conn, ERROR_KNOWN, [&row.error_id])? {
        return Ok(Fate::Existing);
    }
    let count = conn.prepare_cached(ADD_ERROR)?.execute(named_params! {
        ":error_id": row.error_id,
        ":timestamp": row.timestamp,
        ":error_type": row.error_type,
        ":error_code": row.error_code,
        ":error_message": row.error_message,
        ":stack_trace": row.stack_trace,
        ":session_id": row.session_id,
        ":request": row.request,
        ":endpoint": row.endpoint,
        ":method": row.method,
        ":user_agent": row.user_agent,
        ":request_payload": row.request_payload,
        ":response_payload": row.response_payload,
        ":severity": row.severity,
        ":resolved": row.resolved,
        ":notes": row.notes,
        ":created_at": row.created_at,
    })?;
    Ok(added(count))
}
