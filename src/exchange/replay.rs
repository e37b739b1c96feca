//! A recorded exchange once more, through today's code: what would its client get now?
//!
//! The same exchange, adapters, readers and translators run; only the calls to upstreams are answered from the recording.
//! No network, no file, no waiting: none of the actors behind the handles is ever started, and what would be stored is
//! dropped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::actors::ports::Connections;
use crate::actors::router::plan::RoutePlan;
use crate::actors::router::target::Target;
use crate::actors::{credentials, database, events, router, sessions};
use crate::exchange::admission::Admission;
use crate::exchange::cache::Cache;
use crate::exchange::counting::Counting;
use crate::exchange::downlink::refusal;
use crate::exchange::qwen::QwenWeb;
use crate::exchange::qwen::asked::Asked;
use crate::exchange::record::{Subject, client_status};
use crate::exchange::taping::DECISIVE;
use crate::exchange::told_as::telling;
use crate::exchange::{Content, Exchanges, Incoming, Refusal, Wishes};
use crate::protocol::compare::{Change, Comparison, compare};
use crate::protocol::dialect::{Dialect, Native, Retelling};
use crate::protocol::openai::request;
use crate::protocol::recording::{Attempt, Chunk, Data, Form, Received, Recording, Sent, Turn};
use crate::protocol::tools::notation::{NATIVE_JSON, NEUTRAL};
use crate::providers::http::Http;
use crate::providers::qwen::{DIRECT, Login};
use crate::providers::tape::Tape;
use crate::providers::{
    self, Answer, Call, Definition, OwnPorts, Provider, UpstreamError, UpstreamModel, echo, presets,
};
use crate::routing::dice::Dice;
use crate::routing::needs::Needs;
use crate::routing::virtuals::Strategy;
use crate::secrets::Vault;
use crate::settings::{self, Settings};
use crate::tasks::Tasks;

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unplayable {
    #[error("the request is not in the recording: it was longer than `history.recordMaxBytes`")]
    NoRequest,
    #[error("no call to an upstream is in the recording")]
    NoCalls,
    #[error("the recorded request is refused: {0}")]
    Refused(String),
    #[error("the exchange could not be run")]
    Broken,
}

/// Replays `recording` and says what became of each event.
pub(crate) async fn replay(recording: &Recording) -> Result<Comparison, Unplayable> {
    let now = play(recording).await?;
    let then = &recording.client;
    let is_partial = recording.cut || then.outcome == "client_closed";
    let events = compare(then, &now, is_partial);
    let count = |change| events.iter().filter(|event| event.change == change).count();
    let [equal, changed, missing, added] = [
        Change::Equal,
        Change::Changed,
        Change::Missing,
        Change::Added,
    ]
    .map(count);
    Ok(Comparison {
        request_id: recording.request_id.clone(),
        recorded_by: recording.qwarden.clone(),
        replayed_by: env!("CARGO_PKG_VERSION").into(),
        is_equal: changed + missing + added == 0,
        is_partial,
        equal,
        changed,
        missing,
        added,
        events,
    })
}

