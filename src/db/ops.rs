//! Write operations: plain data that can wait in a queue, and be applied twice with the effect of once.

use std::fmt;
use std::sync::Arc;

use rusqlite::Connection;

use crate::db::activity::{self, ActivityRow, ActorEventRow};
use crate::db::audit::{self, AuditRow};
use crate::db::body::Body;
use crate::db::cache::{self, CacheRow};
use crate::db::credentials::{self, CredentialRow};
use crate::db::days::{self, ClosedDay};
use crate::db::error::DbError;
use crate::db::history::words::{self, WordsRow};
use crate::db::history::{self, OutcomeRow, RequestRow};
use crate::db::idempotency::{self, KeptAnswer};
use crate::db::import::report::Tally;
use crate::db::import::{self, ImportChunk};
use crate::db::keys::{self, KeyRow};
use crate::db::models::{self, ModelChange, ModelRow, NewLink};
use crate::db::providers::{self, ConfigRow, ProviderChange, ProviderRow};
use crate::db::recordings::Packed;
use crate::db::retention::{self, Outlived};
use crate::db::salvage::{self, Piece};
use crate::db::sessions::{self, TurnRow};
use crate::db::unwanted::{self, Removed, Unwanted};
use crate::db::virtual_models::{self, VirtualRow};
use crate::db::{json, operations, settings};

/// One write. Times are Unix ms; an `operation` is an id that the caller makes for this one intent.
pub(crate) enum WriteOp {
    /// The request row, before an upstream is called.
    BeginExchange(Arc<RequestRow>),
    /// How it ended, with the request row again in case that was shed. Counts for the usage once.
    FinishExchange {
        request: Arc<RequestRow>,
        outcome: Box<OutcomeRow>,
    },
    /// Exchanges that began before `before` and did not end were interrupted.
    InterruptUnfinished {
        before: i64,
    },
    CreateProvider {
        provider: ProviderRow,
        config: Vec<ConfigRow>,
        operation: String,
    },
    ChangeProvider(Box<ProviderChange>),
    DeleteProvider {
        id: String,
        operation: String,
    },
    CreateModel {
        model: ModelRow,
        operation: String,
    },
    ChangeModel(ModelChange),
    /// With its links.
    DeleteModel {
        id: String,
        operation: String,
    },
    LinkModel {
        link: NewLink,
        operation: String,
    },
    UnlinkModel {
        provider: String,
        model: String,
        operation: String,
    },
    SetDefaultModel {
        provider: String,
        model: String,
        at: i64,
    },
    /// What a provider lists; adds what is not known yet.
    OfferModels {
        provider: String,
        models: Vec<String>,
        at: i64,
        operation: String,
    },
    CreateVirtual {
        row: VirtualRow,
        operation: String,
    },
    /// The row as a whole, in place of the virtual model `name`.
    ChangeVirtual {
        name: String,
        row: VirtualRow,
        operation: String,
    },
    DeleteVirtual {
        name: String,
        operation: String,
    },
    /// The answer to a management request that carried an `Idempotency-Key`.
    RememberAnswer(KeptAnswer),
    /// One exchange of the history, its answer and its attempts.
    DeleteRequest {
        request_id: String,
    },
    /// The answer of an exchange.
    DeleteResponse {
        response_id: String,
    },
    /// The providers of a first start; does nothing when there are any.
    SeedProviders(Vec<(ProviderRow, Vec<ConfigRow>)>),
    /// Its local server answered: a provider that waited for that becomes enabled.
    ProviderSeen {
        id: String,
        at: i64,
    },
    /// `value` is JSON text.
    PutSetting {
        key: String,
        value: String,
        at: i64,
    },
    DeleteSetting {
        key: String,
    },
    RecordActivity(ActivityRow),
    RecordActorEvent(ActorEventRow),
    RecordAudit(AuditRow),
    /// A login, in place of the one with its id.
    PutCredential(Box<CredentialRow>),
    /// What the site made of a login.
    JudgeCredential(Box<CredentialRow>),
    /// One login. Its conversations are not found any more, since no login has their account.
    DeleteCredential {
        label: String,
    },
    /// Every login, and with them the conversations.
    DeleteCredentials {
        at: i64,
    },
    /// An answer that a conversation can go on from.
    RecordTurn(Box<TurnRow>),
    /// Turns of conversations that ended by then.
    PruneTurns {
        before: i64,
    },
    /// The chat is gone upstream: nothing goes on from it.
    ForgetChat {
        chat_id: String,
    },
    /// A value of a provider's configuration that stood in the open.
    SealConfig {
        provider: String,
        plain: ConfigRow,
        sealed: ConfigRow,
    },
    /// A client's key, in place of the one with its id.
    PutKey(Box<KeyRow>),
    DeleteKey {
        id: String,
    },
    /// A client's key was used.
    KeyUsed {
        id: String,
        at: i64,
    },
    /// Rows of an older program's database; those that are there stay as they are.
    Import(Arc<ImportChunk>),
    /// Some of what the history has outlived, so much of it that nobody waits.
    Retain {
        what: Outlived,
        most: u32,
    },
    /// The sums of a day that is over.
    CloseDay(Box<ClosedDay>),
    /// Words of exchanges that have none in the index.
    AddWords(Vec<WordsRow>),
    /// An answer that can be given again.
    KeepAnswer(Box<CacheRow>),
    /// Some of what somebody wants to be gone, so much of it that nobody else waits.
    Discard {
        what: Unwanted,
        most: u32,
    },
    /// Rows of a database that was set aside.
    Salvage(Arc<Piece>),
    /// Kills the thread of the writing connection.
    #[cfg(feature = "fault-injection")]
    Panic,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Done,
    /// That many rows were changed.
    Rows(usize),
    /// That many models and links are new.
    Offered {
        models: usize,
        links: usize,
    },
    /// What became of the rows of an import.
    Imported(Tally),
    /// What a piece came to.
    Removed(Removed),
}

