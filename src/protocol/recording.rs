//! A recorded exchange: what went over the wire on both sides and when, as a document that stands for itself.
//!
//! The same document is stored, handed out, and read back by a replay. It holds no secret: of headers only the names are
//! kept and a few harmless values, and what an upstream echoes of a secret is blanked ([`Recording::blank`]).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::protocol::dialect::{Dialect, Original};

/// Version of the document. Goes up with every change that an older reader would misunderstand.
pub(crate) const FORMAT: u32 = 2;
/// The oldest that is still read: it had the chat form of a request only, and of its answer.
const OLDEST: u32 = 1;

/// One exchange. Times are milliseconds: `recorded_at` since 1970, the others since the beginning of the exchange or of
/// the attempt. Has no `Debug`: bodies are never logged.
#[derive(Serialize, Deserialize)]
pub(crate) struct Recording {
    pub(crate) format: u32,
    /// The version that recorded it.
    pub(crate) qwarden: String,
    pub(crate) request_id: String,
    pub(crate) recorded_at: i64,
    pub(crate) path: String,
    /// There was more than may be recorded: what came later is missing.
    pub(crate) cut: bool,
    /// Settings that have a say in what the client gets.
    pub(crate) settings: BTreeMap<String, serde_json::Value>,
    /// What the client asked, as a chat request; none when it was too long.
    pub(crate) request: Option<Box<RawValue>>,
    /// What it sent, where that was no chat request; its dialect is that of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) original: Option<Sent>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) client: Received,
}

/// A request as its client sent it.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Sent {
    pub(crate) body: Box<RawValue>,
    /// What an upstream of the same dialect was sent, where that is not the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) native: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) beta: Option<String>,
    /// Unix seconds.
    pub(crate) created: i64,
}

impl Sent {
    /// None where it is no JSON.
    pub(crate) fn of(original: &Original) -> Option<Self> {
        let json = |bytes: &Bytes| serde_json::from_slice::<Box<RawValue>>(bytes).ok();
        Some(Self {
            body: json(&original.body)?,
            native: original.native.as_ref().and_then(json),
            beta: original.beta.clone(),
            created: original.created,
        })
    }

    pub(crate) fn original(&self) -> Original {
        let bytes = |json: &RawValue| Bytes::from(json.get().to_owned());
        Original {
            body: bytes(&self.body),
            native: self.native.as_deref().map(bytes),
            beta: self.beta.clone(),
            created: self.created,
        }
    }
}

/// One try at a target.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) provider: String,
    pub(crate) kind: String,
    /// What the provider speaks beside chat completions, or instead of them.
    #[serde(default)]
    pub(crate) dialect: Dialect,
    pub(crate) upstream_model: String,
    pub(crate) calls: Vec<Call>,
}

/// What a call to an upstream is for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// The completion itself.
    Completion,
    /// Opens a chat at the Qwen site.
    NewChat,
    /// Asks the Qwen site for a chat whose answer broke off.
    Chat,
    /// Asks the Qwen site for such an answer once more, from its beginning.
    Resume,
}

/// One request to an upstream, and its answer.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Call {
    pub(crate) purpose: Purpose,
    /// Which of the user's logins made it, counted from 0 in the order of their use.
    pub(crate) login: Option<usize>,
    /// What is not in the bytes, of a completion at the Qwen site.
    pub(crate) turn: Option<Turn>,
    /// Since the attempt began.
    pub(crate) at_ms: u64,
    pub(crate) deadlines: Limits,
    pub(crate) method: String,
    /// Values of harmless headers only.
    pub(crate) request_headers: BTreeMap<String, Option<String>>,
    pub(crate) request: Option<Box<RawValue>>,
    /// None when there was none.
    pub(crate) response: Option<Response>,
    /// Why there was none; without either nobody waited any longer.
    pub(crate) failure: Option<Failure>,
}

