//! The dashboard: files that are in the binary, and the paths of its pages (reliability contract, S20 and S22).
//!
//! No path of a request names a file: it is looked up in a table that `build.rs` made of `dashboard/`. The files' addresses
//! hold the hash of them all, so that a browser keeps them for good, and never mixes those of two builds.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, StatusCode};

include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Only what is served here, and no script or style inside a page. Libraries set styles on elements, which this allows.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const PAGE: &str = "index.html";
const MANIFEST: &str = "manifest.webmanifest";
/// The first segments of the pages' paths, as in `dashboard/pages/index.js`.
const PAGES: [&str; 13] = [
    "activity",
    "chat",
    "credentials",
    "keys",
    "logs",
    "models",
    "providers",
    "reference",
    "requests",
    "sessions",
    "settings",
    "statistics",
    "supervision",
];

/// One file, as it is and packed where that makes it smaller.
pub(crate) struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    packed: Option<&'static [u8]>,
}

/// Marks the requests of the port that has the dashboard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfDashboard;

/// Answers what is the dashboard's, for whoever asks: the files hold nothing that is not in the source, and without them nobody
/// could log in. Everything else goes on.
pub(crate) async fn dashboard(request: Request, next: Next) -> Response {
    let found = match *request.method() {
        Method::GET | Method::HEAD => file(request.uri().path(), request.headers()),
        _ => None,
    };
    match found {
        Some(file) => file.answer(request.headers()),
        None => next.run(request).await,
    }
}

/// Whether a request is the navigation of a browser window to a page: a link elsewhere may lead here (S3).
pub(crate) fn is_navigation(request: &Request) -> bool {
    let headers = request.headers();
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|sent| sent == value);
    request.extensions().get::<OfDashboard>().is_some()
        && request.method() == Method::GET
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
        && is_page(request.uri().path())
        && wants_page(headers)
}

/// What a path names. Programs that ask for `/` go on to the list of what is served.
fn file(path: &str, headers: &HeaderMap) -> Option<&'static File> {
    if path == "/manifest.webmanifest" {
        return named(MANIFEST);
    }
    if let Some(rest) = path.strip_prefix("/assets/") {
        let (build, name) = rest.split_once('/')?;
        return named(name).filter(|file| build == BUILD && file.path != PAGE);
    }
    if is_page(path) && (path != "/" || wants_page(headers)) {
        return named(PAGE);
    }
    None
}

fn named(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == name)
}

fn is_page(path: &str) -> bool {
    let first = path.strip_prefix('/').unwrap_or(path);
    let first = first.split('/').next().unwrap_or_default();
    path == "/" || PAGES.contains(&first)
}

fn wants_page(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| {
        accept
            .to_str()
            .is_ok_and(|accept| accept.contains("text/html"))
    })
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let packed = self.packed.filter(|_| takes_packed(headers));
        let etag = format!("\"{BUILD}{}\"", if packed.is_some() { "-gz" } else { "" });
        let lasts = if self.path == PAGE || self.path == MANIFEST {
            "no-cache"
        } else {
            "public, max-age=31536000, immutable"
        };
        let common = [
            (CACHE_CONTROL, lasts),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (OPENER, "same-origin"),
            (RESOURCE, "same-origin"),
            (VARY, "accept, accept-encoding"),
        ];
        let common = (common, [(ETAG, etag.as_str())]);
        if is_known(headers, &etag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let kind = [(CONTENT_TYPE, self.kind)];
        match packed {
            Some(bytes) => (common, kind, [(CONTENT_ENCODING, "gzip")], bytes).into_response(),
            None => (common, kind, self.bytes).into_response(),
        }
    }
}

fn takes_packed(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().any(|accepted| {
        let accepted = accepted.to_str().unwrap_or_default();
        accepted.split(',').any(|part| {
            let (name, weight) = part.split_once(';').unwrap_or((part, ""));
            name.trim().eq_ignore_ascii_case("gzip")
                && !matches!(weight.replace(' ', "").as_str(), "q=0" | "q=0.0")
        })
    })
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|known| {
        let known = known.to_str().unwrap_or_default();
        known
            .split(',')
            .any(|one| one.trim().trim_start_matches("W/") == etag)
    })
}
