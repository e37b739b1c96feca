//! The Qwen logins: which one a request may use, and what became of each.
//!
//! Owns: the logins, opened, in memory. Durable: table `credentials`, sealed, read again at each start. A crash loses:
//! nothing; what was learned of a login (rejected, challenged, resting) is stored when it is learned. Never waits for:
//! the network or the database, tasks report back.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::{Database, StoreError};
use crate::actors::events::Events;
use crate::actors::supervisor::ChildSpec;
use crate::clock::now_ms;
use crate::db::credentials::{self, CredentialRow};
use crate::db::ops::WriteOp;
use crate::limits::actors::{CREDENTIALS_DEADLINE, CREDENTIALS_MAILBOX, LOGINS_LOOKED};
use crate::providers::qwen::Login;
use crate::secrets::Vault;
use crate::tasks::{Owned, Tasks};

/// A login that ends within this is told of in time.
const EXPIRING: i64 = 24 * 60 * 60 * 1_000;
/// A login that was taken lately is not stored again as taken.
const VERIFIED: i64 = 60 * 60 * 1_000;

/// Where a login stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoginState {
    Valid,
    /// Ends within a day.
    Expiring,
    Expired,
    /// The site refused it.
    Rejected,
    /// The site wants a person to pass a check.
    Challenged,
}

impl LoginState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Challenged => "challenged",
        }
    }

    pub(crate) fn is_usable(self) -> bool {
        matches!(self, Self::Valid | Self::Expiring)
    }
}

/// A login as it may be shown: never a secret.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) state: LoginState,
    /// Unix time, ms.
    pub(crate) expires_at: Option<i64>,
    pub(crate) limited_until: Option<i64>,
    /// When the site last took it.
    pub(crate) last_verified_at: Option<i64>,
    pub(crate) last_error: Option<String>,
    pub(crate) token_preview: String,
    pub(crate) cookie_names: Vec<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) source: &'static str,
}

/// Why no login can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLogin {
    #[error("Qwen credentials not configured")]
    Missing,
    #[error("every stored Qwen login is {}", .0.as_str())]
    Unusable(LoginState),
    #[error("every Qwen login is over its limit")]
    Limited { retry_after: Duration },
}

/// What the site made of a login.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Rejected,
    Challenged,
    /// Rests until then (Unix time, ms).
    Limited(i64),
    Fine,
    /// The user asked, and it took it: what was held against it before is over.
    Verified,
}

/// How the rest of the gateway asks for logins.
#[derive(Clone)]
pub(crate) struct Credentials {
    address: Address<Message>,
    database: Database,
    vault: Vault,
}

impl Credentials {
    /// The logins a request may use, the least recently limited first.
    pub(crate) async fn usable(&self) -> Result<Result<Vec<Arc<Login>>, NoLogin>, Unavailable> {
        self.address
            .call(CREDENTIALS_DEADLINE, Message::Usable)
            .await
    }

    /// All logins, the oldest first.
    pub(crate) async fn all(&self) -> Result<Vec<Shown>, Unavailable> {
        self.address.call(CREDENTIALS_DEADLINE, Message::All).await
    }

    /// The login of this label, whatever became of it.
    pub(crate) async fn find(&self, label: &str) -> Result<Option<Arc<Login>>, Unavailable> {
        self.address
            .call(CREDENTIALS_DEADLINE, |reply| {
                Message::Find(label.to_owned(), reply)
            })
            .await
    }

    /// Stores a login in place of those with the same label; in force when this returns. `verified`: the site takes it.
    pub(crate) async fn store(
        &self,
        login: Login,
        expires_at: Option<i64>,
        verified: bool,
    ) -> Result<(), StoreError> {
        let now = now_ms();
        let mut row = seal(&self.vault, &login, expires_at, now)?;
        row.last_verified_at = verified.then_some(now);
        self.database
            .write(WriteOp::PutCredential(Box::new(row)))
            .await?;
        self.reload().await
    }

    /// Deletes every stored login; returns how many there were.
    pub(crate) async fn clear(&self) -> Result<usize, StoreError> {
        let stored = self
            .all()
            .await?
            .iter()
            .filter(|login| login.source == "database")
            .count();
        let at = now_ms();
        self.database
            .write(WriteOp::DeleteCredentials { at })
            .await?;
        self.reload().await?;
        Ok(stored)
    }

