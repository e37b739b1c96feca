//! `/api/docs`: the API's description to read and to try, without any other host.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    X_CONTENT_TYPE_OPTIONS,
};

use crate::http::App;

/// The viewer styles its elements one by one, which only `unsafe-inline` for styles allows. Scripts are ours alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    is_packed: bool,
}

const FILES: &[File] = &[
    File {
        path: "/api/docs",
        kind: "text/html; charset=utf-8",
        bytes: include_bytes!("../../../assets/swagger-ui/index.html"),
        is_packed: false,
    },
    File {
        path: "/api/docs/start.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../../assets/swagger-ui/start.js"),
        is_packed: false,
    },
    File {
        path: "/api/docs/swagger-ui-bundle.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../../assets/swagger-ui/swagger-ui-bundle.js.gz"),
        is_packed: true,
    },
    File {
        path: "/api/docs/swagger-ui.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../../assets/swagger-ui/swagger-ui.css.gz"),
        is_packed: true,
    },
];

pub(crate) fn routes() -> Router<App> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move || async move { file.answer() }))
    })
}

impl File {
    fn answer(&self) -> Response {
        let headers: [(HeaderName, &str); 4] = [
            (CONTENT_TYPE, self.kind),
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        // Every browser takes gzip, and only browsers come here.
        if self.is_packed {
            (headers, [(CONTENT_ENCODING, "gzip")], self.bytes).into_response()
        } else {
            (headers, self.bytes).into_response()
        }
    }
}
