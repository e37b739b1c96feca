//! As much of the Chrome `DevTools` Protocol as a login needs, over a pipe: JSON, a zero byte after each message
//! (<https://chromedevtools.github.io/devtools-protocol/>). Commands are answered in any order, events come between.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::limits::browser::{ANSWERS, LOOKS};

/// The browser is gone, or does not answer, or nobody wants to wait for it any more.
#[derive(Debug)]
pub(super) struct Lost;

/// A message of a browser, at most; cookies of one site are a few kB.
const LONGEST: u64 = 8 << 20;

/// A cookie, as far as its site is sent of it.
#[derive(Deserialize, Serialize)]
pub(crate) struct Cookie {
    name: String,
    value: String,
}

impl Cookie {
    /// The site's sign of a login. A guest has `bx-umidtoken` and others, but not this.
    pub(super) fn is_token(&self) -> bool {
        self.name == "token" && !self.value.is_empty()
    }
}

pub(super) struct Devtools {
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    /// Set by who does not want to wait any longer.
    is_over: Arc<AtomicBool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    target_infos: Vec<TargetInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetInfo {
    target_id: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    session_id: String,
}

#[derive(Deserialize)]
struct Cookies {
    cookies: Vec<Cookie>,
}

impl Devtools {
    pub(super) fn new(browser: &mut Child, is_over: Arc<AtomicBool>) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let to = browser.stdin.take().ok_or_else(gone)?;
        let mut told = BufReader::new(browser.stdout.take().ok_or_else(gone)?);
        let (tell, from) = channel();
        // Ends with the browser: then there is nothing to read any more.
        std::thread::Builder::new()
            .name("browser".into())
            .spawn(move || {
                let mut message = Vec::new();
                loop {
                    message.clear();
                    let read = (&mut told).take(LONGEST).read_until(0, &mut message);
                    if read.is_err() || message.pop() != Some(0) {
                        return;
                    }
                    if let Ok(value) = serde_json::from_slice(&message)
                        && tell.send(value).is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(Self {
            to,
            from,
            next: 1,
            is_over,
        })
    }

    /// Cookies that the browser would send to `url`; none while it has no page.
    pub(super) fn cookies(&mut self, url: &str) -> Result<Vec<Cookie>, Lost> {
        let targets: Option<Targets> = self.ask(None, "Target.getTargets", &json!({}))?;
        let targets = targets.map(|targets| targets.target_infos);
        let mut targets = targets.into_iter().flatten();
        let Some(page) = targets.find(|target| target.kind == "page") else {
            return Ok(Vec::new());
        };
        let attach = json!({"targetId": page.target_id, "flatten": true});
        let Some(attached) = self.ask::<Attached>(None, "Target.attachToTarget", &attach)? else {
            return Ok(Vec::new());
        };
        let session = attached.session_id;
        let urls = json!({"urls": [url]});
        let cookies: Option<Cookies> = self.ask(Some(&session), "Network.getCookies", &urls)?;
        let detach = json!({"sessionId": session});
        let _: Option<Value> = self.ask(None, "Target.detachFromTarget", &detach)?;
        Ok(cookies.map(|cookies| cookies.cookies).unwrap_or_default())
    }

    pub(super) fn user_agent(&mut self) -> Result<Option<String>, Lost> {
        let version: Option<Value> = self.ask(None, "Browser.getVersion", &json!({}))?;
        let agent =
            version.and_then(|version| Some(version.get("userAgent")?.as_str()?.to_owned()));
        Ok(agent)
    }

    /// Asks it to end, and waits until it does, or `patience` is over.
    pub(super) fn end(&mut self, patience: Duration) {
        self.is_over = Arc::default();
        if self.tell(None, "Browser.close", &json!({})).is_ok() {
            // Its pipe ends with it.
            let _ = self.wait(patience);
        }
    }

    /// Lets time pass while the browser lives.
    pub(super) fn wait(&mut self, time: Duration) -> Result<(), Lost> {
        let until = Instant::now() + time;
        loop {
            match self.next_within(until)? {
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// None where the browser refuses: a page may have closed meanwhile.
    fn ask<A: serde::de::DeserializeOwned>(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: &Value,
    ) -> Result<Option<A>, Lost> {
        let id = self.tell(session, method, params)?;
        let until = Instant::now() + ANSWERS;
        while let Some(mut told) = self.next_within(until)? {
            if told["id"] == id {
                return Ok(serde_json::from_value(told["result"].take()).ok());
            }
        }
        Err(Lost)
    }

    /// Returns the number by which the answer is known.
    fn tell(&mut self, session: Option<&str>, method: &str, params: &Value) -> Result<u64, Lost> {
        let id = self.next;
        self.next += 1;
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut message = command.to_string().into_bytes();
        message.push(0);
        self.to.write_all(&message).map_err(|_| Lost)?;
        Ok(id)
    }

    fn next_within(&mut self, until: Instant) -> Result<Option<Value>, Lost> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.from.recv_timeout(left.min(LOOKS)) {
                Ok(told) => return Ok(Some(told)),
                Err(RecvTimeoutError::Disconnected) => return Err(Lost),
                Err(RecvTimeoutError::Timeout) if self.is_over.load(Ordering::Relaxed) => {
                    return Err(Lost);
                }
                Err(RecvTimeoutError::Timeout) if left <= LOOKS => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