/// What the client would get.
async fn play(recording: &Recording) -> Result<Received, Unplayable> {
    let body = recording.request.as_ref().ok_or(Unplayable::NoRequest)?;
    let request = request::parse(Bytes::from(body.get().to_owned())).map_err(|errors| {
        let words = errors.into_iter().map(|error| error.message);
        Unplayable::Refused(words.collect::<Vec<_>>().join("; "))
    })?;
    let stage = Stage::new(settings_of(recording));
    let targets: Vec<_> = recording
        .attempts
        .iter()
        .filter(|attempt| !attempt.calls.is_empty() || attempt.kind == echo::KIND)
        .map(|attempt| Arc::new(stage.target(attempt)))
        .collect();
    if targets.is_empty() {
        return Err(Unplayable::NoCalls);
    }
    let original = recording.original.as_ref().map(Sent::original);
    let retelling = original.as_ref().and_then(|original| {
        let (path, id) = (&recording.path, &recording.request_id);
        telling(path, original, &request.body, id).map(Retelling::new)
    });
    let incoming = Incoming {
        request,
        is_translated: Dialect::of_path(&recording.path) != Dialect::Chat,
        native: original.and_then(|original| Native::of(original, &recording.path)),
        subject: Subject {
            request_id: recording.request_id.clone(),
            client_request_id: None,
            replay_of: None,
            account: None,
            tags: BTreeMap::new(),
            path: "/v1/chat/completions",
            port: 0,
            user_agent: None,
            is_recorded: false,
            kept: None,
            original: None,
        },
        connections: Connections::default(),
        received: Instant::now(),
        session: None,
        wishes: Wishes::default(),
        plan: Some(RoutePlan {
            targets,
            closed: Vec::new(),
            lacking: Vec::new(),
            strategy: Strategy::Priority,
            places: Vec::new(),
            model: "".into(),
            via: None,
            needs: Needs::default(),
            is_guess: false,
            is_once: true,
        }),
        caching: None,
        buffering: None,
    };
    let received = |form, pieces: Vec<Bytes>| Received {
        form,
        status: 200,
        outcome: String::new(),
        chunks: pieces
            .into_iter()
            .map(|bytes| Chunk {
                at_ms: 0,
                data: Data::Here(bytes),
            })
            .collect(),
    };
    match stage.exchanges().run(incoming).await {
        Ok(delivery) => {
            let (form, pieces) = match delivery.content {
                Content::Whole(body) => (Form::Whole, vec![body]),
                Content::Events(mut pieces) => {
                    let mut told = Vec::new();
                    while let Some(Ok(piece)) = pieces.next().await {
                        told.push(piece);
                    }
                    (Form::Events, told)
                }
            };
            let (form, pieces) = retold(retelling, form, pieces)?;
            Ok(received(form, pieces))
        }
        Err(Refusal::Upstream { error, .. }) => {
            let refusal = refusal(client_status(&error), error.code(), &error.to_string());
            Ok(received(Form::Refused, vec![refusal]))
        }
        Err(_) => Err(Unplayable::Broken),
    }
}

/// The answer in the dialect of its client.
fn retold(
    retelling: Option<Retelling>,
    form: Form,
    pieces: Vec<Bytes>,
) -> Result<(Form, Vec<Bytes>), Unplayable> {
    let Some(mut retelling) = retelling else {
        return Ok((form, pieces));
    };
    let told = pieces.iter().map(|piece| match form {
        Form::Whole => retelling.whole(piece).map_err(|_| Unplayable::Broken),
        _ => retelling
            .events(piece)
            .map(Bytes::from)
            .map_err(|_| Unplayable::Broken),
    });
    let told = told.collect::<Result<Vec<_>, _>>()?;
    Ok((retelling.form(form), told))
}

/// What an exchange needs around it, without anything behind it.
pub(super) struct Stage {
    database: database::Database,
    events: events::Events,
    router: router::Router,
    settings: watch::Receiver<Arc<Settings>>,
    tasks: Tasks,
    http: Http,
    web: QwenWeb,
}

impl Stage {
    pub(super) fn new(settings: Settings) -> Self {
        let tasks = Tasks::default();
        let http = Http::new(OwnPorts::default());
        let (_, settings) = watch::channel(Arc::new(settings));
        // Without its spec an actor is never started: what it is told is dropped, what it is asked is refused at once.
        let (_, database) = database::child(PathBuf::new(), tasks.clone());
        let (_, events) = events::child(database.clone());
        let (_, sessions) = sessions::child(database.clone(), settings.clone());
        let (_, credentials) = credentials::child(credentials::Arguments {
            database: database.clone(),
            events: events.clone(),
            vault: Vault::keyless(),
            fallback: None,
            tasks: tasks.clone(),
        });
        let (_, router) = router::child(router::Arguments {
            database: database.clone(),
            http: http.clone(),
            vault: Vault::keyless(),
            direct: Arc::default(),
            settings: settings.clone(),
            tasks: tasks.clone(),
        });
        let web = QwenWeb::new(
            credentials,
            sessions,
            settings.clone(),
            http.clone(),
            tasks.clone(),
        );
        Self {
            database,
            events,
            router,
            settings,
            tasks,
            http,
            web,
        }
    }

    pub(super) fn exchanges(&self) -> Exchanges {
        Exchanges {
            router: self.router.clone(),
            database: self.database.clone(),
            events: self.events.clone(),
            settings: self.settings.clone(),
            tasks: self.tasks.clone(),
            admission: Admission::default(),
            cache: Cache::default(),
            counting: Counting::default(),
            retries: Arc::default(),
            dice: Arc::new(Dice::new(0)),
        }
    }

    fn target(&self, attempt: &Attempt) -> Target {
        let replayed: Arc<dyn Provider> = match attempt.kind.as_str() {
            echo::KIND => Arc::new(echo::Echo),
            DIRECT => Arc::new(ReplayedSite::new(self.web.clone(), attempt)),
            _ => match providers::build(&speaking(attempt), &self.http) {
                Ok(adapter) => Arc::new(Replayed::new(adapter, attempt)),
                // The definition is ours.
                Err(_) => Arc::new(echo::Echo),
            },
        };
        Target::bare(&attempt.provider, &attempt.upstream_model, replayed)
    }
}

