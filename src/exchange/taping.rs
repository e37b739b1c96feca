//! Which exchanges are recorded, and the recording of one until it is stored.

use std::collections::BTreeMap;

use crate::actors::router::target::Target;
use crate::clock::now_ms;
use crate::db::history::ExchangeStatus;
use crate::db::recordings::Packed;
use crate::exchange::record::Subject;
use crate::exchange::told_as::telling;
use crate::protocol::dialect::{Original, Retelling};
use crate::protocol::openai::request::ChatRequest;
use crate::protocol::recording::{Attempt, Recording};
use crate::providers::Record;
use crate::providers::tape::Tape;
use crate::settings::{self, Settings};

/// Settings that have a say in what a client gets of an upstream's bytes.
pub(crate) const DECISIVE: [&str; 2] = [settings::TOOLS_STREAMING, settings::TOOLS_REPEAT];

/// See the module.
pub(crate) struct Taping {
    /// Of providers that say nothing themselves.
    general: Record,
    /// The client asked for it: that beats every configuration.
    is_asked: bool,
    most: usize,
    settings: BTreeMap<String, serde_json::Value>,
    request_id: String,
    path: &'static str,
    original: Option<Original>,
    tape: Tape,
    /// The strongest word of the providers that were tried.
    keep: Record,
}

impl Taping {
    pub(crate) fn new(settings: &Settings, subject: &Subject) -> Self {
        let general = settings
            .text(settings::HISTORY_RECORD)
            .and_then(Record::read);
        let decisive = DECISIVE.map(|key| (key.to_owned(), settings.value(key)));
        Self {
            general: general.unwrap_or(Record::Off),
            is_asked: subject.is_recorded,
            most: settings.size(settings::HISTORY_RECORD_MAX),
            settings: BTreeMap::from(decisive),
            request_id: subject.request_id.clone(),
            path: subject.path,
            original: subject.original.clone(),
            tape: Tape::default(),
            keep: Record::Off,
        }
    }

    /// The tape for the next attempt; one that does nothing when it is not to be recorded.
    pub(crate) fn attempt(&mut self, number: u32, target: &Target, request: &ChatRequest) -> Tape {
        let word = if self.is_asked {
            Record::All
        } else {
            target.record.unwrap_or(self.general)
        };
        if word == Record::Off {
            return Tape::default();
        }
        self.keep = self.keep.max(word);
        if !self.tape.is_on() {
            let settings = std::mem::take(&mut self.settings);
            let recording = Recording::begun(&self.request_id, self.path, now_ms(), settings);
            let told_as = self.original.take().and_then(|original| {
                let telling = telling(self.path, &original, &request.body, &self.request_id)?;
                Some((original, Retelling::new(telling)))
            });
            self.tape = Tape::recording(recording, request.body.clone(), told_as, self.most);
        }
        self.tape.attempt(Attempt {
            number,
            provider: target.provider.clone(),
            kind: target.adapter.kind().to_owned(),
            dialect: target.adapter.speaks(),
            upstream_model: target.upstream_model.clone(),
            calls: Vec::new(),
        });
        self.tape.clone()
    }

    /// The recording, if it is to be kept.
    pub(crate) fn finish(&self, status: ExchangeStatus, http_status: u16) -> Option<Packed> {
        let recording = self.tape.finish(http_status, status.as_str());
        let is_kept = match self.keep {
            Record::Off => false,
            Record::Failed => matches!(status, ExchangeStatus::Failed),
            Record::All => true,
        };
        recording.filter(|_| is_kept).map(Packed::of)
    }
}
