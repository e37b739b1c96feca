//! The response cache: an answer that came before is given again, without asking anybody.
//!
//! A request is eligible when it asks for it (`x-qwarden-cache: on`), or by the setting when its temperature is 0. What is
//! looked up within [`LOOKUP_PATIENCE`] is a hit; anything else, a stalled database too, is a miss (R4). A miss goes its usual way,
//! and [`Keeping`] listens to what the client is sent; once the answer is whole it is queued in front of the outcome. Two
//! equal requests at once both miss: none waits for the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::actors::database::Database;
use crate::actors::ports::InFlight;
use crate::actors::retention;
use crate::actors::router::target::Target;
use crate::clock::now_ms;
use crate::db::cache::{self, Bounds, CacheRow, Kept, Key, PackedAnswer};
use crate::db::history::AttemptRow;
use crate::db::ops::WriteOp;
use crate::exchange::admission::Place;
use crate::exchange::downlink::{Clocks, Downlink, Interrupted};
use crate::exchange::record::{Ending, Recorder};
use crate::exchange::{Delivery, Exchanges, Incoming, Refusal};
use crate::limits::exchanges::{LARGEST_KEPT, LOOKUP_PATIENCE};
use crate::protocol::openai::answer;
use crate::protocol::openai::build;
use crate::protocol::openai::normalise::{self, Scope};
use crate::protocol::openai::restream::{self, Told};
use crate::protocol::recording::Form;
use crate::protocol::sse;
use crate::settings::{self, Settings};
use crate::tasks::lock;

/// Providers of these kinds go on with a conversation at the site: their answers are kept for those alone that ask.
const CONVERSING: &str = "qwen-";

/// What the client wants of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// As the settings say.
    Unsaid,
    /// To be answered from it, whatever the temperature.
    On,
    /// Neither to be answered from it nor to be kept in it.
    Off,
    /// An answer of now, to be kept in place of the one that is there.
    Refresh,
}

impl Wish {
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            "refresh" => Some(Self::Refresh),
            _ => None,
        }
    }

    fn is_asked(self) -> bool {
        matches!(self, Self::On | Self::Refresh)
    }
}

/// What the cache may do for a request.
#[derive(Clone, Debug)]
pub(crate) struct Caching {
    pub(crate) wish: Wish,
    /// The client's key, where one is needed: answers are not shared between keys.
    pub(crate) key_id: Option<String>,
}

/// What the cache did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The answer is that many seconds old.
    Hit { age: u64 },
    /// It will be kept once it is whole.
    Miss,
    /// The request is not one for the cache.
    Bypass,
}

impl Verdict {
    /// As `x-qwarden-cache` says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// What is counted since the start. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Cache(Arc<Counters>);

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Cache {
    /// Hits and misses since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.0.hits), read(&self.0.misses))
    }
}

/// What a lookup found.
pub(crate) enum Lookup {
    Hit(Box<Hit>),
    /// Nothing, or nobody looked.
    Miss(Keeping),
}

/// A kept answer in the form its client asks for.
pub(crate) struct Hit {
    key: Key,
    given: Given,
    age: u64,
    answer: Answer,
}

enum Answer {
    Whole(Bytes),
    Events { told: Vec<Told>, marker: Bytes },
}

/// Whose answer it is.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) provider: String,
    pub(crate) upstream_model: String,
}

impl Given {
    pub(crate) fn by(attempt: &AttemptRow) -> Self {
        Self {
            provider: attempt.provider_id.clone(),
            upstream_model: attempt.upstream_model.clone(),
        }
    }
}

impl Exchanges {
    /// Looks for a kept answer. Never fails, and takes no longer than [`LOOKUP_PATIENCE`].
    pub(super) async fn look_up(&self, incoming: &Incoming, settings: &Settings) -> Lookup {
        let Some(caching) = &incoming.caching else {
            return Lookup::Miss(Keeping::default());
        };
        let is_on = settings.flag(settings::CACHE_ENABLED);
        let is_asked = caching.wish.is_asked();
        if !is_on && caching.wish == Wish::Unsaid {
            return Lookup::Miss(Keeping::default());
        }
        // The port that brings its own plan is the one whose conversations go on at the site.
        let is_converse = incoming.plan.is_some();
        let is_eligible = is_asked
            || (is_on
                && caching.wish == Wish::Unsaid
                && !is_converse
                && normalise::is_deterministic(&incoming.request.body));
        let key = is_eligible
            .then(|| key(incoming, caching, settings))
            .flatten();
        let Some(key) = key else {
            return Lookup::Miss(Keeping::bypass());
        };
        if caching.wish != Wish::Refresh
            && let Some(hit) = find(&self.database, key, incoming, is_asked).await
        {
            self.cache.0.hits.fetch_add(1, Ordering::Relaxed);
            return Lookup::Hit(Box::new(hit));
        }
        self.cache.0.misses.fetch_add(1, Ordering::Relaxed);
        Lookup::Miss(Keeping::of(Collected {
            key,
            model: incoming.request.model.clone().unwrap_or_default(),
            lifetime: settings.integer(settings::CACHE_TTL),
            bounds: retention::bounds(settings),
            is_asked,
            only_asked: is_converse,
            by: None,
            form: Form::Nothing,
            bytes: Vec::new(),
        }))
    }

