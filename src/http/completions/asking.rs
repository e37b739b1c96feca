//! A completion in whatever dialect: what the head of its request says, and how its answer goes back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};

use crate::actors::ports::{Connections, Port};
use crate::actors::router::plan::RoutePlan;
use crate::clock::new_id;
use crate::exchange::admission::Buffering;
use crate::exchange::cache::{Caching, Wish};
use crate::exchange::downlink::{CutShort, Pieces};
use crate::exchange::passing::Passing;
use crate::exchange::record::Subject;
use crate::exchange::{Content, Delivery, Incoming, Wishes};
use crate::http::App;
use crate::http::clients::Allowed;
use crate::http::completions::chat;
use crate::http::envelope::RequestId;
use crate::http::error::ApiError;
use crate::http::intake::Intake;
use crate::protocol::dialect::{Dialect, Native, Original, Retelling, Telling};
use crate::protocol::openai::request;
use crate::protocol::openai::request::named::Named;
use crate::settings;

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the head of a request says.
pub(crate) struct Asking {
    subject: Subject,
    connections: Connections,
    received: Instant,
    session: Option<String>,
    wishes: Wishes,
    wish: Result<Wish, ApiError>,
    pub(crate) allowed: Allowed,
    plan: Option<RoutePlan>,
    buffering: Option<Buffering>,
}

/// What the body of a request means.
pub(crate) struct Spoken {
    /// The chat request; one for a stream asks for its usage where the dialect tells it.
    pub(crate) chat: Bytes,
    /// The body as it came; none where that is the chat request.
    pub(crate) native: Option<Native>,
    /// What the body calls its session, for when no header does.
    pub(crate) session: Option<String>,
    /// How the answer is told; none where that is as a chat completion.
    pub(crate) telling: Option<Box<dyn Telling>>,
    /// What the client sent, where that is not the chat request.
    pub(crate) original: Option<Original>,
}

impl Spoken {
    /// A chat request.
    pub(crate) fn chat(body: Bytes) -> Self {
        Self {
            chat: body,
            native: None,
            session: None,
            telling: None,
            original: None,
        }
    }
}

impl Asking {
    /// `plan` is given where the port decides the target.
    pub(crate) fn of(
        port: &Arc<Port>,
        request: &Request,
        path: &'static str,
        plan: Option<RoutePlan>,
    ) -> Result<Self, ApiError> {
        let received = Instant::now();
        let id = request.extensions().get::<RequestId>().cloned();
        let connections = request
            .extensions()
            .get::<Connections>()
            .cloned()
            .unwrap_or_default();
        let allowed = Allowed::in_request(request.extensions());
        let headers = request.headers();
        let tags: BTreeMap<_, _> = chat::tags(headers)?;
        let subject = Subject {
            tags,
            request_id: id.as_ref().map_or_else(new_id, |id| id.own.clone()),
            client_request_id: id.and_then(|id| id.client),
            replay_of: None,
            account: allowed.account(),
            path,
            port: port.address().port(),
            user_agent: chat::header(headers, &USER_AGENT),
            is_recorded: chat::header(headers, &chat::RECORD).as_deref() == Some("true"),
            kept: None,
            original: None,
        };
        Ok(Self {
            subject,
            connections,
            received,
            session: chat::session(headers),
            wishes: chat::wishes(headers)?,
            wish: chat::wish(headers),
            allowed,
            plan,
            buffering: request
                .extensions()
                .get::<Intake>()
                .map(|intake| intake.buffering.clone()),
        })
    }

    /// The id of the request, in the history too.
    pub(crate) fn id(&self) -> &str {
        &self.subject.request_id
    }

    /// Lets the client ask for the answer again; `kept` is what its dialect needs for that, as JSON.
    pub(crate) fn keep(&mut self, kept: String) {
        self.subject.kept = Some(kept);
    }

    /// Where it goes is decided.
    pub(crate) fn go(&mut self, plan: RoutePlan) {
        self.plan = Some(plan);
    }