/// How a turn of a chat was asked.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The name of the notation for calls.
    pub(crate) notation: String,
    /// The chat was known already.
    pub(crate) continues: bool,
}

/// The clocks a call ran under.
#[derive(Serialize, Deserialize, Clone, Copy)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields of a file name their unit"
)]
pub(crate) struct Limits {
    pub(crate) connect_ms: u64,
    pub(crate) first_byte_ms: u64,
    pub(crate) idle_ms: u64,
}

/// Why a call got no answer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "what", content = "reason")]
pub(crate) enum Failure {
    ConnectTimeout,
    Connect(String),
    Cut(String),
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Of a few harmless headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// Since the attempt began.
    pub(crate) at_ms: u64,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) end: End,
}

/// How a body ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "what", content = "reason")]
pub(crate) enum End {
    Whole,
    Broken(String),
    /// Nobody read on: the answer was over, the client gone, or the upstream silent for too long.
    Left,
}

/// One read of a body, or one piece that was sent.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Chunk {
    pub(crate) at_ms: u64,
    pub(crate) data: Data,
}

/// In a document base64. In the database a length: the bytes stand behind the document there, where they pack well.
#[derive(Clone)]
pub(crate) enum Data {
    Here(Bytes),
    Behind(usize),
}

impl Data {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Behind(_) => &[],
        }
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Here(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Self::Behind(length) => length.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Base64(String),
            Length(usize),
        }
        match Written::deserialize(deserializer)? {
            Written::Length(length) => Ok(Self::Behind(length)),
            Written::Base64(text) => STANDARD
                .decode(text)
                .map(|bytes| Self::Here(bytes.into()))
                .map_err(serde::de::Error::custom),
        }
    }
}

/// What the client was sent.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Received {
    pub(crate) form: Form,
    pub(crate) status: u16,
    pub(crate) outcome: String,
    pub(crate) chunks: Vec<Chunk>,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Form {
    /// Server-sent events.
    Events,
    /// A JSON document on each line.
    Lines,
    /// One document.
    Whole,
    /// An error instead of an answer: its code and message.
    Refused,
    /// Nothing: the client left before.
    Nothing,
}

/// Why a document is no recording, or none of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unreadable {
    #[error("it is no recording: {0}")]
    Malformed(String),
    #[error("it is a recording of format {0}, and this qwarden reads {FORMAT}")]
    Format(u64),
}

impl Recording {
    /// Of an exchange that begins.
    pub(crate) fn begun(
        request_id: &str,
        path: &str,
        recorded_at: i64,
        settings: BTreeMap<String, serde_json::Value>,
    ) -> Self {
        Self {
            format: FORMAT,
            qwarden: env!("CARGO_PKG_VERSION").into(),
            request_id: request_id.to_owned(),
            recorded_at,
            path: path.to_owned(),
            cut: false,
            settings,
            request: None,
            original: None,
            attempts: Vec::new(),
            client: Received {
                form: Form::Nothing,
                status: 0,
                outcome: String::new(),
                chunks: Vec::new(),
            },
        }
    }