    /// Deletes the stored login of this label; returns how many there were.
    pub(crate) async fn delete(&self, label: &str) -> Result<usize, StoreError> {
        let all = self.all().await?;
        let mut stored = all.iter().filter(|login| login.source == "database");
        if !stored.any(|login| login.label == label) {
            return Ok(0);
        }
        let label = label.to_owned();
        self.database
            .write(WriteOp::DeleteCredential { label })
            .await?;
        self.reload().await?;
        Ok(1)
    }

    /// Tells what the site made of a login. The first verdict of a kind counts, further ones change nothing (R26).
    pub(crate) fn judge(&self, login: &Arc<Login>, verdict: Verdict) {
        let _ = self.address.cast(Message::Judged {
            login: login.clone(),
            verdict,
        });
    }

    async fn reload(&self) -> Result<(), StoreError> {
        self.address
            .call(CREDENTIALS_DEADLINE, Message::Reload)
            .await?
    }
}

/// What every incarnation is made from.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) database: Database,
    pub(crate) events: Events,
    pub(crate) vault: Vault,
    /// The login of the environment, used when none is stored.
    pub(crate) fallback: Option<Arc<Login>>,
    pub(crate) tasks: Tasks,
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(arguments: Arguments) -> (ChildSpec, Credentials) {
    let (database, vault) = (arguments.database.clone(), arguments.vault.clone());
    let (spec, address) =
        ChildSpec::new::<CredentialsActor>("credentials", CREDENTIALS_MAILBOX, arguments);
    (
        spec,
        Credentials {
            address,
            database,
            vault,
        },
    )
}

pub(crate) enum Message {
    Usable(Reply<Result<Vec<Arc<Login>>, NoLogin>>),
    All(Reply<Vec<Shown>>),
    Find(String, Reply<Option<Arc<Login>>>),
    Judged {
        login: Arc<Login>,
        verdict: Verdict,
    },
    Reload(Reply<Result<(), StoreError>>),
    /// A login may have changed by the clock alone.
    Look,
    /// Our task read the rows.
    Loaded(
        Result<Vec<CredentialRow>, StoreError>,
        Reply<Result<(), StoreError>>,
    ),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Usable(_) => "usable",
            Self::All(_) => "all",
            Self::Find(..) => "find",
            Self::Judged { .. } => "judged",
            Self::Reload(_) => "reload",
            Self::Look => "look",
            Self::Loaded(..) => "loaded",
        }
    }
}

struct CredentialsActor;

/// One login in memory.
struct Held {
    row: CredentialRow,
    login: Arc<Login>,
    source: &'static str,
    /// The state that was told last.
    announced: LoginState,
}

pub(crate) struct State {
    held: Vec<Held>,
    /// Wakes us when a login's time has come.
    timer: Option<Owned>,
    arguments: Arguments,
    own: Own<Message>,
}

impl Behaviour for CredentialsActor {
    type Message = Message;
    type State = State;
    type Arguments = Arguments;

    async fn start(arguments: Arguments, own: Own<Message>) -> Result<State, Fatal> {
        let rows = arguments.database.read(credentials::all).await?;
        let mut state = State {
            held: Vec::new(),
            timer: None,
            arguments,
            own,
        };
        state.hold(rows);
        Ok(state)
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Usable(reply) => drop(reply.send(state.usable(now_ms()))),
            Message::All(reply) => drop(reply.send(state.all(now_ms()))),
            Message::Find(label, reply) => {
                let mut held = state.held.iter();
                let found = held.find(|held| held.row.label == label);
                drop(reply.send(found.map(|held| held.login.clone())));
            }
            Message::Judged { login, verdict } => state.judged(&login, &verdict, now_ms()),
            Message::Reload(reply) => state.reload(reply),
            Message::Look => state.look(now_ms()),
            Message::Loaded(rows, reply) => {
                let loaded = rows.map(|rows| state.hold(rows));
                let _ = reply.send(loaded);
            }
        }
        Ok(())
    }
}

impl State {
    fn hold(&mut self, rows: Vec<CredentialRow>) {
        let now = now_ms();
        let vault = &self.arguments.vault;
        self.held = rows
            .into_iter()
            .filter_map(|row| match open(vault, &row) {
                Ok(login) => Some(Held::new(row, Arc::new(login), "database", now)),
                Err(error) => {
                    tracing::error!(%error, credential.id = row.id, "a stored login is left out; log in again");
                    None
                }
            })
            .collect();
        if self.held.is_empty()
            && let Some(login) = &self.arguments.fallback
        {
            let row = plain_row(login, crate::providers::qwen::token_expiry(login), now);
            self.held
                .push(Held::new(row, login.clone(), "environment", now));
        }
        self.wake_in_time(now);
    }

