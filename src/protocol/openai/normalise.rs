//! When two chat requests ask the same: their bodies without what does not change the answer, members in order.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A new number when what is hashed changes: what older versions kept is then never found.
const VERSION: u32 = 1;

/// Members of a request that have no say in what the answer is. `model` is told by the scope.
const IRRELEVANT: [&str; 9] = [
    "metadata",
    "model",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "user",
];

/// Members that ask for parts of an answer that only its own form can tell: such an answer stands for its form alone.
const FORM_BOUND: [&str; 4] = ["audio", "logprobs", "modalities", "top_logprobs"];

/// Integers from here on may not be told apart by what reads them.
const INEXACT: f64 = 9_007_199_254_740_992.0;

/// What else decides who may get an answer, and whose it is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Scope<'a> {
    /// Which door the request came in by.
    pub(crate) door: &'a str,
    /// The client's key, where one is needed.
    pub(crate) key_id: Option<&'a str>,
    /// The model it goes to by name or by default.
    pub(crate) model: Option<&'a str>,
    /// The provider that is preferred.
    pub(crate) preferred: Option<&'a str>,
    /// The targets that the client itself names.
    pub(crate) targets: &'a [String],
    /// How the answer goes out.
    pub(crate) stream: bool,
}

/// The same for two requests that ask the same within the same scope, and for no others. None for a body that can be
/// read in more than one way.
pub(crate) fn fingerprint(body: &[u8], scope: &Scope<'_>) -> Option<[u8; 32]> {
    let Canon::Object(mut members) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    members.retain(|name, _| !IRRELEVANT.contains(&name.as_str()));
    let is_bound = FORM_BOUND
        .iter()
        .any(|name| members.get(*name).is_some_and(Canon::is_asked));
    let form = is_bound.then_some(scope.stream);
    let scope = Scope {
        stream: false,
        ..*scope
    };
    let text = serde_json::to_vec(&(VERSION, scope, form, members)).ok()?;
    Some(Sha256::digest(&text).into())
}

/// Whether the request asks for the likeliest answer: temperature 0.
pub(crate) fn is_deterministic(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Sampling {
        temperature: Option<f64>,
    }
    let sampling: Result<Sampling, _> = serde_json::from_slice(body);
    sampling.is_ok_and(|sampling| sampling.temperature == Some(0.0))
}

/// A JSON value that is written in one way alone.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Canon {
    Null,
    Flag(bool),
    Integer(i64),
    Large(u64),
    Fraction(f64),
    Text(String),
    List(Vec<Canon>),
    Object(BTreeMap<String, Canon>),
}

impl Canon {
    fn is_asked(&self) -> bool {
        !matches!(self, Self::Null | Self::Flag(false))
    }
}

