//! What the site says when it does not answer: told apart by body, not by status (qwen-web-protocol, 5, A2 and A4).

use serde_json::Value;

/// Most characters of the site's own words that are passed on.
const SHOWN: usize = 300;
/// Seconds after which a busy site is worth another try.
const BUSY_REST: u64 = 5;
/// Seconds after which a login's other request may be over.
const PARALLEL_REST: u64 = 2;

/// A word with a run of letters this long is a token; ids are shorter.
const TOKEN: usize = 40;

/// Marks of the firewall's check.
const CHALLENGE_MARKS: [&str; 9] = [
    "aliyun_waf",
    "captcha",
    "x5sec",
    "punish",
    "_____tmd_____",
    "baxia",
    "awsc",
    "bxpunish",
    "nc_login",
];

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// The login is not, or no longer, taken.
    Unauthorized,
    /// A person has to pass a check in the browser.
    Challenge,
    /// Too crowded; the same text is also what a flagged address gets.
    Busy,
    /// The account's quota; rests for hours.
    RateLimited,
    /// Too many requests of this login at once.
    Parallel,
    /// Another quota.
    Quota,
    /// This chat still answers.
    ChatInProgress,
    /// The chat or the message to go on from is not there.
    ChatGone,
    ModelNotFound,
    ContentFilter,
    /// More input than the model takes.
    TooLong,
    BadRequest,
    Internal,
    /// Not of any known shape.
    BadAnswer,
}

impl RefusalKind {
    /// The stable word for clients.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "credentials_rejected",
            Self::Challenge => "qwen_challenge",
            Self::Busy => "qwen_busy",
            Self::RateLimited => "qwen_rate_limited",
            Self::Parallel => "qwen_parallel_limit",
            Self::Quota => "qwen_quota",
            Self::ChatInProgress => "qwen_chat_in_progress",
            Self::ChatGone => "qwen_chat_gone",
            Self::ModelNotFound => "model_not_found",
            Self::ContentFilter => "content_filter",
            Self::TooLong => "context_length_exceeded",
            Self::BadRequest => "qwen_bad_request",
            Self::Internal => "qwen_internal",
            Self::BadAnswer => "upstream_bad_answer",
        }
    }

    /// The status a client gets.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Challenge => 403,
            Self::ModelNotFound => 404,
            Self::ContentFilter | Self::TooLong | Self::BadRequest => 400,
            Self::RateLimited | Self::Parallel | Self::Quota => 429,
            Self::Busy | Self::ChatInProgress => 503,
            Self::ChatGone | Self::Internal | Self::BadAnswer => 502,
        }
    }

    /// Whether the same request may fare better later.
    pub(crate) fn is_retryable(self) -> bool {
        matches!(self.status(), 429 | 502 | 503)
    }
}

/// A refusal; its message holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) message: String,
    /// Seconds.
    pub(crate) retry_after_s: Option<u64>,
}

impl Refusal {
    fn new(kind: RefusalKind, message: &str) -> Self {
        let retry_after_s = match kind {
            RefusalKind::Busy | RefusalKind::ChatInProgress => Some(BUSY_REST),
            RefusalKind::Parallel => Some(PARALLEL_REST),
            _ => None,
        };
        Self {
            kind,
            message: presentable(message),
            retry_after_s,
        }
    }
}

/// Decides what a response is; none when it is no refusal. The order is that of A2: the first match wins.
pub(crate) fn classify(status: u16, content_type: Option<&str>, body: &[u8]) -> Option<Refusal> {
    let text = String::from_utf8_lossy(body);
    let trimmed = text.trim_start();
    let is_html = content_type.is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    if is_html || trimmed.starts_with('<') {
        return Some(page(trimmed));
    }
    if let Ok(value) = serde_json::from_str::<Value>(trimmed)
        && let Some(refusal) = from_value(&value)
    {
        return Some(by_status(status, refusal));
    }
    let kind = match status {
        200..=299 => return None,
        401 => RefusalKind::Unauthorized,
        403 if is_challenge(trimmed) => RefusalKind::Challenge,
        404 => RefusalKind::ChatGone,
        413 => RefusalKind::TooLong,
        429 => RefusalKind::RateLimited,
        400..=499 => RefusalKind::BadRequest,
        _ => RefusalKind::Internal,
    };
    let message = format!("the site answered {status}");
    Some(Refusal::new(kind, &message))
}