    pub(crate) fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// Whether the client may ask for all that it names.
    pub(crate) fn check(&self, app: &App, model: Option<&str>) -> Result<(), ApiError> {
        let unnamed = app.settings.borrow().clone();
        let allowed = &self.allowed;
        allowed.check(model.or_else(|| unnamed.text(settings::ACTIVE_MODEL)))?;
        for target in &self.wishes.targets {
            allowed.check(Some(target))?;
        }
        Ok(())
    }

    /// Passes it on to `path` of a provider.
    pub(crate) async fn pass(
        self,
        app: &App,
        (named, content_type): (Named, String),
        path: &'static str,
        telling: Option<Box<dyn Telling>>,
    ) -> Result<Response, ApiError> {
        self.check(app, named.model.as_deref())?;
        let passing = Passing {
            named,
            path,
            content_type,
            subject: self.subject,
            connections: self.connections,
            received: self.received,
            wishes: self.wishes,
            plan: self.plan,
            buffering: self.buffering,
        };
        respond(app.exchanges.pass(passing).await?, telling)
    }

    /// Completes it.
    pub(crate) async fn answer(mut self, app: &App, spoken: Spoken) -> Result<Response, ApiError> {
        self.subject.original = spoken.original;
        let parsed = request::parse(spoken.chat).map_err(ApiError::Fields)?;
        self.check(app, parsed.model.as_deref())?;
        let caching = Caching {
            wish: self.wish?,
            key_id: self.allowed.key_id().map(str::to_owned),
        };
        let incoming = Incoming {
            request: parsed,
            is_translated: Dialect::of_path(self.subject.path) != Dialect::Chat,
            native: spoken.native,
            caching: Some(caching),
            subject: self.subject,
            connections: self.connections,
            received: self.received,
            session: self.session.or(spoken.session),
            wishes: self.wishes,
            plan: self.plan,
            buffering: self.buffering,
        };
        let delivery = app.exchanges.run(incoming).await?;
        respond(delivery, spoken.telling)
    }
}

fn respond(delivery: Delivery, telling: Option<Box<dyn Telling>>) -> Result<Response, ApiError> {
    let Delivery {
        provider,
        upstream_model,
        attempts,
        ignored,
        cache,
        content_type,
        content,
    } = delivery;
    let (kind, body, is_stream) = match (content, telling) {
        (Content::Whole(body), None) => ("application/json", Body::from(body), false),
        (Content::Whole(body), Some(mut telling)) => {
            // It was read before it was delivered.
            let told = telling.whole(&body).map_err(|_| ApiError::Internal)?;
            ("application/json", Body::from(told), false)
        }
        (Content::Events(pieces), None) => ("text/event-stream", Body::from_stream(pieces), true),
        (Content::Events(pieces), Some(telling)) => (
            telling.stream_type(),
            Body::from_stream(Retold {
                pieces,
                retelling: Retelling::new(telling),
            }),
            true,
        ),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let passed_on = content_type.and_then(|kind| HeaderValue::try_from(kind).ok());
    headers.insert(
        CONTENT_TYPE,
        passed_on.unwrap_or(HeaderValue::from_static(kind)),
    );
    if is_stream {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(BUFFERING, HeaderValue::from_static("no"));
    }
    chat::mark(
        headers,
        (provider, upstream_model, attempts),
        cache,
        &ignored,
    );
    Ok(response)
}

/// A chat stream on its way out in another dialect. What is one piece there is one piece here, so nothing waits for more.
struct Retold {
    pieces: Pieces,
    retelling: Retelling,
}

impl Stream for Retold {
    type Item = Result<Bytes, CutShort>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let told = match ready!(Pin::new(&mut self.pieces).poll_next(cx)) {
                // What the exchange sends was read by the same reader before.
                Some(Ok(bytes)) => self.retelling.events(&bytes).map_err(|_| CutShort),
                Some(Err(cut)) => Err(cut),
                None => return Poll::Ready(None),
            };
            match told {
                Ok(told) if told.is_empty() => {}
                told => return Poll::Ready(Some(told.map(Bytes::from))),
            }
        }
    }
}