impl<'de> Deserialize<'de> for Canon {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Canon;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value that can be read in one way alone")
    }

    fn visit_unit<E>(self) -> Result<Canon, E> {
        Ok(Canon::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Canon, E> {
        Ok(Canon::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Canon, E> {
        Ok(Canon::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Canon, E> {
        Ok(i64::try_from(number).map_or(Canon::Large(number), Canon::Integer))
    }

    /// `1.0` is `1`, as most writers of JSON have it.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Canon, E> {
        if number.abs() >= INEXACT {
            return Err(E::custom("a number too large to be exact"));
        }
        if number.fract() != 0.0 {
            return Ok(Canon::Fraction(number));
        }
        // Whole and exact, so its text is that of an integer; that of -0 too.
        let whole = format!("{number:.0}").parse().map_err(E::custom)?;
        Ok(Canon::Integer(whole))
    }

    fn visit_str<E>(self, text: &str) -> Result<Canon, E> {
        Ok(Canon::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Canon, E> {
        Ok(Canon::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Canon, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Canon::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Canon, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry::<String, Canon>()? {
            // Which of the two counts differs between servers.
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member that is there twice"));
            }
        }
        Ok(Canon::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope {
        door: "router",
        key_id: None,
        model: Some("m"),
        preferred: None,
        targets: &[],
        stream: false,
    };

    fn of(body: &str) -> Option<[u8; 32]> {
        fingerprint(body.as_bytes(), &SCOPE)
    }

    #[test]
    fn what_does_not_change_the_answer_does_not_count() {
        let plain =
            of(r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0}"#);
        assert!(plain.is_some());
        for same in [
            r#"{"temperature":0.0,"messages":[{"content":"hi","role":"user"}],"model":"m"}"#,
            r#"{ "messages" : [ {"role":"user","content":"\u0068i"} ], "temperature": -0.0 }"#,
            r#"{"messages":[{"role":"user","content":"hi"}],"temperature":0,"stream":true,"stream_options":{"include_usage":true},
                "user":"u","metadata":{"a":1},"store":true,"safety_identifier":"s","prompt_cache_key":"p","service_tier":"flex"}"#,
        ] {
            assert_eq!(of(same), plain, "{same}");
        }
        for other in [
            r#"{"messages":[{"role":"user","content":"hi "}],"temperature":0}"#,
            r#"{"messages":[{"role":"user","content":"hi"}],"temperature":0.1}"#,
            r#"{"messages":[{"role":"user","content":"hi"}],"temperature":0,"n":2}"#,
            r#"{"messages":[{"role":"user","content":"hi","user":"u"}],"temperature":0}"#,
            r#"{"messages":[{"role":"system","content":"x"},{"role":"user","content":"hi"}],"temperature":0}"#,
        ] {
            assert!(
                of(other).is_some_and(|other| Some(other) != plain),
                "{other}"
            );
        }
    }

    #[test]
    fn the_scope_counts() {
        let body = br#"{"messages":[]}"#;
        let targets = ["p".to_owned()];
        let scopes = [
            SCOPE,
            Scope {
                door: "qwen",
                ..SCOPE
            },
            Scope {
                key_id: Some("k"),
                ..SCOPE
            },
            Scope {
                key_id: Some(""),
                ..SCOPE
            },
            Scope {
                model: Some("n"),
                ..SCOPE
            },
            Scope {
                preferred: Some("p"),
                ..SCOPE
            },
            Scope {
                targets: &targets,
                ..SCOPE
            },
        ];
        let prints: std::collections::BTreeSet<_> = scopes
            .iter()
            .map(|scope| fingerprint(body, scope).unwrap())
            .collect();
        assert_eq!(prints.len(), scopes.len());
    }

    #[test]
    fn the_form_counts_where_only_it_can_tell_the_answer() {
        let print = |body: &str, stream| {
            let scope = Scope { stream, ..SCOPE };
            fingerprint(body.as_bytes(), &scope).unwrap()
        };
        for free in [r#"{"messages":[]}"#, r#"{"messages":[],"logprobs":false}"#] {
            assert_eq!(print(free, true), print(free, false), "{free}");
        }
        let bound = r#"{"messages":[],"logprobs":true}"#;
        assert_ne!(print(bound, true), print(bound, false));
    }

    #[test]
    fn what_can_be_read_in_two_ways_has_no_fingerprint() {
        for body in [
            r#"{"messages":[],"messages":[1]}"#,
            r#"{"messages":[{"content":"a","content":"b"}]}"#,
            r#"{"seed":123456789012345678901234567890}"#,
            "[]",
            "{",
        ] {
            assert_eq!(of(body), None, "{body}");
        }
        assert_ne!(
            of(r#"{"seed":18446744073709551615}"#),
            of(r#"{"seed":18446744073709551614}"#)
        );
    }

    #[test]
    fn temperature_0_is_a_number() {
        for (body, is) in [
            (r#"{"temperature":0}"#, true),
            (
                r#"{"messages":[{"temperature":1}],"temperature":0.0}"#,
                true,
            ),
            (r#"{"temperature":0.01}"#, false),
            (r#"{"temperature":"0"}"#, false),
            (r#"{"temperature":null}"#, false),
            (r#"{"temperature":0,"temperature":1}"#, false),
            (r#"{"messages":[{"temperature":0}]}"#, false),
        ] {
            assert_eq!(is_deterministic(body.as_bytes()), is, "{body}");
        }
    }
}
