//! The images and files of messages, stored at the site before the message that shows them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::{compact_utc, new_id, now_ms};
use crate::exchange::qwen::{malformed, refused::invalid};
use crate::limits::qwen::{LARGEST_UPLOAD, MOST_UPLOADS, PARSE_PAUSES, UPLOADS_KEPT};
use crate::protocol::openai::message::{Attachment, Message, attachments};
use crate::protocol::qwen::files::{self, Grant, Parsing};
use crate::protocol::qwen::refusal::{self, Refusal, RefusalKind};
use crate::providers::qwen::{Answered, Login, Site};
use crate::providers::{Deadlines, UpstreamError};
use crate::tasks::lock;

/// What was stored lately, by account and content.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<Key, (Instant, Value)>>);

/// An account and the SHA-256 of a file.
type Key = (String, [u8; 32]);

impl Uploads {
    /// The `files` entries for all that `messages` show, each stored once. The inner error is the site's refusal.
    pub(crate) async fn store(
        &self,
        site: &Site,
        login: &Arc<Login>,
        messages: &[Message],
        deadlines: Deadlines,
    ) -> Result<Result<Vec<Value>, Refusal>, UpstreamError> {
        let mut entries = Vec::new();
        for (number, attachment) in (1..).zip(attachments(messages)) {
            let Attachment::Inline {
                media_type,
                data,
                name,
            } = attachment
            else {
                return Err(invalid(
                    "Qwen takes images as data only: send them as a data URL (data:image/png;base64,...) instead of a \
                     web address",
                ));
            };
            if data.len() > LARGEST_UPLOAD {
                return Err(invalid(&format!(
                    "a file of a message is larger than {LARGEST_UPLOAD} bytes"
                )));
            }
            let key = (login.account(), <[u8; 32]>::from(Sha256::digest(data)));
            if let Some(entry) = self.known(&key) {
                entries.push(entry);
                continue;
            }
            let made_up = || format!("file-{number}.{}", extension(media_type));
            let name = name.clone().unwrap_or_else(made_up);
            let file = (name.as_str(), media_type.as_str(), data.as_slice());
            match upload(site, login, file, deadlines).await? {
                Ok(entry) => {
                    self.keep(key, entry.clone());
                    entries.push(entry);
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Ok(entries))
    }

    fn known(&self, key: &Key) -> Option<Value> {
        let kept = lock(&self.0);
        let (at, entry) = kept.get(key)?;
        (at.elapsed() < UPLOADS_KEPT).then(|| entry.clone())
    }

    fn keep(&self, key: Key, entry: Value) {
        let mut kept = lock(&self.0);
        if kept.len() >= MOST_UPLOADS {
            kept.retain(|_, (at, _)| at.elapsed() < UPLOADS_KEPT);
        }
        if kept.len() < MOST_UPLOADS {
            kept.insert(key, (Instant::now(), entry));
        }
    }
}

async fn upload(
    site: &Site,
    login: &Arc<Login>,
    (name, media_type, data): (&str, &str, &[u8]),
    deadlines: Deadlines,
) -> Result<Result<Value, Refusal>, UpstreamError> {
    let request = files::grant_request(name, data.len(), media_type);
    let Answered::Document {
        status,
        content_type,
        body,
    } = site.grant(login, &request, deadlines).await?
    else {
        return Err(malformed("a stream instead of a grant"));
    };
    if let Some(refusal) = refusal::classify(status, content_type.as_deref(), &body) {
        return Ok(Err(refusal));
    }
    let grant = match Grant::read(&body) {
        Ok(grant) => grant,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let signed = grant.sign(media_type, &compact_utc(now_ms()));
    let stored = site.put(
        &signed.url,
        &signed.headers,
        Bytes::copy_from_slice(data),
        deadlines,
    );
    let status = stored.await?;
    if !(200..300).contains(&status) {
        return Ok(Err(Refusal {
            kind: RefusalKind::Internal,
            message: format!("the site's store answered {status} to an upload"),
            retry_after_s: None,
        }));
    }
    if files::kind(media_type) == "file" {
        parse(site, login, grant.file_id()).await;
    }
    let ids = (new_id(), new_id());
    Ok(Ok(grant.entry(
        name,
        data.len(),
        media_type,
        (&ids.0, &ids.1),
        now_ms(),
    )))
}

/// Has a document read. The message is sent in any case: one implementation alone is known to do this (annex A8), and a
/// site that does without must not be kept from answering.
async fn parse(site: &Site, login: &Arc<Login>, file_id: &str) {
    let request = files::parse_request(file_id);
    if !matches!(
        site.parse(login, &request).await,
        Ok(Answered::Document { status: 200, .. })
    ) {
        tracing::info!("the site was not asked to read a document");
        return;
    }
    let request = files::parse_state_request(file_id);
    for pause in PARSE_PAUSES {
        site.pause(pause).await;
        let Ok(Answered::Document { body, .. }) = site.parse_state(login, &request).await else {
            return;
        };
        match files::parsing(&body) {
            Parsing::UnderWay => {}
            Parsing::Done => return,
            Parsing::Failed => {
                tracing::warn!("the site could not read a document");
                return;
            }
        }
    }
    tracing::warn!(
        "the site is still reading a document; its message is sent without waiting longer"
    );
}

/// The end of a made-up name.
fn extension(media_type: &str) -> &str {
    match media_type {
        "image/jpeg" => "jpg",
        "text/plain" => "txt",
        other => other
            .rsplit('/')
            .next()
            .filter(|end| end.len() <= 8 && end.chars().all(|c| c.is_ascii_alphanumeric()))
            .unwrap_or("bin"),
    }
}
