//! A request in the Responses dialect to a server that speaks it: sent as it came, answered as a chat.

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Url;

use crate::limits::upstreams::LONGEST_NATIVE_EVENT;
use crate::protocol::dialect::Dialect;
use crate::protocol::responses::names::Names;
use crate::protocol::responses::native::{self, Reading};
use crate::protocol::sse::Reader;
use crate::providers::{Answer, Call, UpstreamError};

/// What is sent, and what it takes to read the answer.
pub(super) struct Native<'a> {
    pub(super) url: &'a Url,
    pub(super) body: Bytes,
    names: Names,
}

impl<'a> Native<'a> {
    /// None where the request goes out as a chat request.
    pub(super) fn of(call: &Call, url: Option<&'a Url>) -> Option<Self> {
        let native = call
            .native
            .as_ref()
            .filter(|native| native.dialect == Dialect::Responses)?;
        Some(Self {
            url: url?,
            body: native::request(&native.body, &call.model)?,
            names: native::names(&native.body),
        })
    }

    /// Events of a response as those of a chat. What ends early here ends early there: the end marker is missing.
    pub(super) fn streamed(&self, answer: Answer, provider: String) -> Answer {
        let Answer::Stream {
            status,
            headers,
            bytes,
        } = answer
        else {
            return answer;
        };
        let mut reader = Reader::new(LONGEST_NATIVE_EVENT);
        let mut reading = Reading::new(self.names.clone());
        let told = bytes.map(move |piece| {
            let mut out = Vec::new();
            let frames = reader
                .push(&piece?)
                .map_err(|error| UpstreamError::Malformed {
                    provider: provider.clone(),
                    reason: error.to_string(),
                })?;
            for event in frames.into_iter().filter_map(|frame| frame.event) {
                if !event.data.is_empty() {
                    reading.event(&event.data, &mut out);
                }
            }
            Ok(Bytes::from(out))
        });
        Answer::Stream {
            status,
            headers,
            bytes: told.boxed(),
        }
    }

    /// A response as a chat completion; what is no JSON stays what it is.
    pub(super) fn whole(&self, body: Bytes) -> Bytes {
        native::whole(&body, &self.names).unwrap_or(body)
    }
}