    /// Reads a document.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Unreadable> {
        let mut recording = Self::parse(text)?;
        if recording.all_chunks().any(|chunks| {
            chunks
                .iter()
                .any(|chunk| matches!(chunk.data, Data::Behind(_)))
        }) {
            return Err(Unreadable::Malformed("a chunk is not base64".into()));
        }
        Ok(recording)
    }

    fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u64,
        }
        let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
        let version: Versioned = serde_json::from_slice(text).map_err(malformed)?;
        if !(u64::from(OLDEST)..=u64::from(FORMAT)).contains(&version.format) {
            return Err(Unreadable::Format(version.format));
        }
        serde_json::from_slice(text).map_err(malformed)
    }

    /// The document, its length before it, and the bytes of all chunks behind it.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        let mut behind = Vec::new();
        for chunk in self.all_chunks().flat_map(|chunks| chunks.iter_mut()) {
            if let Data::Here(bytes) = &chunk.data {
                behind.extend_from_slice(bytes);
                chunk.data = Data::Behind(bytes.len());
            }
        }
        // The document holds nothing that cannot be JSON.
        let document = serde_json::to_vec(&self).unwrap_or_default();
        let mut bytes = Vec::with_capacity(8 + document.len() + behind.len());
        let length = u64::try_from(document.len()).unwrap_or_default();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&document);
        bytes.extend_from_slice(&behind);
        bytes
    }

    /// What [`Self::into_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &Bytes) -> Result<Self, Unreadable> {
        let damaged = || Unreadable::Malformed("its bytes are damaged".into());
        let (length, _) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
        let end = length.checked_add(8).ok_or_else(damaged)?;
        let mut recording = Self::parse(bytes.get(8..end).ok_or_else(damaged)?)?;
        let mut rest = bytes.slice(end..);
        for chunk in recording.all_chunks().flat_map(|chunks| chunks.iter_mut()) {
            if let Data::Behind(length) = chunk.data {
                if length > rest.len() {
                    return Err(damaged());
                }
                chunk.data = Data::Here(rest.split_to(length));
            }
        }
        Ok(recording)
    }

    /// Writes asterisks over every occurrence of `secrets`, across chunks too: an upstream may echo what it was sent.
    pub(crate) fn blank<S: AsRef<[u8]>>(&mut self, secrets: &[S]) {
        if secrets.is_empty() {
            return;
        }
        for chunks in self.all_chunks() {
            blank_chunks(chunks, secrets);
        }
        blank_json(&mut self.request, secrets);
        if let Some(sent) = self.original.take() {
            let mut body = Some(sent.body);
            blank_json(&mut body, secrets);
            let mut native = sent.native;
            blank_json(&mut native, secrets);
            // Without its body it says nothing.
            self.original = body.map(|body| Sent {
                body,
                native,
                ..sent
            });
        }
        for call in self
            .attempts
            .iter_mut()
            .flat_map(|attempt| &mut attempt.calls)
        {
            blank_json(&mut call.request, secrets);
            if let Some(Failure::Connect(reason) | Failure::Cut(reason)) = &mut call.failure {
                blank_text(reason, secrets);
            }
            if let Some(response) = &mut call.response {
                response
                    .headers
                    .values_mut()
                    .for_each(|value| blank_text(value, secrets));
                if let End::Broken(reason) = &mut response.end {
                    blank_text(reason, secrets);
                }
            }
        }
    }

    /// The chunks of every body, in a fixed order.
    fn all_chunks(&mut self) -> impl Iterator<Item = &mut Vec<Chunk>> {
        let upstream = self
            .attempts
            .iter_mut()
            .flat_map(|attempt| &mut attempt.calls)
            .filter_map(|call| call.response.as_mut())
            .map(|response| &mut response.chunks);
        upstream.chain(std::iter::once(&mut self.client.chunks))
    }
}

fn blanked<S: AsRef<[u8]>>(bytes: &[u8], secrets: &[S]) -> Option<Vec<u8>> {
    let mut blanked: Option<Vec<u8>> = None;
    for secret in secrets {
        let secret = secret.as_ref();
        for at in memmem::find_iter(bytes, secret) {
            let copy = blanked.get_or_insert_with(|| bytes.to_vec());
            if let Some(found) = copy.get_mut(at..at + secret.len()) {
                found.fill(b'*');
            }
        }
    }
    blanked
}

fn blank_chunks<S: AsRef<[u8]>>(chunks: &mut [Chunk], secrets: &[S]) {
    let whole: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk.data.bytes())
        .copied()
        .collect();
    let Some(whole) = blanked(&whole, secrets) else {
        return;
    };
    let mut rest = Bytes::from(whole);
    for chunk in chunks {
        chunk.data = Data::Here(rest.split_to(chunk.data.bytes().len().min(rest.len())));
    }
}