impl WriteOp {
    /// Whether somebody was promised that it is on the disk (R1). The rest is history.
    pub(crate) fn is_management(&self) -> bool {
        !matches!(
            self,
            Self::BeginExchange(_)
                | Self::FinishExchange { .. }
                | Self::InterruptUnfinished { .. }
                | Self::RecordActivity(_)
                | Self::RecordActorEvent(_)
                | Self::RecordTurn(_)
                | Self::ForgetChat { .. }
                | Self::PruneTurns { .. }
                | Self::Retain { .. }
                | Self::CloseDay(_)
                | Self::AddWords(_)
                | Self::KeepAnswer(_)
                | Self::KeyUsed { .. }
                | Self::Salvage(_)
        )
    }

    /// Whether it adds words to the index.
    pub(super) fn has_words(&self) -> bool {
        self.is_indexed() || matches!(self, Self::AddWords(rows) if !rows.is_empty())
    }

    /// Whether [`WriteOp::said`] tells something.
    pub(super) fn is_indexed(&self) -> bool {
        matches!(self, Self::FinishExchange { outcome, .. } if outcome.words.is_some())
    }

    /// Whether it may change what the snapshot beside the database keeps (`db::snapshot`).
    pub(crate) fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::CreateProvider { .. }
                | Self::ChangeProvider(_)
                | Self::DeleteProvider { .. }
                | Self::SeedProviders(_)
                | Self::ProviderSeen { .. }
                | Self::SealConfig { .. }
                | Self::CreateModel { .. }
                | Self::ChangeModel(_)
                | Self::DeleteModel { .. }
                | Self::LinkModel { .. }
                | Self::UnlinkModel { .. }
                | Self::SetDefaultModel { .. }
                | Self::OfferModels { .. }
                | Self::CreateVirtual { .. }
                | Self::ChangeVirtual { .. }
                | Self::DeleteVirtual { .. }
                | Self::PutSetting { .. }
                | Self::DeleteSetting { .. }
                | Self::PutCredential(_)
                | Self::JudgeCredential(_)
                | Self::DeleteCredential { .. }
                | Self::DeleteCredentials { .. }
                | Self::PutKey(_)
                | Self::DeleteKey { .. }
                | Self::Import(_)
        )
    }

    /// About how many bytes it holds in memory.
    pub(crate) fn weight(&self) -> usize {
        let inside = match self {
            Self::BeginExchange(request) => request_weight(request),
            Self::FinishExchange { request, outcome } => {
                request_weight(request) + outcome_weight(outcome)
            }
            Self::CreateProvider {
                provider, config, ..
            } => provider_weight(provider, config),
            Self::ChangeProvider(change) => change
                .put
                .iter()
                .map(|row| row.key.len() + json::weight(&row.value))
                .sum(),
            Self::SeedProviders(seeds) => seeds
                .iter()
                .map(|(provider, config)| provider_weight(provider, config))
                .sum(),
            Self::PutSetting { key, value, .. } => key.len() + value.len(),
            Self::RecordActivity(row) => row.description.len() + json::weight(&row.metadata),
            Self::RecordActorEvent(row) => length(row.reason.as_ref()),
            Self::RecordAudit(row) => [&row.before, &row.after]
                .into_iter()
                .flatten()
                .map(json::weight)
                .sum(),
            Self::KeepAnswer(row) => row.body.len() + row.usage.as_ref().map_or(0, json::weight),
            Self::InterruptUnfinished { .. }
            | Self::Discard { .. }
            | Self::DeleteProvider { .. }
            | Self::ProviderSeen { .. }
            | Self::DeleteCredential { .. }
            | Self::DeleteCredentials { .. }
            | Self::ForgetChat { .. }
            | Self::PruneTurns { .. }
            | Self::DeleteKey { .. }
            | Self::KeyUsed { .. }
            | Self::DeleteSetting { .. }
            | Self::DeleteModel { .. }
            | Self::UnlinkModel { .. }
            | Self::DeleteVirtual { .. }
            | Self::SetDefaultModel { .. }
            | Self::DeleteRequest { .. }
            | Self::DeleteResponse { .. }
            | Self::Retain { .. } => 0,
            Self::CreateModel { model, .. } => {
                length(model.description.as_ref()) + model.name.len() + strings(&model.capabilities)
            }
            Self::ChangeModel(change) => {
                length(change.description.value())
                    + change.capabilities.as_ref().map_or(0, |list| strings(list))
            }
            Self::LinkModel { link, .. } => link.config.as_ref().map_or(0, json::weight),
            Self::OfferModels { models, .. } => strings(models),
            Self::CreateVirtual { row, .. } | Self::ChangeVirtual { row, .. } => {
                virtual_weight(row)
            }
            Self::RememberAnswer(answer) => answer.body.len(),
            Self::PutCredential(row) | Self::JudgeCredential(row) => {
                [&row.token, &row.cookies, &row.headers]
                    .into_iter()
                    .flatten()
                    .map(Vec::len)
                    .sum()
            }
            Self::RecordTurn(row) => row.first_user_message.len(),
            Self::SealConfig { plain, sealed, .. } => {
                json::weight(&plain.value) + json::weight(&sealed.value)
            }
            Self::PutKey(row) => row.allowed_models.as_ref().map_or(0, |list| strings(list)),
            Self::Import(chunk) => chunk.bytes,
            Self::CloseDay(closed) => closed.weight(),
            Self::Salvage(piece) => piece.bytes,
            Self::AddWords(rows) => rows
                .iter()
                .map(|row| 64 + row.prompt.len() + row.answer.len())
                .sum(),
            #[cfg(feature = "fault-injection")]
            Self::Panic => 0,
        };
        // What is left out above is short: ids, names, the queue's own entry.
        256 + inside
    }

    /// What it tells the index of words, once all that its transaction stores is there: the index makes a part of what comes in
    /// one go, by rising numbers.
    pub(super) fn said(&self, conn: &Connection) -> Result<Option<(i64, &str, &str)>, DbError> {
        match self {
            Self::FinishExchange { request, outcome } => history::said(conn, request, outcome),
            _ => Ok(None),
        }
    }

    /// Carries it out, but for [`WriteOp::said`]. Without effect when it was carried out before.
    pub(crate) fn apply(&self, conn: &Connection) -> Result<Written, DbError> {
        match self {
            Self::BeginExchange(request) => history::begin(conn, request).map(done),
            Self::FinishExchange { request, outcome } => {
                history::settle(conn, request, outcome).map(stored)
            }
            Self::InterruptUnfinished { before } => {
                history::interrupt(conn, *before).map(Written::Rows)
            }
            Self::CreateProvider {
                provider,
                config,
                operation,
            } => once(conn, operation, || {
                providers::insert(conn, provider, config)
            }),
            Self::ChangeProvider(change) => providers::change(conn, change).map(done),
            Self::DeleteProvider { id, operation } => {
                once(conn, operation, || providers::delete(conn, id))
            }
            Self::CreateModel { model, operation } => {
                once(conn, operation, || models::insert(conn, model))
            }
            Self::ChangeModel(change) => models::change(conn, change).map(done),
            Self::DeleteModel { id, operation } => {
                once(conn, operation, || models::delete(conn, id))
            }
            Self::LinkModel { link, operation } => {
                once(conn, operation, || models::link(conn, link))
            }
            Self::UnlinkModel {
                provider,
                model,
                operation,
            } => once(conn, operation, || models::unlink(conn, provider, model)),
            Self::SetDefaultModel {
                provider,
                model,
                at,
            } => models::set_default(conn, provider, model, *at).map(done),
            Self::OfferModels {
                provider,
                models,
                at,
                operation,
            } => {
                let (mut new, mut links) = (0, 0);
                if operations::is_new(conn, operation)? {
                    (new, links) = models::offered(conn, provider, models, *at)?;
                }
                Ok(Written::Offered { models: new, links })
            }
            Self::CreateVirtual { row, operation } => {
                once(conn, operation, || virtual_models::insert(conn, row))
            }
            Self::ChangeVirtual {
                name,
                row,
                operation,
            } => once(conn, operation, || virtual_models::change(conn, name, row)),
            Self::DeleteVirtual { name, operation } => {
                once(conn, operation, || virtual_models::delete(conn, name))
            }
            Self::RememberAnswer(answer) => idempotency::put(conn, answer).map(done),
            Self::DeleteRequest { request_id } => {
                history::delete_request(conn, request_id).map(Written::Rows)
            }
            Self::DeleteResponse { response_id } => {
                history::delete_response(conn, response_id).map(Written::Rows)
            }
            Self::SeedProviders(seeds) => providers::seed(conn, seeds).map(Written::Rows),
            Self::ProviderSeen { id, at } => providers::seen(conn, id, *at).map(Written::Rows),
            Self::PutSetting { key, value, at } => settings::put(conn, key, value, *at).map(done),
            Self::DeleteSetting { key } => settings::delete(conn, key).map(Written::Rows),
            Self::RecordActivity(row) => activity::insert(conn, row).map(done),
            Self::RecordActorEvent(row) => activity::insert_actor_event(conn, row).map(done),
            Self::RecordAudit(row) => audit::insert(conn, row).map(done),
            Self::PutCredential(row) => credentials::put(conn, row).map(done),
            Self::JudgeCredential(row) => credentials::judge(conn, row).map(Written::Rows),
            Self::DeleteCredential { label } => credentials::delete(conn, label).map(Written::Rows),
            Self::DeleteCredentials { at } => {
                sessions::end_all(conn, *at)?;
                credentials::delete_all(conn).map(Written::Rows)
            }
            Self::RecordTurn(row) => sessions::record_turn(conn, row).map(done),
            Self::PruneTurns { before } => sessions::prune_turns(conn, *before).map(Written::Rows),
            Self::ForgetChat { chat_id } => sessions::forget_chat(conn, chat_id).map(Written::Rows),
            Self::SealConfig {
                provider,
                plain,
                sealed,
            } => providers::seal_config(conn, provider, plain, sealed).map(Written::Rows),
            Self::PutKey(row) => keys::put(conn, row).map(done),
            Self::DeleteKey { id } => keys::delete(conn, id).map(Written::Rows),
            Self::KeyUsed { id, at } => keys::used(conn, id, *at).map(Written::Rows),
            Self::Import(chunk) => import::write::apply(conn, &chunk.rows).map(Written::Imported),
            Self::Retain { what, most } => retention::remove(conn, *what, *most).map(Written::Rows),
            Self::CloseDay(closed) => days::close(conn, closed).map(Written::Rows),
            Self::AddWords(rows) => words::add(conn, rows).map(Written::Rows),
            Self::KeepAnswer(row) => cache::put(conn, row).map(done),
            Self::Discard { what, most } => {
                unwanted::remove(conn, what, *most).map(Written::Removed)
            }
            Self::Salvage(piece) => salvage::apply(conn, piece).map(Written::Rows),
            #[cfg(feature = "fault-injection")]
            #[expect(clippy::panic, reason = "its purpose, in tests alone")]
            Self::Panic => panic!("a write that crashes on purpose"),
        }
    }

    /// What kind of write it is, for people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::BeginExchange(_) => "begin exchange",
            Self::FinishExchange { .. } => "finish exchange",
            Self::InterruptUnfinished { .. } => "interrupt unfinished",
            Self::CreateProvider { .. } => "create provider",
            Self::ChangeProvider(_) => "change provider",
            Self::DeleteProvider { .. } => "delete provider",
            Self::SeedProviders(_) => "seed providers",
            Self::CreateModel { .. } => "create model",
            Self::ChangeModel(_) => "change model",
            Self::DeleteModel { .. } => "delete model",
            Self::LinkModel { .. } => "link model",
            Self::UnlinkModel { .. } => "unlink model",
            Self::SetDefaultModel { .. } => "set default model",
            Self::OfferModels { .. } => "offer models",
            Self::CreateVirtual { .. } => "create virtual model",
            Self::ChangeVirtual { .. } => "change virtual model",
            Self::DeleteVirtual { .. } => "delete virtual model",
            Self::RememberAnswer(_) => "remember answer",
            Self::DeleteRequest { .. } => "delete request",
            Self::DeleteResponse { .. } => "delete response",
            Self::ProviderSeen { .. } => "provider seen",
            Self::PutSetting { .. } => "put setting",
            Self::DeleteSetting { .. } => "delete setting",
            Self::RecordActivity(_) => "record activity",
            Self::RecordActorEvent(_) => "record actor event",
            Self::RecordAudit(_) => "record audit",
            Self::PutCredential(_) => "put credential",
            Self::JudgeCredential(_) => "judge credential",
            Self::DeleteCredential { .. } => "delete credential",
            Self::DeleteCredentials { .. } => "delete credentials",
            Self::RecordTurn(_) => "record turn",
            Self::PruneTurns { .. } => "prune turns",
            Self::ForgetChat { .. } => "forget chat",
            Self::SealConfig { .. } => "seal config",
            Self::PutKey(_) => "put key",
            Self::DeleteKey { .. } => "delete key",
            Self::KeyUsed { .. } => "key used",
            Self::Import(_) => "import",
            Self::Retain { .. } => "retain",
            Self::CloseDay(_) => "close day",
            Self::AddWords(_) => "add words",
            Self::KeepAnswer(_) => "keep answer",
            Self::Discard { .. } => "discard",
            Self::Salvage(_) => "salvage",
            #[cfg(feature = "fault-injection")]
            Self::Panic => "panic",
        }
    }
}