    /// Answers with what was kept.
    pub(super) async fn give(
        &self,
        hit: Hit,
        incoming: Incoming,
        mut recorder: Recorder,
        settings: &Settings,
        place: Place,
    ) -> Result<Delivery, Refusal> {
        recorder.begin();
        recorder.given(hit.key, hit.given.clone());
        let (head, delivered) = oneshot::channel();
        let in_flight = incoming.connections.enter();
        let is_stream = incoming.request.stream;
        let mut downlink =
            Downlink::new(head, &incoming.connections, Clocks::of(settings), is_stream);
        downlink.giving(&hit.given);
        downlink.keeping(Keeping::hit(hit.age));
        let giving = Giving {
            downlink,
            recorder,
            include_usage: incoming.request.include_usage,
            received: incoming.received,
            _guards: (place, in_flight),
        };
        self.tasks.spawn("cached answer", giving.drive(hit.answer));
        delivered.await.unwrap_or(Err(Refusal::Broken))
    }
}

/// The question's key; none for a body that can be read in more than one way.
fn key(incoming: &Incoming, caching: &Caching, settings: &Settings) -> Option<Key> {
    let request = &incoming.request;
    let scope = Scope {
        door: if incoming.plan.is_some() {
            "qwen"
        } else {
            "router"
        },
        key_id: caching.key_id.as_deref(),
        model: request
            .model
            .as_deref()
            .or_else(|| settings.text(settings::ACTIVE_MODEL)),
        preferred: settings.text(settings::ACTIVE_PROVIDER),
        targets: &incoming.wishes.targets,
        stream: request.stream,
    };
    normalise::fingerprint(&request.body, &scope).map(Key)
}

async fn find(database: &Database, key: Key, incoming: &Incoming, is_asked: bool) -> Option<Hit> {
    let now = now_ms();
    let reading = database.read(move |conn| cache::find(conn, key, now));
    let kept = match tokio::time::timeout(LOOKUP_PATIENCE, reading).await {
        Ok(Ok(kept)) => kept?,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the cache could not be read; the upstream is asked");
            return None;
        }
        Err(_) => {
            tracing::debug!("the cache took too long; the upstream is asked");
            return None;
        }
    };
    if kept.only_asked && !is_asked {
        return None;
    }
    let answer = in_form(&kept, incoming.request.stream)?;
    let age = now.saturating_sub(kept.created_at) / 1_000;
    Some(Hit {
        key,
        given: Given {
            provider: kept.provider_id,
            upstream_model: kept.upstream_model,
        },
        age: u64::try_from(age).unwrap_or_default(),
        answer,
    })
}

/// The answer in the form that is asked for. None when it cannot be read, which a damaged file alone explains.
fn in_form(kept: &Kept, stream: bool) -> Option<Answer> {
    let bytes = Bytes::from(kept.body.unpack().ok()?);
    Some(match (kept.is_stream, stream) {
        (false, false) => Answer::Whole(bytes),
        (false, true) => Answer::Events {
            told: restream::split(&bytes)?,
            marker: sse::data("[DONE]"),
        },
        (true, true) => {
            let stream = restream::read(&bytes)?;
            Answer::Events {
                told: stream.told,
                marker: stream.marker,
            }
        }
        (true, false) => {
            let assembled = restream::read(&bytes)?.assembled;
            Answer::Whole(assembled.to_json().to_string().into())
        }
    })
}

/// An answer on its way from the cache.
struct Giving {
    downlink: Downlink,
    recorder: Recorder,
    include_usage: bool,
    received: Instant,
    _guards: (Place, InFlight),
}

impl Giving {
    async fn drive(mut self, answer: Answer) {
        let given = match answer {
            Answer::Whole(body) => {
                self.whole(body).await;
                Ok(())
            }
            Answer::Events { told, marker } => self.events(told, marker).await,
        };
        let Err(interrupted) = given else {
            return;
        };
        match interrupted {
            Interrupted::ClientGone => {
                let ending = Ending::ClientClosed;
                self.recorder.finish(ending, 499, self.received).await;
            }
            Interrupted::ShuttingDown => {
                let message = "the gateway is shutting down; send the request again";
                let code = "server_shutdown";
                let farewell = self.downlink.farewell(message, code, 503);
                let ending = Ending::Failed {
                    message: message.into(),
                    code,
                };
                self.recorder.finish(ending, 503, self.received).await;
                if let Some(farewell) = farewell {
                    // A client that is gone by now needs none.
                    let _ = self.downlink.end(farewell).await;
                } else {
                    self.downlink.refuse(Refusal::ShuttingDown);
                }
            }
        }
    }

    async fn whole(&mut self, body: Bytes) {
        let whole = answer::scan_whole(&body).unwrap_or_default();
        self.recorder.first_content();
        self.recorder
            .answered(whole.usage, whole.finish_reason, &body);
        self.recorder
            .finish(Ending::Completed, 200, self.received)
            .await;
        self.downlink.deliver_whole(body);
    }