/// A refusal in a JSON body or in an event of a stream.
pub(crate) fn from_value(value: &Value) -> Option<Refusal> {
    if let Some(list) = value.get("ret").and_then(Value::as_array) {
        return firewall(list, value);
    }
    let data = value.get("data").unwrap_or(&Value::Null);
    if value.get("success") == Some(&Value::Bool(false)) {
        return Some(envelope(data, value));
    }
    let error = [value.get("error"), data.get("error")]
        .into_iter()
        .flatten()
        .find(|error| !error.is_null())?;
    Some(match error.as_str() {
        Some(text) => said(text),
        None => envelope(error, error),
    })
}

/// A refusal that is nothing but words, such as a delta of a stream carries.
pub(super) fn said(text: &str) -> Refusal {
    told("", text, &Value::Null)
}

/// A status that says more than the body's general words.
fn by_status(status: u16, refusal: Refusal) -> Refusal {
    let is_vague = matches!(
        refusal.kind,
        RefusalKind::BadRequest | RefusalKind::Internal
    );
    match status {
        401 if is_vague => Refusal::new(RefusalKind::Unauthorized, &refusal.message),
        429 if is_vague => Refusal::new(RefusalKind::RateLimited, &refusal.message),
        _ => refusal,
    }
}

/// A page instead of an answer; nothing of it is passed on, it carries tokens.
fn page(body: &str) -> Refusal {
    if is_challenge(body) {
        challenge()
    } else {
        Refusal::new(
            RefusalKind::BadAnswer,
            "the site answered with a page instead of an answer",
        )
    }
}

fn challenge() -> Refusal {
    Refusal::new(RefusalKind::Challenge, "the site asks for a check")
}

fn is_challenge(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    CHALLENGE_MARKS.iter().any(|mark| text.contains(mark))
}

/// `{"ret":["FAIL_SYS_USER_VALIDATE", "RGV587_ERROR::SM::..."]}`.
fn firewall(list: &[Value], whole: &Value) -> Option<Refusal> {
    let said: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    let said = said.join(" ");
    if said.starts_with("SUCCESS") {
        return None;
    }
    let is_crowded = said.contains("被挤爆") || said.contains("请稍后重试") || is_busy(&said);
    let is_ours = said.contains("FAIL_SYS_USER_VALIDATE") || said.contains("RGV587");
    if is_challenge(&whole.to_string()) || (is_ours && !is_crowded) {
        return Some(challenge());
    }
    let kind = if is_crowded {
        RefusalKind::Busy
    } else {
        RefusalKind::Internal
    };
    Some(Refusal::new(kind, "the site says that it is too busy"))
}

/// `{"code","details","template","num"}`, or `{"code","message"}`.
fn envelope(data: &Value, whole: &Value) -> Refusal {
    if is_challenge(&data.to_string()) {
        return challenge();
    }
    let field = |key: &str| {
        let value = data.get(key).or_else(|| whole.get(key))?;
        value.as_str().map(str::to_owned).or_else(|| match value {
            Value::Null => None,
            other => Some(other.to_string()),
        })
    };
    let details = ["details", "message", "msg", "detail"]
        .into_iter()
        .find_map(field);
    let code = field("code").unwrap_or_default();
    told(&code, &details.unwrap_or_default(), data)
}