    /// Tells of logins that have come to their end, or near it.
    fn look(&mut self, now_ms: i64) {
        for held in &mut self.held {
            held.announce(&self.arguments.events, now_ms);
        }
        self.wake_in_time(now_ms);
    }

    fn wake_in_time(&mut self, now_ms: i64) {
        let changes = self
            .held
            .iter()
            .filter_map(|held| held.row.expires_at)
            .flat_map(|at| [at - EXPIRING, at])
            .filter(|at| *at > now_ms);
        self.timer = changes.min().map(|at| {
            // A clock can be set: it is looked at once an hour at the least.
            let wait = Duration::from_millis((at - now_ms).unsigned_abs()).min(LOGINS_LOOKED);
            let own = self.own.clone();
            self.arguments
                .tasks
                .spawn_owned("credential clock", async move {
                    tokio::time::sleep(wait).await;
                    own.tell(Message::Look);
                })
        });
    }

    fn usable(&self, now_ms: i64) -> Result<Vec<Arc<Login>>, NoLogin> {
        let usable: Vec<&Held> = self
            .held
            .iter()
            .filter(|held| held.state(now_ms).is_usable())
            .collect();
        if usable.is_empty() {
            return Err(match self.held.first() {
                Some(held) => NoLogin::Unusable(held.state(now_ms)),
                None => NoLogin::Missing,
            });
        }
        let mut rested: Vec<_> = usable
            .iter()
            .filter(|held| held.row.limited_until.unwrap_or(0) <= now_ms)
            .collect();
        if rested.is_empty() {
            let soonest = usable
                .iter()
                .filter_map(|held| held.row.limited_until)
                .min()
                .unwrap_or(now_ms);
            let retry_after =
                Duration::from_millis(u64::try_from(soonest - now_ms).unwrap_or_default());
            return Err(NoLogin::Limited { retry_after });
        }
        rested.sort_by_key(|held| held.row.limited_until.unwrap_or(0));
        Ok(rested.into_iter().map(|held| held.login.clone()).collect())
    }

    fn all(&self, now_ms: i64) -> Vec<Shown> {
        self.held
            .iter()
            .map(|held| Shown {
                id: held.row.id.clone(),
                label: held.row.label.clone(),
                state: held.state(now_ms),
                expires_at: held.row.expires_at,
                limited_until: held.row.limited_until.filter(|until| *until > now_ms),
                last_verified_at: held.row.last_verified_at,
                last_error: held.row.last_error.clone(),
                token_preview: held.login.token_preview(),
                cookie_names: held.login.cookie_names(),
                created_at: held.row.created_at,
                updated_at: held.row.updated_at,
                source: held.source,
            })
            .collect()
    }

    fn judged(&mut self, login: &Login, verdict: &Verdict, now_ms: i64) {
        // A login that was renewed in the meantime is not the one that was judged.
        let Some(held) = self.held.iter_mut().find(|held| held.login.is_same(login)) else {
            return;
        };
        let before = (held.row.state.clone(), held.row.limited_until);
        match verdict {
            Verdict::Rejected => {
                held.row.state = "rejected".into();
                held.row.last_error = Some("the site refused this login; log in again".into());
            }
            Verdict::Challenged => {
                held.row.state = "challenged".into();
                held.row.last_error =
                    Some("open chat.qwen.ai in your browser, pass its check, log in again".into());
            }
            Verdict::Limited(until) => {
                held.row.limited_until = Some(held.row.limited_until.unwrap_or(0).max(*until));
            }
            Verdict::Verified => {
                held.row.state = "valid".into();
                held.row.last_error = None;
                held.row.last_verified_at = Some(now_ms);
                held.row.updated_at = now_ms;
                held.tell(&self.arguments.events, now_ms);
                self.keep(login);
                return;
            }
            Verdict::Fine => {
                let known = held.row.last_verified_at.replace(now_ms);
                // Not a row for each answer.
                if known.is_none_or(|at| now_ms - at >= VERIFIED) {
                    self.keep(login);
                }
                return;
            }
        }
        if before == (held.row.state.clone(), held.row.limited_until) {
            return;
        }
        held.row.updated_at = now_ms;
        held.tell(&self.arguments.events, now_ms);
        self.keep(login);
    }

