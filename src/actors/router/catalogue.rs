//! Which models the upstreams say they have, and when they last said so.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::actors::router::registry::Registry;
use crate::db::providers::StoredProvider;
use crate::providers::{UpstreamError, UpstreamModel};
use crate::routing::facts::{self, Facts};

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

/// What is known of a model at a provider: what an operator says, else its own list, else the table.
pub(crate) fn facts_of(stored: &StoredProvider, listing: &Listing, model: &str) -> Facts {
    let known = facts::facts(&stored.provider.kind, model);
    let mut listed = listing.models.iter().flatten();
    let listed = listed.find(|listed| listed.id == model);
    // What a list leaves out may be there all the same.
    let tells = |word: &str| {
        let told = &listed?.capabilities;
        told.iter().any(|told| told == word).then_some(true)
    };
    let known = Facts {
        context_length: listed
            .and_then(|listed| listed.context_length)
            .or(known.context_length),
        tools: tells("tools").or(known.tools),
        vision: tells("vision").or(known.vision),
        structured: tells("structured_output").or(known.structured),
        ..known
    };
    let mut links = stored.models.iter();
    let link = links.find(|link| link.model.id == model);
    match link.and_then(|link| link.provider_config.as_ref()) {
        Some(config) => known.overridden(config),
        None => known,
    }
}

/// One model that can be asked for, and who serves it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    /// What a request names: bare, or `provider/model`.
    pub(crate) id: String,
    /// The provider of a `provider/model` id, or the first of those that serve the bare one.
    pub(crate) provider: String,
    pub(crate) owned_by: Option<String>,
    pub(crate) created: Option<u64>,
    pub(crate) context_length: Option<u64>,
    /// What it can do, as the upstream or an operator tells; empty when nobody does.
    pub(crate) capabilities: Vec<String>,
    /// Every provider that serves the bare model.
    pub(crate) providers: Vec<String>,
}

/// Everything that can be asked for: each bare model once, then each as `provider/model`, then the virtual models.
pub(crate) fn offers(registry: &Registry, listings: &Listings) -> Vec<Offer> {
    let mut bare: Vec<Offer> = vec![Offer {
        id: "echo".into(),
        provider: "echo".into(),
        owned_by: Some("qwarden".into()),
        providers: vec!["echo".into()],
        ..Offer::default()
    }];
    let mut qualified = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::from([("echo".to_owned(), 0)]);
    for entry in registry.enabled().filter(|entry| entry.adapter.is_ok()) {
        let described = entry.described();
        let mut seen = HashSet::new();
        let listed = listings.of(entry.id()).models.iter().flatten().cloned();
        let named = entry.named_models().map(|id| UpstreamModel {
            id: id.to_owned(),
            ..UpstreamModel::default()
        });
        for mut model in listed.chain(named) {
            if !seen.insert(model.id.clone()) {
                continue;
            }
            for capability in described
                .get(model.id.as_str())
                .copied()
                .into_iter()
                .flatten()
            {
                if !model.capabilities.contains(capability) {
                    model.capabilities.push(capability.clone());
                }
            }
            let offer = Offer {
                id: model.id.clone(),
                provider: entry.id().to_owned(),
                owned_by: model.owned_by,
                created: model.created,
                context_length: model.context_length,
                capabilities: model.capabilities,
                providers: vec![entry.id().to_owned()],
            };
            qualified.push(Offer {
                id: format!("{}/{}", entry.id(), model.id),
                ..offer.clone()
            });
            if let Some(known) = place.get(&model.id).and_then(|place| bare.get_mut(*place)) {
                known.providers.push(entry.id().to_owned());
                known.context_length = known.context_length.or(offer.context_length);
                if known.capabilities.is_empty() {
                    known.capabilities = offer.capabilities;
                }
            } else {
                place.insert(model.id, bare.len());
                bare.push(offer);
            }
        }
    }
    bare.append(&mut qualified);
    with_virtuals(bare, registry)
}

/// Adds the virtual models that have one name. A model of the same name is hidden by them.
fn with_virtuals(mut offers: Vec<Offer>, registry: &Registry) -> Vec<Offer> {
    let virtuals = &registry.virtuals;
    if virtuals.named().next().is_none() {
        return offers;
    }
    let mut known: HashMap<&str, &Offer> = HashMap::with_capacity(offers.len());
    for offer in &offers {
        known.entry(&offer.id).or_insert(offer);
    }
    let added: Vec<Offer> = virtuals
        .named()
        .map(|model| virtual_offer(&model.name, &virtuals.ends(model), &known, registry))
        .collect();
    let names: HashSet<&str> = added.iter().map(|offer| offer.id.as_str()).collect();
    offers.retain(|offer| !names.contains(offer.id.as_str()));
    offers.extend(added);
    offers
}

/// What it tells holds whichever of its targets answers, as far as they tell anything.
fn virtual_offer(
    name: &str,
    targets: &[&str],
    known: &HashMap<&str, &Offer>,
    registry: &Registry,
) -> Offer {
    let mut virtual_offer = Offer {
        id: name.to_owned(),
        provider: "qwarden".into(),
        owned_by: Some("qwarden".into()),
        ..Offer::default()
    };
    let told: Vec<&Offer> = targets
        .iter()
        .filter_map(|target| known.get(target).copied())
        .collect();
    virtual_offer.context_length = told.iter().filter_map(|offer| offer.context_length).min();
    let mut able = told
        .iter()
        .map(|offer| &offer.capabilities)
        .filter(|capabilities| !capabilities.is_empty());
    if let Some(first) = able.next() {
        let mut shared = first.clone();
        for others in able {
            shared.retain(|capability| others.contains(capability));
        }
        virtual_offer.capabilities = shared;
    }
    for target in targets {
        let listed = known.get(target).map(|offer| offer.providers.clone());
        // A provider can be asked for what it does not list.
        let named = || {
            let (provider, _) = target.split_once('/')?;
            let entry = registry.find(provider)?;
            let is_usable = entry.stored.provider.enabled && entry.adapter.is_ok();
            is_usable.then(|| vec![provider.to_owned()])
        };
        for provider in listed.or_else(named).unwrap_or_default() {
            if !virtual_offer.providers.contains(&provider) {
                virtual_offer.providers.push(provider);
            }
        }
    }
    virtual_offer
}