fn told(code: &str, details: &str, data: &Value) -> Refusal {
    let kind = kind_of(code, details);
    let shown = match (details.is_empty(), code.is_empty()) {
        (false, _) => details,
        (true, false) => code,
        (true, true) => "the site gave no reason",
    };
    let mut refusal = Refusal::new(kind, shown);
    if kind == RefusalKind::RateLimited {
        refusal.retry_after_s = hours(data.get("num"));
    }
    refusal
}

fn kind_of(code: &str, details: &str) -> RefusalKind {
    let (code, details) = (code.to_ascii_lowercase(), details.to_ascii_lowercase());
    let either = |needle: &str| code.contains(needle) || details.contains(needle);
    if code == "ratelimited" || code == "rate_limited" {
        RefusalKind::RateLimited
    } else if code == "parallellimited" {
        RefusalKind::Parallel
    } else if code == "quotalimited" || details.contains("allocated quota exceeded") {
        RefusalKind::Quota
    } else if code == "unauthorized" || code == "401" {
        RefusalKind::Unauthorized
    } else if either("chat_in_progress") || details.contains("chat is in progress") {
        RefusalKind::ChatInProgress
    } else if either("data_inspection") || details.contains("inappropriate content") {
        RefusalKind::ContentFilter
    } else if details.contains("range of input length")
        || details.contains("context length")
        || details.contains("too long")
    {
        RefusalKind::TooLong
    } else if code == "requestvalidationerror" {
        // What we sent lacked something: our fault, not the client's.
        RefusalKind::Internal
    } else if details.contains("not exist") || details.contains("not found") || code == "not_found"
    {
        if details.contains("model") {
            RefusalKind::ModelNotFound
        } else {
            RefusalKind::ChatGone
        }
    } else if is_busy(&details) {
        RefusalKind::Busy
    } else if code == "bad_request" && !details.contains("internal error") {
        RefusalKind::BadRequest
    } else {
        RefusalKind::Internal
    }
}

