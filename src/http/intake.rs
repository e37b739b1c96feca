//! What the ports take in: refused early where it could not be served, so that a refusal costs next to nothing (R27).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::Method;
use hyper::body::Body as _;

use crate::exchange::admission::Buffering;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::limits::connections::MOST_MANAGING;
use crate::settings;
use crate::tasks::Tasks;

/// How the body of a request is taken in.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) buffering: Buffering,
    tasks: Tasks,
}

impl Intake {
    /// Reads what still comes of a body that is refused. The client gets its answer at once, and not a reset because it is
    /// still sending.
    pub(crate) fn let_come(&self, body: Body) {
        let_come(&self.tasks, body);
    }
}

fn let_come(tasks: &Tasks, body: Body) {
    if !body.is_end_stream() {
        tasks.spawn("refused body", extract::discard(body));
    }
}

/// The layer of the ports for clients.
pub(crate) async fn clients(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (in_flight, buffered) = {
        let settings = app.settings.borrow();
        (
            settings.size(settings::SERVER_MAX_IN_FLIGHT),
            settings.size(settings::SERVER_MAX_BUFFERED),
        )
    };
    let admission = &app.exchanges.admission;
    if admission.is_full(in_flight) {
        let_come(&app.tasks, request.into_body());
        return ApiError::Overloaded.into_response();
    }
    let intake = Intake {
        buffering: admission.buffering(buffered),
        tasks: app.tasks.clone(),
    };
    request.extensions_mut().insert(intake);
    next.run(request).await
}

/// The layer of management, whose requests are counted apart from completions: neither can keep the other out. Health is
/// told in any case.
pub(crate) async fn managers(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/api/health") {
        return next.run(request).await;
    }
    let Some(_place) = app.managing.enter(MOST_MANAGING) else {
        let_come(&app.tasks, request.into_body());
        return ApiError::ManagementOverloaded.into_response();
    };
    next.run(request).await
}