    async fn events(&mut self, told: Vec<Told>, marker: Bytes) -> Result<(), Interrupted> {
        self.recorder.first_content();
        for Told { raw, scan } in told {
            self.recorder.saw(&scan);
            if !scan.usage_only || self.include_usage {
                self.downlink.send(raw).await?;
            }
        }
        self.recorder
            .finish(Ending::Completed, 200, self.received)
            .await;
        self.downlink.end(marker).await
    }
}

/// What listens to an answer on its way to the client, and keeps it. Does nothing unless it was made for that. Cheap to
/// clone.
#[derive(Clone, Default)]
pub(crate) struct Keeping(Option<Arc<Mutex<State>>>);

struct State {
    verdict: Verdict,
    collected: Option<Collected>,
}

/// An answer until it is whole.
struct Collected {
    key: Key,
    model: String,
    /// Ms.
    lifetime: i64,
    bounds: Bounds,
    /// The client asked for the cache.
    is_asked: bool,
    /// Others do not get it.
    only_asked: bool,
    by: Option<Given>,
    form: Form,
    bytes: Vec<u8>,
}

impl Keeping {
    fn of(collected: Collected) -> Self {
        Self::with(Verdict::Miss, Some(collected))
    }

    fn bypass() -> Self {
        Self::with(Verdict::Bypass, None)
    }

    fn hit(age: u64) -> Self {
        Self::with(Verdict::Hit { age }, None)
    }

    fn with(verdict: Verdict, collected: Option<Collected>) -> Self {
        Self(Some(Arc::new(Mutex::new(State { verdict, collected }))))
    }

    /// What the response says of the cache.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.0.as_ref().map(|state| lock(state).verdict)
    }

    /// An attempt begins.
    pub(crate) fn asks(&self, target: &Target) {
        let Some(mut state) = self.0.as_ref().map(|state| lock(state)) else {
            return;
        };
        let is_converse = target.adapter.kind().starts_with(CONVERSING);
        let Some(collected) = &mut state.collected else {
            return;
        };
        // What two targets wrote is nobody's answer.
        let is_mixed = !collected.bytes.is_empty();
        if is_mixed || (is_converse && !collected.is_asked) {
            state.collected = None;
            state.verdict = Verdict::Bypass;
            return;
        }
        collected.only_asked |= is_converse;
        collected.by = Some(Given {
            provider: target.provider.clone(),
            upstream_model: target.upstream_model.clone(),
        });
    }

    /// The client is sent these bytes.
    pub(crate) fn told(&self, form: Form, bytes: &Bytes) {
        let Some(mut state) = self.0.as_ref().map(|state| lock(state)) else {
            return;
        };
        if is_comment(bytes) {
            return;
        }
        if let Some(collected) = &mut state.collected {
            if collected.bytes.len() + bytes.len() > LARGEST_KEPT {
                state.collected = None;
                return;
            }
            collected.form = form;
            collected.bytes.extend_from_slice(bytes);
        }
    }

    /// The answer has ended well: queues it for the cache, if it is whole.
    pub(crate) fn keep(&self, database: &Database) {
        let collected = self
            .0
            .as_ref()
            .and_then(|state| lock(state).collected.take());
        let row = collected.and_then(Collected::row);
        if let Some(row) = row {
            database.record(WriteOp::KeepAnswer(Box::new(row)));
        }
    }
}

/// Says that we wait, or where a seam is, and is no part of an answer.
fn is_comment(frame: &[u8]) -> bool {
    let mut lines = frame.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.all(|line| line.is_empty() || line.starts_with(b":"))
}

impl Collected {
    fn row(self) -> Option<CacheRow> {
        let given = self.by?;
        let (is_stream, usage) = match self.form {
            Form::Events => (true, restream::read(&self.bytes)?.assembled.usage()),
            Form::Whole if restream::is_complete(&self.bytes) => {
                (false, answer::scan_whole(&self.bytes).ok()?.usage)
            }
            Form::Whole | Form::Lines | Form::Refused | Form::Nothing => return None,
        };
        let now = now_ms();
        Some(CacheRow {
            key: self.key,
            model: self.model,
            provider_id: given.provider,
            upstream_model: given.upstream_model,
            is_stream,
            only_asked: self.only_asked,
            usage: usage.as_ref().map(build::usage_json),
            body: PackedAnswer::of(&self.bytes),
            created_at: now,
            expires_at: now.saturating_add(self.lifetime),
            bounds: self.bounds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_told_from_events_with_comments() {
        for (frame, is) in [
            (&b": waiting\n\n"[..], true),
            (b": a\r\n: b\r\n\r\n", true),
            (b": a\ndata: {}\n\n", false),
            (b"data: {}\n\n", false),
        ] {
            assert_eq!(is_comment(frame), is);
        }
    }

    #[test]
    fn wishes_are_read_whatever_their_case() {
        assert_eq!(Wish::read("ON"), Some(Wish::On));
        assert_eq!(Wish::read(" refresh "), Some(Wish::Refresh));
        assert_eq!(Wish::read("yes"), None);
    }
}
