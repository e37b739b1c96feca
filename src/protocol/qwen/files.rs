//! Images and files of a message: the grant to upload them, its signature, and their entry in the turn
//! (qwen-web-protocol, A8).

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::refusal::{self, Refusal, RefusalKind};
use crate::hex;

/// What the signature says of the body: that it is not part of it.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The right to store one file. Without `Debug`: it holds a secret.
pub(crate) struct Grant {
    id: String,
    secret: String,
    token: String,
    /// Where the file will be.
    file_url: String,
    file_path: String,
    file_id: String,
    bucket: String,
    /// As `oss-ap-southeast-1`.
    region: String,
}

/// A signed upload. Without `Debug`: its headers are secrets.
pub(crate) struct Upload {
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// What a file is, in the site's words.
pub(crate) fn kind(media_type: &str) -> &'static str {
    match media_type.split('/').next() {
        Some("image") => "image",
        Some("video") => "video",
        Some("audio") => "audio",
        _ => "file",
    }
}

/// Asks for a grant. `size` in bytes.
pub(crate) fn grant_request(name: &str, size: usize, media_type: &str) -> Value {
    json!({"filename": name, "filesize": size, "filetype": kind(media_type)})
}

/// Asks for a stored document to be read.
pub(crate) fn parse_request(file_id: &str) -> Value {
    json!({"file_id": file_id})
}

/// Asks whether documents have been read.
pub(crate) fn parse_state_request(file_id: &str) -> Value {
    json!({"file_id_list": [file_id]})
}

/// How far the site is with the reading of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsing {
    UnderWay,
    Done,
    Failed,
}

/// Reads the answer; what says nothing of a state is not waited for.
pub(crate) fn parsing(body: &[u8]) -> Parsing {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    if refusal::from_value(&value).is_some() {
        return Parsing::Failed;
    }
    let data = value.get("data").unwrap_or(&value);
    let entry = data.get(0).unwrap_or(data);
    match entry.get("status").and_then(Value::as_str) {
        Some("failed" | "error") => Parsing::Failed,
        Some("success" | "done" | "completed" | "finished") | None => Parsing::Done,
        Some(_) => Parsing::UnderWay,
    }
}

impl Grant {
    /// The file's id at the site.
    pub(crate) fn file_id(&self) -> &str {
        &self.file_id
    }

