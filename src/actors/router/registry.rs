//! The providers as the router uses them: what is stored, and the adapter made from it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::actors::database::{Database, StoreError};
use crate::actors::router::sealing;
use crate::db::connections::Connection;
use crate::db::models;
use crate::db::providers::{StoredProvider, Unlinked};
use crate::db::virtual_models;
use crate::providers::echo::Echo;
use crate::providers::http::Http;
use crate::providers::qwen;
use crate::providers::{self, Definition, InvalidConfig, Provider, Record};
use crate::routing::node::Limits;
use crate::routing::virtuals::Virtuals;
use crate::secrets::Vault;

/// The Qwen web chat in this process. It is made from handles of actors, so it comes from above, once they exist.
pub(crate) type Direct = Arc<OnceLock<Arc<dyn Provider>>>;

/// What is stored, as it was at one moment.
pub(crate) struct Stored {
    providers: Vec<StoredProvider>,
    virtuals: Virtuals,
}

impl Stored {
    /// Reads links and the rest side by side. Whoever changes something in between has it all read again.
    pub(crate) async fn read(database: &Database) -> Result<Self, StoreError> {
        let rest = |conn: &Connection| Ok((virtual_models::all(conn)?, Unlinked::read(conn)?));
        let (links, rest) = tokio::join!(database.read(models::links), database.read(rest));
        let (virtuals, unlinked) = rest?;
        Ok(Self {
            providers: unlinked.linked(links?),
            virtuals: Virtuals::new(virtuals.into_iter().map(|row| row.model)),
        })
    }
}

/// All providers, by falling priority, the built-in echo, and the virtual models in front of them.
pub(crate) struct Registry {
    entries: Vec<Entry>,
    pub(crate) virtuals: Virtuals,
    pub(crate) echo: Arc<dyn Provider>,
}

/// One provider.
pub(crate) struct Entry {
    pub(crate) stored: StoredProvider,
    /// Why it cannot be used, when its configuration is not enough.
    pub(crate) adapter: Result<Arc<dyn Provider>, InvalidConfig>,
}

impl Registry {
    pub(crate) fn build(stored: Stored, http: &Http, direct: &Direct, vault: &Vault) -> Self {
        let entries = stored
            .providers
            .into_iter()
            .map(|mut stored| {
                if let Err(invalid) = sealing::open(vault, &mut stored) {
                    tracing::error!(
                        provider = stored.provider.id,
                        "a provider cannot be used: its secrets cannot be opened"
                    );
                    return Entry {
                        stored,
                        adapter: Err(invalid),
                    };
                }
                let definition = Definition {
                    id: stored.provider.id.clone(),
                    kind: stored.provider.kind.clone(),
                    config: stored
                        .config
                        .iter()
                        .map(|row| (row.key.clone(), row.value.clone()))
                        .collect(),
                };
                let adapter = match direct.get() {
                    Some(direct) if definition.kind == qwen::DIRECT => Ok(direct.clone()),
                    _ => providers::build(&definition, http),
                };
                Entry { stored, adapter }
            })
            .collect();
        Self {
            entries,
            virtuals: stored.virtuals,
            echo: Arc::new(Echo),
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) fn enabled(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.stored.provider.enabled)
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id() == id)
    }
}

impl Entry {
    pub(crate) fn id(&self) -> &str {
        &self.stored.provider.id
    }

    pub(crate) fn config(&self, key: &str) -> Option<&serde_json::Value> {
        self.stored
            .config
            .iter()
            .find(|row| row.key == key)
            .map(|row| &row.value)
    }

    /// Which of its exchanges are recorded, when it says so itself.
    pub(crate) fn record(&self) -> Option<Record> {
        Record::read(self.config("record")?.as_str()?)
    }

    /// How much it may be asked at once and in a minute.
    pub(crate) fn limits(&self) -> Limits {
        let number = |key| {
            let value = self.config(key)?;
            let number = value
                .as_u64()
                .or_else(|| value.as_str()?.trim().parse().ok())?;
            u32::try_from(number).ok().filter(|number| *number > 0)
        };
        Limits {
            concurrent: number("maxConcurrent"),
            requests_per_minute: number("requestsPerMinute"),
            tokens_per_minute: number("tokensPerMinute"),
        }
    }

    /// Whether it is asked in the same way.
    pub(crate) fn is_configured_as(&self, other: &Self) -> bool {
        let of = |entry: &Self| {
            let rows = entry.stored.config.iter();
            rows.map(|row| (row.key.clone(), row.value.clone()))
                .collect::<Vec<_>>()
        };
        let (own, other_provider) = (&self.stored.provider, &other.stored.provider);
        (own.enabled, &own.kind) == (other_provider.enabled, &other_provider.kind)
            && of(self) == of(other)
    }

    /// The model for requests that name none.
    pub(crate) fn default_model(&self) -> Option<&str> {
        let linked = self
            .stored
            .models
            .iter()
            .find(|model| model.is_default)
            .map(|model| model.model.id.as_str());
        linked.or_else(|| {
            self.config("defaultModel")
                .and_then(serde_json::Value::as_str)
        })
    }

    /// What an operator says that its models can do, by model.
    pub(crate) fn described(&self) -> HashMap<&str, &Vec<String>> {
        self.stored
            .models
            .iter()
            .map(|linked| (linked.model.id.as_str(), &linked.model.capabilities))
            .collect()
    }

    /// Models this provider is known to serve without asking it.
    pub(crate) fn named_models(&self) -> impl Iterator<Item = &str> {
        let linked = self
            .stored
            .models
            .iter()
            .map(|model| model.model.id.as_str());
        linked.chain(
            self.config("defaultModel")
                .and_then(serde_json::Value::as_str),
        )
    }
}