    /// Stores what is known of a login, unless it is not stored at all.
    fn keep(&self, login: &Login) {
        let mut held = self.held.iter();
        let held = held.find(|held| held.source == "database" && held.login.is_same(login));
        let Some(row) = held.map(|held| Box::new(held.row.clone())) else {
            return;
        };
        let database = self.arguments.database.clone();
        self.arguments
            .tasks
            .spawn("credential verdict", async move {
                if let Err(error) = database.write(WriteOp::JudgeCredential(row)).await {
                    tracing::warn!(%error, "what the site made of a login could not be stored");
                }
            });
    }

    fn reload(&self, reply: Reply<Result<(), StoreError>>) {
        let (database, own) = (self.arguments.database.clone(), self.own.clone());
        self.arguments.tasks.spawn("credential load", async move {
            own.tell(Message::Loaded(
                database.read(credentials::all).await,
                reply,
            ));
        });
    }
}

impl Held {
    fn new(row: CredentialRow, login: Arc<Login>, source: &'static str, now_ms: i64) -> Self {
        let mut held = Self {
            row,
            login,
            source,
            announced: LoginState::Valid,
        };
        held.announced = held.state(now_ms);
        held
    }

    /// Tells everybody when the state is another one than was told last.
    fn announce(&mut self, events: &Events, now_ms: i64) {
        if self.state(now_ms) != self.announced {
            self.tell(events, now_ms);
        }
    }

    fn tell(&mut self, events: &Events, now_ms: i64) {
        let state = self.state(now_ms);
        self.announced = state;
        let detail =
            json!({"id": self.row.id, "state": state, "limited_until": self.row.limited_until});
        let description = format!("Qwen login {} is {}", self.row.label, state.as_str());
        events.publish("credentials:updated", "updated", description, detail);
    }

    fn state(&self, now_ms: i64) -> LoginState {
        match (self.row.state.as_str(), self.row.expires_at) {
            ("rejected", _) => LoginState::Rejected,
            ("challenged", _) => LoginState::Challenged,
            (_, Some(at)) if at <= now_ms => LoginState::Expired,
            (_, Some(at)) if at <= now_ms + EXPIRING => LoginState::Expiring,
            _ => LoginState::Valid,
        }
    }
}

fn place(id: &str, what: &str) -> String {
    format!("credentials/{id}/{what}")
}

fn seal(
    vault: &Vault,
    login: &Login,
    expires_at: Option<i64>,
    now_ms: i64,
) -> Result<CredentialRow, StoreError> {
    let sealed = |secret: &SecretString, what: &str| {
        let bytes = secrecy::ExposeSecret::expose_secret(secret).as_bytes();
        let sealed = vault.seal(bytes, &place(&login.id, what));
        sealed.map_err(|_| {
            StoreError::Db(crate::db::error::DbError::Other(
                "a secret could not be sealed".into(),
            ))
        })
    };
    Ok(CredentialRow {
        token: Some(sealed(&login.token, "token")?),
        cookies: Some(sealed(&login.cookies, "cookies")?),
        headers: Some(sealed(&login.headers, "headers")?),
        sealed: true,
        ..plain_row(login, expires_at, now_ms)
    })
}

fn plain_row(login: &Login, expires_at: Option<i64>, now_ms: i64) -> CredentialRow {
    CredentialRow {
        id: login.id.clone(),
        label: login.label.clone(),
        kind: if login.is_guest() { "guest" } else { "jwt" }.into(),
        token: None,
        cookies: None,
        headers: None,
        sealed: false,
        expires_at,
        state: "valid".into(),
        last_used_at: None,
        limited_until: None,
        last_verified_at: None,
        last_error: None,
        created_at: now_ms,
        updated_at: now_ms,
    }
}

fn open(vault: &Vault, row: &CredentialRow) -> Result<Login, crate::secrets::Unopenable> {
    let opened = |bytes: &Option<Vec<u8>>, what: &str| {
        let Some(bytes) = bytes else {
            return Ok(SecretString::from(""));
        };
        let plain = vault.unseal(bytes, &place(&row.id, what))?;
        let text = std::str::from_utf8(&plain).map_err(|_| crate::secrets::Unopenable)?;
        Ok(SecretString::from(text))
    };
    Ok(Login {
        id: row.id.clone(),
        label: row.label.clone(),
        token: opened(&row.token, "token")?,
        cookies: opened(&row.cookies, "cookies")?,
        headers: opened(&row.headers, "headers")?,
    })
}
