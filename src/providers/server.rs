//! A configured server and the way to it: what the adapters share, whatever they speak.

use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Client, RequestBuilder, Response, Url};
use secrecy::SecretString;
use tokio::time::timeout;

use super::config::Settings;
use super::error::{Phase, UpstreamError};
use super::http::Http;
use super::openai::read_models;
use super::response;
use super::tape::{Sending, Tape};
use super::{Deadlines, UpstreamModel};
use crate::limits::upstreams::{LIST_CONNECT, MODELS_LIMIT};
use crate::protocol::recording::Purpose;

/// Puts in a request's head what its dialect wants there, the key among it.
pub(super) type Sign = fn(RequestBuilder, Option<&SecretString>) -> RequestBuilder;

pub(super) struct Server {
    pub(super) settings: Settings,
    http: Http,
    sign: Sign,
}

impl Server {
    pub(super) fn new(settings: Settings, http: Http, sign: Sign) -> Self {
        Self {
            settings,
            http,
            sign,
        }
    }

    pub(super) fn client(&self, url: &Url, deadlines: Deadlines) -> Result<Client, UpstreamError> {
        self.http
            .client_for(
                self.settings.kind,
                url,
                deadlines.connect,
                self.settings.authority.as_ref(),
            )
            .map_err(|reason| UpstreamError::Connect {
                provider: self.id(),
                reason,
            })
    }

    /// Sends a request and waits for the head of its answer. What is no success is an error.
    pub(super) async fn send(
        &self,
        (tape, purpose): (&Tape, Option<Purpose>),
        request: RequestBuilder,
        deadlines: Deadlines,
    ) -> Result<Response, UpstreamError> {
        let signed = (self.sign)(request, self.settings.key.as_ref());
        // The configured headers come last: what a vendor wants instead of the key is said there.
        let request = signed.headers(self.settings.headers.clone());
        let sending = Sending {
            provider: &self.settings.id,
            purpose,
            login: None,
            turn: None,
            deadlines,
        };
        let response = tape.send(sending, request).await?;
        if !response.status().is_success() {
            return Err(response::status_error(self.id(), response).await);
        }
        Ok(response)
    }

    /// Asks for the models at `list`.
    pub(super) async fn models(
        &self,
        list: Url,
        deadline: Duration,
    ) -> Result<Vec<UpstreamModel>, UpstreamError> {
        let deadlines = Deadlines {
            connect: deadline.min(LIST_CONNECT),
            first_byte: deadline,
            idle: deadline,
        };
        let exchange = async {
            let client = self.client(&list, deadlines)?;
            let request = client.get(list).header(ACCEPT, "application/json");
            let unheard = Tape::default();
            let mut response = self.send((&unheard, None), request, deadlines).await?;
            let body =
                response::collect(&self.settings.id, &mut response, MODELS_LIMIT, deadline).await?;
            read_models(&body).ok_or_else(|| {
                let what = "the list of models is not JSON of the expected shape";
                response::not_an_answer(self.id(), &body, what)
            })
        };
        timeout(deadline, exchange).await.unwrap_or_else(|_| {
            Err(UpstreamError::Timeout {
                provider: self.id(),
                phase: Phase::FirstByte,
                after: deadline,
            })
        })
    }

    pub(super) fn deadlines(&self, given: Deadlines) -> Deadlines {
        match self.settings.timeout {
            Some(timeout) => Deadlines {
                first_byte: timeout,
                idle: timeout,
                ..given
            },
            None => given,
        }
    }

    pub(super) fn id(&self) -> String {
        self.settings.id.clone()
    }

    pub(super) fn malformed(&self, reason: String) -> UpstreamError {
        UpstreamError::Malformed {
            provider: self.id(),
            reason,
        }
    }
}