/// Its name alone: most of them carry bodies or secrets.
impl fmt::Debug for WriteOp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

fn done((): ()) -> Written {
    Written::Done
}

fn stored(is_new: bool) -> Written {
    Written::Rows(is_new.into())
}

fn once(
    conn: &Connection,
    operation: &str,
    write: impl FnOnce() -> Result<(), DbError>,
) -> Result<Written, DbError> {
    if operations::is_new(conn, operation)? {
        write()?;
    }
    Ok(Written::Done)
}

fn request_weight(request: &RequestRow) -> usize {
    request.openai_request.len()
        + request.words.len()
        + length(request.user_agent.as_ref())
        + request.model.len()
        + request.path.len()
}

fn outcome_weight(outcome: &OutcomeRow) -> usize {
    let attempts: usize = outcome
        .attempts
        .iter()
        .map(|attempt| 128 + length(attempt.error.as_ref()))
        .sum();
    outcome.openai_response.as_ref().map_or(0, Body::len)
        + length(outcome.words.as_ref())
        + length(outcome.error.as_ref())
        + outcome.recording.as_ref().map_or(0, Packed::len)
        + attempts
}

fn provider_weight(provider: &ProviderRow, config: &[ConfigRow]) -> usize {
    let config: usize = config
        .iter()
        .map(|row| row.key.len() + json::weight(&row.value))
        .sum();
    length(provider.description.as_ref()) + config
}

fn virtual_weight(row: &VirtualRow) -> usize {
    let targets = row.model.targets.iter();
    let targets: usize = targets
        .map(|target| size_of_val(target) + target.target.len())
        .sum();
    length(row.description.as_ref()) + targets
}

fn strings(list: &[String]) -> usize {
    list.iter()
        .map(|text| size_of::<String>() + text.len())
        .sum()
}

fn length(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

#[cfg(test)]
mod tests;