/// The defaults, with what the recording says of its own.
fn settings_of(recording: &Recording) -> Settings {
    let own = DECISIVE.iter().filter_map(|key| {
        let value = recording.settings.get(*key)?;
        Some((*key, value.clone()))
    });
    let flags: Vec<(&'static str, Value)> = own
        .chain([
            (settings::HISTORY_COMMIT_WAIT, 0.into()),
            (settings::HISTORY_SEARCH, false.into()),
            (settings::LOGGING_REQUESTS, false.into()),
            (settings::LOGGING_RESPONSES, false.into()),
        ])
        .collect();
    Settings::resolve(&[], |_| None, &flags).0
}

/// A provider that speaks as the one of the attempt did.
fn speaking(attempt: &Attempt) -> Definition {
    let by_kind = presets::find(&attempt.kind).map(|preset| preset.dialect);
    let kind = match by_kind {
        Some(Dialect::Anthropic) => presets::ANTHROPIC,
        _ => presets::GENERIC,
    };
    Definition {
        id: attempt.provider.clone(),
        kind: kind.into(),
        config: Map::from_iter([
            ("baseURL".to_owned(), "http://replay.invalid/v1".into()),
            (
                "responses".to_owned(),
                (attempt.dialect == Dialect::Responses).into(),
            ),
        ]),
    }
}

/// An upstream with an address.
struct Replayed {
    adapter: Arc<dyn Provider>,
    tape: Tape,
}

impl Replayed {
    fn new(adapter: Arc<dyn Provider>, attempt: &Attempt) -> Self {
        // A provider that asks twice (with a renewed login) goes by the second answer.
        let last = attempt.calls.last().cloned();
        Self {
            adapter,
            tape: Tape::playing(last.into_iter().collect()),
        }
    }
}

impl Provider for Replayed {
    fn kind(&self) -> &'static str {
        self.adapter.kind()
    }

    fn speaks(&self) -> Dialect {
        self.adapter.speaks()
    }

    fn knows_formats(&self) -> bool {
        self.adapter.knows_formats()
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        let tape = self.tape.clone();
        self.adapter.complete(Call { tape, ..call })
    }

    fn models(
        &self,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        self.adapter.models(deadline)
    }
}

/// The Qwen site.
struct ReplayedSite {
    web: QwenWeb,
    logins: Vec<Arc<Login>>,
    /// Of each login its first: how a turn is written is remembered between exchanges.
    turns: Vec<(usize, Turn)>,
    tape: Tape,
}

impl ReplayedSite {
    fn new(web: QwenWeb, attempt: &Attempt) -> Self {
        let used = attempt.calls.iter().filter_map(|call| call.login).max();
        let logins = (0..=used.unwrap_or_default().min(MOST_LOGINS)).map(|number| {
            Arc::new(Login {
                id: format!("replayed-{number}"),
                label: "replayed".into(),
                // No account is like another.
                token: format!("replayed-{number}").into(),
                cookies: "".into(),
                headers: "".into(),
            })
        });
        let mut turns: Vec<(usize, Turn)> = Vec::new();
        for call in &attempt.calls {
            if let (Some(login), Some(turn)) = (call.login, &call.turn)
                && turns.iter().all(|(known, _)| *known != login)
            {
                turns.push((login, turn.clone()));
            }
        }
        Self {
            web,
            logins: logins.collect(),
            turns,
            tape: Tape::playing(attempt.calls.clone()),
        }
    }
}

/// More than a talk ever asks with.
const MOST_LOGINS: usize = 15;

impl Provider for ReplayedSite {
    fn kind(&self) -> &'static str {
        DIRECT
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        let tape = self.tape.clone();
        let call = Call { tape, ..call };
        if let Ok(asked) = Asked::read(&call, &[]) {
            for (number, turn) in &self.turns {
                let known = [&NATIVE_JSON, &NEUTRAL];
                let notation = known.into_iter().find(|known| known.name == turn.notation);
                if let (Some(login), Some(notation)) = (self.logins.get(*number), notation) {
                    let inner = &self.web.inner;
                    inner.remember_notation(&login.account(), &asked.model, notation);
                }
            }
        }
        self.web
            .clone()
            .answer_as(call, self.logins.clone(), &[])
            .boxed()
    }

    fn models(&self, _: Duration) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
}
