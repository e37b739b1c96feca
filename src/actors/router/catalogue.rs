//! Which models the upstreams say they have, and when they last said so.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::actors::router::registry::Registry;
use crate::providers::{UpstreamError, UpstreamModel};

/// What one provider last said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// `None` until it answered once; kept when a later try fails (stale beats nothing).
    pub(crate) models: Option<Vec<UpstreamModel>>,
    pub(crate) asked: Option<Instant>,
    /// Unix time of the last answer or failure, ms.
    pub(crate) checked_at: Option<i64>,
    pub(crate) latency_ms: Option<u64>,
    /// Why the last try failed.
    pub(crate) error: Option<String>,
}

impl Listing {
    pub(crate) fn state(&self) -> &'static str {
        match (&self.error, self.checked_at) {
            (_, None) => "unknown",
            (Some(_), Some(_)) => "unhealthy",
            (None, Some(_)) => "healthy",
        }
    }
}

/// All listings, by provider id.
#[derive(Default)]
pub(crate) struct Listings {
    by_provider: HashMap<String, Listing>,
    nothing: Listing,
}

impl Listings {
    pub(crate) fn of(&self, provider: &str) -> &Listing {
        self.by_provider.get(provider).unwrap_or(&self.nothing)
    }

    pub(crate) fn record(
        &mut self,
        provider: &str,
        outcome: Result<Vec<UpstreamModel>, UpstreamError>,
        took: Duration,
        now_ms: i64,
    ) {
        let listing = self.by_provider.entry(provider.to_owned()).or_default();
        listing.asked = Some(Instant::now());
        listing.checked_at = Some(now_ms);
        match outcome {
            Ok(models) => {
                listing.models = Some(models);
                listing.latency_ms = u64::try_from(took.as_millis()).ok();
                listing.error = None;
            }
            Err(error) => listing.error = Some(error.to_string()),
        }
    }

    /// Forgets providers that are gone.
    pub(crate) fn retain(&mut self, registry: &Registry) {
        self.by_provider
            .retain(|provider, _| registry.find(provider).is_some());
    }
}

/// One model that can be asked for, and who serves it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// What a request names: bare, or `provider/model`.
    pub(crate) id: String,
    /// The provider of a `provider/model` id, or the first of those that serve the bare one.
    pub(crate) provider: String,
    pub(crate) owned_by: Option<String>,
    pub(crate) created: Option<u64>,
    pub(crate) context_length: Option<u64>,
    /// Every provider that serves the bare model.
    pub(crate) providers: Vec<String>,
}

/// Everything that can be asked for: each bare model once, then each as `provider/model`.
pub(crate) fn offers(registry: &Registry, listings: &Listings) -> Vec<Offer> {
    let mut bare: Vec<Offer> = vec![Offer {
        id: "echo".into(),
        provider: "echo".into(),
        owned_by: Some("qwarden".into()),
        created: None,
        context_length: None,
        providers: vec!["echo".into()],
    }];
    let mut qualified = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::from([("echo".to_owned(), 0)]);
    for entry in registry.enabled().filter(|entry| entry.adapter.is_ok()) {
        let mut seen = HashSet::new();
        let listed = listings.of(entry.id()).models.iter().flatten().cloned();
        let named = entry.named_models().map(|id| UpstreamModel {
            id: id.to_owned(),
            owned_by: None,
            created: None,
            context_length: None,
        });
        for model in listed.chain(named) {
            if !seen.insert(model.id.clone()) {
                continue;
            }
            let offer = Offer {
                id: model.id.clone(),
                provider: entry.id().to_owned(),
                owned_by: model.owned_by,
                created: model.created,
                context_length: model.context_length,
                providers: vec![entry.id().to_owned()],
            };
            qualified.push(Offer {
                id: format!("{}/{}", entry.id(), model.id),
                ..offer.clone()
            });
            if let Some(known) = place.get(&model.id).and_then(|place| bare.get_mut(*place)) {
                known.providers.push(entry.id().to_owned());
            } else {
                place.insert(model.id, bare.len());
                bare.push(offer);
            }
        }
    }
    bare.append(&mut qualified);
    bare
}