    /// Reads the answer, flat or in the envelope of v2.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if let Some(refusal) = refusal::from_value(&value) {
            return Err(refusal);
        }
        let grant = value
            .get("data")
            .filter(|data| data.is_object())
            .unwrap_or(&value);
        let text = |key: &str| grant.get(key).and_then(Value::as_str).map(str::to_owned);
        let read = || {
            Some(Self {
                id: text("access_key_id")?,
                secret: text("access_key_secret")?,
                token: text("security_token")?,
                file_url: text("file_url")?,
                file_path: text("file_path")?,
                file_id: text("file_id")?,
                bucket: text("bucketname")?,
                region: text("region")?,
            })
        };
        read().ok_or_else(|| Refusal {
            kind: RefusalKind::BadAnswer,
            message: "the site's grant for an upload is of no known shape".into(),
            retry_after_s: None,
        })
    }

    /// The upload with its OSS V4 signature. `now` is UTC as `YYYYMMDDTHHMMSSZ`.
    pub(crate) fn sign(&self, media_type: &str, now: &str) -> Upload {
        let day = now.split('T').next().unwrap_or_default();
        let region = self.region.trim_start_matches("oss-");
        let scope = format!("{day}/{region}/oss/aliyun_v4_request");
        let signed = [
            ("content-type", media_type),
            ("x-oss-content-sha256", UNSIGNED),
            ("x-oss-date", now),
            ("x-oss-security-token", self.token.as_str()),
        ];
        let mut headers = String::new();
        for (name, value) in signed {
            let _ = writeln!(headers, "{name}:{value}");
        }
        let path = encoded(&format!("/{}/{}", self.bucket, self.file_path));
        let request = format!("PUT\n{path}\n\n{headers}\n\n{UNSIGNED}");
        let digest = hex::encode(&Sha256::digest(request.as_bytes()));
        let to_sign = format!("OSS4-HMAC-SHA256\n{now}\n{scope}\n{digest}");
        let key = [day, region, "oss", "aliyun_v4_request"].into_iter().fold(
            format!("aliyun_v4{}", self.secret).into_bytes(),
            |key, part| mac(&key, part.as_bytes()),
        );
        let signature = hex::encode(&mac(&key, to_sign.as_bytes()));
        let mut headers: Vec<(&'static str, String)> = signed
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        headers.push((
            "authorization",
            format!(
                "OSS4-HMAC-SHA256 Credential={}/{scope},Signature={signature}",
                self.id
            ),
        ));
        Upload {
            url: self
                .file_url
                .split('?')
                .next()
                .unwrap_or_default()
                .to_owned(),
            headers,
        }
    }

    /// The stored file as an entry of a turn's `files`. `item_id` and `task_id` are ids that we make.
    pub(crate) fn entry(
        &self,
        name: &str,
        size: usize,
        media_type: &str,
        (item_id, task_id): (&str, &str),
        now_ms: i64,
    ) -> Value {
        let kind = kind(media_type);
        let class = match kind {
            "image" => "vision",
            "file" => "document",
            other => other,
        };
        json!({
            "type": kind,
            "file": {
                "id": self.file_id,
                "filename": name,
                "created_at": now_ms,
                "update_at": now_ms,
                "hash": null,
                "data": {},
                "meta": {"name": name, "size": size, "content_type": media_type},
            },
            "id": self.file_id,
            "url": self.file_url,
            "name": name,
            "collection_name": "",
            "progress": 0,
            "status": "uploaded",
            "greenNet": "success",
            "size": size,
            "error": "",
            "itemId": item_id,
            "uploadTaskId": task_id,
            "file_type": media_type,
            "showType": kind,
            "file_class": class,
        })
    }
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        Err(_) => Vec::new(),
    }
}

/// A path for the signature: all but unreserved characters and slashes as `%XX`.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
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

    /// The signature was computed with another implementation of HMAC and SHA-256 (Python's standard library).
    #[test]
    fn an_upload_is_signed() {
        for body in [
            &fixture!("ststoken-v1.json")[..],
            fixture!("ststoken-v2.json"),
        ] {
            let grant = Grant::read(body).unwrap_or_else(|refusal| panic!("{refusal:?}"));
            let upload = grant.sign("image/png", "20261123T080000Z");
            assert_eq!(
                upload.url,
                "https://bucket.oss-ap-southeast-1.example.invalid/u/f.png"
            );
            let authorization = &upload.headers.last().expect("a signature").1;
            assert_eq!(
                authorization,
                "OSS4-HMAC-SHA256 Credential=STS.EXAMPLEID/20261123/ap-southeast-1/oss/aliyun_v4_request,\
                 Signature=9eafe4e826fc50ecf51298724c7d0c4bc5a591a011da8307d7a519f3690378d8"
            );
        }
        assert_eq!(encoded("/b/ä b+c"), "/b/%C3%A4%20b%2Bc");
    }

    #[test]
    fn an_entry_says_what_it_is() {
        let grant = Grant::read(fixture!("ststoken-v1.json"))
            .unwrap_or_else(|refusal| panic!("{refusal:?}"));
        for (media_type, kind, class) in [
            ("image/png", "image", "vision"),
            ("application/pdf", "file", "document"),
            ("audio/wav", "audio", "audio"),
        ] {
            let entry = grant.entry("f", 3, media_type, ("i", "t"), 7);
            assert_eq!(
                (&entry["type"], &entry["file_class"], &entry["size"]),
                (&json!(kind), &json!(class), &json!(3))
            );
            assert_eq!(grant_request("f", 3, media_type)["filetype"], kind);
        }
        assert!(Grant::read(b"{}").is_err());
        assert!(Grant::read(fixture!("unauthorized.json")).is_err());
    }
}