fn is_busy(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "try again later",
        "service busy",
        "too busy",
        "service is busy",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

/// `num`, hours as a number or a string; zero or absent says nothing.
fn hours(num: Option<&Value>) -> Option<u64> {
    let num = num?;
    let hours = num.as_f64().or_else(|| num.as_str()?.trim().parse().ok())?;
    if !(hours > 0.0 && hours <= 8_760.0) {
        return None;
    }
    // By way of the decimal form: `as` is not checked.
    format!("{:.0}", (hours * 3_600.0).ceil()).parse().ok()
}

/// In one line, short, and without addresses and tokens: those of this site carry secrets.
fn presentable(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        if word.contains("://") {
            "(address left out)"
        } else if longest_run(word) >= TOKEN {
            "(left out)"
        } else {
            word
        }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars()
        .filter(|c| !c.is_control())
        .take(SHOWN)
        .collect()
}

/// How many letters stand together that a token is made of.
fn longest_run(word: &str) -> usize {
    let is_token =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+' | '/');
    let runs = word.split(|c| !is_token(c)).map(str::len);
    runs.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/qwen-web/",
                $name
            ))
        };
    }

    fn kind(status: u16, content_type: Option<&str>, body: &[u8]) -> Option<RefusalKind> {
        classify(status, content_type, body).map(|refusal| refusal.kind)
    }

    #[test]
    fn every_refusal_of_the_fixtures_is_told_apart() {
        let json = Some("application/json");
        for (body, expected) in [
            (&fixture!("rate-limited.json")[..], RefusalKind::RateLimited),
            (fixture!("unauthorized.json"), RefusalKind::Unauthorized),
            (fixture!("bad-request.json"), RefusalKind::Internal),
            (fixture!("challenge.json"), RefusalKind::Challenge),
            (fixture!("busy.json"), RefusalKind::Busy),
            (
                fixture!("chat-in-progress.json"),
                RefusalKind::ChatInProgress,
            ),
            (fixture!("chat-not-found.json"), RefusalKind::ChatGone),
            (fixture!("parent-not-exist.json"), RefusalKind::ChatGone),
            (fixture!("parallel-limited.json"), RefusalKind::Parallel),
            (fixture!("quota.json"), RefusalKind::Quota),
            (fixture!("validation-error.json"), RefusalKind::Internal),
            (fixture!("content-filter.json"), RefusalKind::ContentFilter),
        ] {
            for status in [200, 400] {
                assert_eq!(
                    kind(status, json, body),
                    Some(expected),
                    "{}",
                    String::from_utf8_lossy(body)
                );
            }
        }
        for page in [&fixture!("challenge.html")[..], fixture!("waf-block.html")] {
            assert_eq!(
                kind(200, Some("text/html; charset=utf-8"), page),
                Some(RefusalKind::Challenge)
            );
            assert_eq!(kind(403, None, page), Some(RefusalKind::Challenge));
        }
        assert_eq!(
            kind(502, Some("text/html"), b"<html>Bad Gateway</html>"),
            Some(RefusalKind::BadAnswer)
        );
        for fine in [
            &fixture!("chats-new.json")[..],
            fixture!("models.json"),
            fixture!("non-stream.json"),
            b"",
            b"true",
        ] {
            assert_eq!(kind(200, json, fine), None);
        }
    }

    #[test]
    fn a_bare_status_is_taken_for_what_it_says() {
        for (status, expected) in [
            (401, RefusalKind::Unauthorized),
            (403, RefusalKind::BadRequest),
            (404, RefusalKind::ChatGone),
            (413, RefusalKind::TooLong),
            (429, RefusalKind::RateLimited),
            (500, RefusalKind::Internal),
            (504, RefusalKind::Internal),
        ] {
            assert_eq!(kind(status, None, b"what"), Some(expected), "{status}");
            assert_eq!(
                expected.is_retryable(),
                matches!(expected.status(), 429 | 502 | 503)
            );
        }
        assert_eq!(kind(403, None, b"x5secdata"), Some(RefusalKind::Challenge));
        assert_eq!(
            kind(401, None, br#"{"detail":"x","success":false}"#),
            Some(RefusalKind::Unauthorized)
        );
    }

    #[test]
    fn the_wait_is_read_and_nothing_secret_is_said() {
        let limited = classify(200, None, fixture!("rate-limited.json")).expect("a refusal");
        assert_eq!(limited.retry_after_s, Some(3 * 3_600));
        assert_eq!(limited.message, "You have reached the daily usage limit.");
        for (num, expected) in [
            ("\"1.5\"", Some(5_400)),
            ("0", None),
            ("null", None),
            ("-3", None),
        ] {
            let body =
                format!(r#"{{"success":false,"data":{{"code":"RateLimited","num":{num}}}}}"#);
            let refusal = classify(200, None, body.as_bytes()).expect("a refusal");
            assert_eq!(refusal.retry_after_s, expected, "{num}");
        }
        let told = classify(
            200,
            None,
            br#"{"error":{"message":"see https://h/p?token=1\nnow"}}"#,
        )
        .expect("a refusal");
        assert_eq!(told.message, "see (address left out) now");
        let told = said(&format!(
            "token {} of 44444444-4444-4444-8444-444444444444",
            "a.b_".repeat(12)
        ));
        assert_eq!(
            told.message,
            "token (left out) of 44444444-4444-4444-8444-444444444444"
        );
        let challenge = classify(200, None, fixture!("challenge.json")).expect("a refusal");
        assert!(!challenge.message.contains("x5sec"));
        let model =
            br#"{"success":false,"data":{"code":"Not_Found","details":"model x is not exist"}}"#;
        assert_eq!(kind(200, None, model), Some(RefusalKind::ModelNotFound));
        let long = br#"{"error":"Range of input length should be [1, 983616]"}"#;
        assert_eq!(kind(200, None, long), Some(RefusalKind::TooLong));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = classify(status, None, &body);
        }
    }
}