fn blank_text<S: AsRef<[u8]>>(text: &mut String, secrets: &[S]) {
    if let Some(bytes) = blanked(text.as_bytes(), secrets) {
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }
}

/// A secret that is no part of a string leaves no JSON behind: then nothing is kept.
fn blank_json<S: AsRef<[u8]>>(json: &mut Option<Box<RawValue>>, secrets: &[S]) {
    let found = json
        .as_ref()
        .and_then(|json| blanked(json.get().as_bytes(), secrets));
    if let Some(bytes) = found {
        *json = String::from_utf8(bytes)
            .ok()
            .and_then(|text| RawValue::from_string(text).ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> Chunk {
        Chunk {
            at_ms: 3,
            data: Data::Here(Bytes::copy_from_slice(text.as_bytes())),
        }
    }

    fn sample() -> Recording {
        Recording {
            format: FORMAT,
            qwarden: "0".into(),
            request_id: "r".into(),
            recorded_at: 1,
            path: "/v1/chat/completions".into(),
            cut: false,
            settings: BTreeMap::new(),
            request: RawValue::from_string("{\"say\":\n \"sk-planted\"}".into()).ok(),
            original: None,
            attempts: vec![Attempt {
                number: 1,
                provider: "p".into(),
                kind: "generic-openai".into(),
                dialect: Dialect::Chat,
                upstream_model: "m".into(),
                calls: vec![Call {
                    purpose: Purpose::Completion,
                    login: None,
                    turn: None,
                    at_ms: 0,
                    deadlines: Limits {
                        connect_ms: 1,
                        first_byte_ms: 2,
                        idle_ms: 3,
                    },
                    method: "POST".into(),
                    request_headers: BTreeMap::new(),
                    request: None,
                    response: Some(Response {
                        status: 200,
                        headers: BTreeMap::new(),
                        at_ms: 2,
                        chunks: vec![chunk("your key sk-pla"), chunk(""), chunk("nted is wrong")],
                        end: End::Broken("with sk-planted".into()),
                    }),
                    failure: None,
                }],
            }],
            client: Received {
                form: Form::Events,
                status: 200,
                outcome: "failed".into(),
                chunks: vec![chunk("sk-planted")],
            },
        }
    }

    #[test]
    fn a_recording_comes_back_as_it_was() {
        let document = serde_json::to_string(&sample()).unwrap();
        let again = Recording::read(document.as_bytes()).ok().unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), document);
        let stored = Recording::from_bytes(&again.into_bytes().into())
            .ok()
            .unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), document);
    }

    #[test]
    fn what_is_no_recording_is_told_why() {
        let read = |text: &str| Recording::read(text.as_bytes()).err();
        assert!(matches!(read("{}"), Some(Unreadable::Malformed(_))));
        assert_eq!(read("{\"format\": 7}"), Some(Unreadable::Format(7)));
        let document = serde_json::to_string(&sample()).unwrap();
        let behind = document.replace("\"data\":\"\"", "\"data\":5");
        assert_ne!(document, behind);
        assert!(matches!(read(&behind), Some(Unreadable::Malformed(_))));
        let mut short = sample().into_bytes();
        short.pop();
        assert!(Recording::from_bytes(&short.into()).is_err());
        assert!(
            Recording::from_bytes(&Bytes::from_static(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"))
                .is_err()
        );
    }

    #[test]
    fn an_echoed_secret_is_blanked_wherever_the_chunks_part_it() {
        let mut recording = sample();
        recording.blank(&["sk-planted"]);
        let bytes = recording.into_bytes();
        for part in ["sk-pla", "planted"] {
            assert!(memmem::find(&bytes, part.as_bytes()).is_none(), "{part}");
        }
        let recording = Recording::from_bytes(&bytes.into()).ok().unwrap();
        assert_eq!(recording.client.chunks[0].data.bytes(), b"**********");
        assert_eq!(
            recording.request.unwrap().get(),
            "{\"say\":\n \"**********\"}"
        );
    }
}
