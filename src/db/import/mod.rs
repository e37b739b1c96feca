//! The import of an older program's database, `provider-router.db`: all that it kept, into ours.
//!
//! [`source::Source`] opens the file without writing to it and gives it out in chunks, its damages mended; [`write`]
//! stores a chunk, and leaves alone what is there already. So an import that broke off is simply made again.

mod cells;
mod read;
pub(crate) mod report;
mod rows;
pub(crate) mod source;
pub(crate) mod write;

use secrecy::SecretString;

use crate::db::body::Body;
use crate::db::models::ModelRow;
use crate::db::providers::{ConfigRow, ProviderRow};
use crate::db::settings::SettingRow;

/// Table names of the older program, as the report says them.
pub(super) const PROVIDERS: &str = "providers";
pub(super) const CONFIGS: &str = "provider_configs";
pub(super) const MODELS: &str = "models";
pub(super) const LINKS: &str = "provider_models";
pub(super) const SETTINGS: &str = "settings";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const REQUESTS: &str = "requests";
pub(super) const RESPONSES: &str = "responses";
pub(super) const ERRORS: &str = "errors";
pub(super) const LOGINS: &str = "qwen_credentials";
/// Of its first layout, from before requests and answers had tables of their own.
pub(super) const OLDEST_LOG: &str = "request_logs";

/// A part of the file.
pub(crate) struct Piece {
    pub(crate) table: &'static str,
    /// Rows of the file that it was made from.
    pub(crate) found: u64,
    /// How many of them cannot be used, and why, for the first of them.
    pub(crate) skipped: u64,
    pub(crate) reasons: Vec<String>,
    pub(crate) content: Content,
}

/// What is to be done with a part of the file.
pub(crate) enum Content {
    Nothing,
    /// To be stored.
    Rows(ImportChunk),
    /// To be sealed before it is stored.
    Login(OldLogin),
}

/// The login at Qwen that the older program used. Has no `Debug`: it carries secrets.
pub(crate) struct OldLogin {
    pub(crate) token: SecretString,
    pub(crate) cookies: SecretString,
    /// Unix time, ms.
    pub(crate) expires_at: Option<i64>,
}

/// Rows for one transaction.
pub(crate) struct ImportChunk {
    pub(crate) rows: ImportRows,
    /// About how many bytes they hold.
    pub(crate) bytes: usize,
}

/// Rows of one table, in our form. Times are Unix ms.
pub(crate) enum ImportRows {
    /// One at a time, with its configuration: no request may see it without.
    Provider(Box<ProviderRow>, Vec<ConfigRow>),
    Models(Vec<ModelRow>),
    Links(Vec<LinkRow>),
    Settings(Vec<SettingRow>),
    Sessions(Vec<OldSession>),
    Requests(Vec<OldRequest>),
    Responses(Vec<OldResponse>),
    Errors(Vec<OldError>),
}

/// A model that a provider offers.
pub(crate) struct LinkRow {
    pub(crate) provider_id: String,
    pub(crate) model_id: String,
    /// Counts for the first one of a provider only.
    pub(crate) is_default: bool,
    /// JSON text.
    pub(crate) config: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

/// A conversation, for the history: nothing goes on from it.
pub(crate) struct OldSession {
    pub(crate) id: String,
    pub(crate) chat_id: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) first_user_message: String,
    pub(crate) message_count: i64,
    pub(crate) user_id: Option<String>,
    pub(crate) conversation_hash: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) last_accessed: i64,
    pub(crate) expires_at: i64,
}

/// What a client asked.
pub(crate) struct OldRequest {
    pub(crate) request_id: String,
    pub(crate) session_id: Option<String>,
    pub(crate) timestamp: i64,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) openai_request: Body,
    pub(crate) qwen_request: Option<Body>,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) created_at: i64,
}

/// What it was answered.
pub(crate) struct OldResponse {
    pub(crate) response_id: String,
    /// The UUID of what was asked.
    pub(crate) request: String,
    pub(crate) timestamp: i64,
    pub(crate) qwen_response: Option<Body>,
    pub(crate) openai_response: Option<Body>,
    pub(crate) parent_id: Option<String>,
    pub(crate) prompt_tokens: Option<i64>,
    pub(crate) completion_tokens: Option<i64>,
    pub(crate) total_tokens: Option<i64>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) duration_ms: i64,
    pub(crate) created_at: i64,
    /// What was asked for, for the usage.
    pub(crate) model: String,
}

/// A failure that was written down.
pub(crate) struct OldError {
    pub(crate) error_id: String,
    pub(crate) timestamp: i64,
    pub(crate) error_type: String,
    pub(crate) error_code: Option<String>,
    pub(crate) error_message: String,
    pub(crate) stack_trace: Option<String>,
    pub(crate) session_id: Option<String>,
    /// The UUID of the request it belongs to.
    pub(crate) request: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) request_payload: Option<String>,
    pub(crate) response_payload: Option<String>,
    pub(crate) severity: &'static str,
    pub(crate) resolved: bool,
    pub(crate) notes: Option<String>,
    pub(crate) created_at: i64,
}

#[cfg(test)]
mod tests;
