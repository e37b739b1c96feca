//! From the name a client wrote to the targets behind it: a pure decision over registry, lists and settings.
//!
//! In this order: a virtual model; `echo`; the enabled providers that offer a model of the name; `provider/model`; and
//! the providers that never told what they have. A name that begins with a provider's id and a `/` means that provider,
//! unless a virtual model has exactly this name or the provider lists it so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::actors::router::catalogue::{Listings, facts_of};
use crate::actors::router::nodes::Nodes;
use crate::actors::router::registry::{Entry, Registry};
use crate::actors::router::target::Target;
use crate::providers::presets;
use crate::routing::facts;
use crate::routing::order::Turns;
use crate::routing::virtuals::{DEEPEST, Strategy, VirtualModel};
use crate::settings::{self, Settings};

/// How alike two names must be to be offered as a correction (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.72;
const CORRECTIONS: usize = 3;

/// The targets behind one name, in the order of the configuration.
pub(crate) struct Route {
    /// The name that was looked up.
    pub(crate) model: Arc<str>,
    pub(crate) strategy: Strategy,
    pub(crate) targets: Vec<Arc<Target>>,
    /// The virtual model that stands for them.
    pub(crate) via: Option<String>,
    /// Nobody lists the model: the targets are providers that never told what they have.
    pub(crate) is_guess: bool,
    pub(crate) turns: Mutex<Turns>,
}

/// Why there is no plan. All of them are the caller's to mend.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NoTarget {
    #[error(
        "no enabled provider offers the model `{model}`{}{}",
        closest_words(closest),
        trouble_words(trouble)
    )]
    UnknownModel {
        model: String,
        closest: Vec<String>,
        trouble: Vec<String>,
    },
    #[error("there is no provider `{provider}`; there are: `{}`", known.join("`, `"))]
    UnknownProvider {
        provider: String,
        /// The closest ids, or all when none is close.
        known: Vec<String>,
    },
    #[error("the provider `{provider}` is disabled; enable it, or name another one")]
    ProviderDisabled { provider: String },
    #[error("the provider `{provider}` cannot be used: {reason}")]
    Misconfigured { provider: String, reason: String },
    #[error(
        "the request names no model and no default is set; send `model`, e.g. `echo`, or set `active_model`"
    )]
    NoModel,
}

fn closest_words(closest: &[String]) -> String {
    match closest {
        [] => "; GET /v1/models lists what there is".into(),
        names => format!("; closest: `{}`", names.join("`, `")),
    }
}

fn trouble_words(trouble: &[String]) -> String {
    if trouble.is_empty() {
        String::new()
    } else {
        format!(" (could not be asked: {})", trouble.join("; "))
    }
}

/// What names are looked up in.
pub(crate) struct World<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) listings: &'a Listings,
    pub(crate) settings: &'a Settings,
    pub(crate) nodes: &'a mut Nodes,
}

/// Looks up `model`, or the default when a request names none.
pub(crate) fn resolve(model: Option<&str>, world: &mut World<'_>) -> Result<Route, NoTarget> {
    let model = match model.or(world.settings.text(settings::ACTIVE_MODEL)) {
        Some(model) => model,
        None => world
            .active()
            .and_then(Entry::default_model)
            .ok_or(NoTarget::NoModel)?,
    };
    let names_provider = model
        .split_once('/')
        .is_some_and(|(prefix, _)| world.registry.find(prefix).is_some());
    let virtuals = &world.registry.virtuals;
    let meant = if names_provider {
        virtuals.behind(model)
    } else {
        virtuals.find(model)
    };
    match meant {
        Some(meant) => world.virtually(model, meant),
        None => world.really(model).map(|(targets, is_guess)| Route {
            model: model.into(),
            strategy: world.strategy(),
            targets,
            via: None,
            is_guess,
            turns: Mutex::default(),
        }),
    }
}

/// The targets a request asks for by name, in that order.
pub(crate) fn only(names: &[String], world: &mut World<'_>) -> Result<Route, NoTarget> {
    let mut targets = Vec::new();
    for name in names {
        targets.extend(world.really(name)?.0);
    }
    Ok(Route {
        model: names.join(", ").into(),
        strategy: Strategy::Priority,
        targets,
        via: None,
        is_guess: false,
        turns: Mutex::default(),
    })
}

impl<'a> World<'a> {
    fn active(&self) -> Option<&'a Entry> {
        let id = self.settings.text(settings::ACTIVE_PROVIDER)?;
        self.registry.find(id)
    }

    /// How the providers of one model are ordered when no virtual model says so.
    fn strategy(&self) -> Strategy {
        let named = self.settings.text(settings::ROUTING_STRATEGY);
        named.and_then(Strategy::parse).unwrap_or_default()
    }

    /// A target of a virtual model that leads nowhere, or only perhaps somewhere, is left out as long as another one
    /// leads somewhere.
    fn virtually(&mut self, asked: &str, model: &VirtualModel) -> Result<Route, NoTarget> {
        let mut targets: Vec<Arc<Target>> = Vec::new();
        let (mut guesses, mut first_error) = (Vec::new(), None);
        for (name, weight) in self.leaves(model, DEEPEST) {
            match self.really(name) {
                Ok((found, is_guess)) => {
                    let list = if is_guess { &mut guesses } else { &mut targets };
                    for target in found {
                        let is_known = list.iter().any(|known| known.is_same(&target));
                        if !is_known {
                            list.push(target.weighing(weight));
                        }
                    }
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let is_guess = targets.is_empty() && !guesses.is_empty();
        if is_guess {
            targets = guesses;
        }
        if let Some(error) = first_error.filter(|_| targets.is_empty()) {
            return Err(error);
        }
        Ok(Route {
            model: asked.into(),
            strategy: model.strategy,
            targets,
            via: Some(model.name.clone()),
            is_guess,
            turns: Mutex::default(),
        })
    }

    /// What a virtual model leads to in the end. Of one inside another only the targets count, each with its weight in
    /// the outer one.
    fn leaves(&self, model: &'a VirtualModel, deeper: usize) -> Vec<(&'a str, u32)> {
        let mut leaves = Vec::new();
        for target in &model.targets {
            match self.registry.virtuals.behind(&target.target) {
                Some(next) if deeper > 0 => {
                    let inner = self.leaves(next, deeper - 1).into_iter();
                    leaves.extend(inner.map(|(name, _)| (name, target.weight)));
                }
                Some(_) => {}
                None => leaves.push((target.target.as_str(), target.weight)),
            }
        }
        leaves
    }

    /// The targets of a name that is no virtual model's, and whether they are only a guess.
    fn really(&mut self, model: &str) -> Result<(Vec<Arc<Target>>, bool), NoTarget> {
        let (registry, listings) = (self.registry, self.listings);
        if model == "echo" || model == "echo/echo" {
            let node = self.nodes.of_target("echo", "echo");
            let mut echo = Target::bare("echo", "echo", registry.echo.clone());
            echo.facts = facts::facts("echo", "echo");
            (echo.provider_node, echo.node) = (self.nodes.of_provider("echo"), node);
            return Ok((vec![Arc::new(echo)], false));
        }
        let active = self.active();
        let mut offering: Vec<&Entry> = registry
            .enabled()
            .filter(|entry| entry.adapter.is_ok() && offers(entry, model, listings))
            .collect();
        if let Some(active) = active {
            // A stable sort: the active provider first, the rest by priority as before.
            offering.sort_by_key(|entry| entry.id() != active.id());
        }
        if !offering.is_empty() {
            let targets = offering.into_iter().map(|entry| self.target(entry, model));
            return Ok((targets.collect::<Result<_, _>>()?, false));
        }
        if let Some((prefix, rest)) = model.split_once('/')
            && let Some(entry) = registry.find(prefix)
            && !rest.is_empty()
        {
            if !entry.stored.provider.enabled {
                return Err(NoTarget::ProviderDisabled {
                    provider: prefix.to_owned(),
                });
            }
            return Ok((vec![self.target(entry, rest)?], false));
        }
        let guesses: Vec<_> = registry
            .enabled()
            .filter(|entry| may_offer(entry, active, listings))
            .collect();
        if guesses.is_empty() {
            return Err(unknown(model, registry, listings));
        }
        let targets = guesses.into_iter().map(|entry| self.target(entry, model));
        Ok((targets.collect::<Result<_, _>>()?, true))
    }

    fn target(&mut self, entry: &Entry, upstream_model: &str) -> Result<Arc<Target>, NoTarget> {
        let adapter = entry
            .adapter
            .clone()
            .map_err(|error| NoTarget::Misconfigured {
                provider: entry.id().to_owned(),
                reason: error.to_string(),
            })?;
        let kind = &entry.stored.provider.kind;
        let mut target = Target::bare(entry.id(), upstream_model, adapter);
        let timeout = entry.config("timeout").and_then(serde_json::Value::as_u64);
        target.timeout = timeout.map(Duration::from_millis);
        target.reports_usage = presets::find(kind).is_none_or(|preset| preset.stream_usage);
        target.record = entry.record();
        target.facts = facts_of(&entry.stored, self.listings.of(entry.id()), upstream_model);
        target.provider_node = self.nodes.of_provider(entry.id());
        target.node = self.nodes.of_target(entry.id(), upstream_model);
        Ok(Arc::new(target))
    }
}

fn offers(entry: &Entry, model: &str, listings: &Listings) -> bool {
    entry.named_models().any(|named| named == model)
        || listings
            .of(entry.id())
            .models
            .iter()
            .flatten()
            .any(|listed| listed.id == model)
}

/// Whether a model that nobody lists may be this provider's: it never told its list, and the user chose it. The
/// built-in rows do not count, or else every typo would end at whatever happens not to run.
fn may_offer(entry: &Entry, active: Option<&Entry>, listings: &Listings) -> bool {
    let chosen = entry.stored.provider.origin == "user"
        || active.is_some_and(|active| active.id() == entry.id());
    chosen && listings.of(entry.id()).models.is_none()
}

fn unknown(model: &str, registry: &Registry, listings: &Listings) -> NoTarget {
    let names: Vec<String> = std::iter::once("echo".to_owned())
        .chain(registry.enabled().flat_map(|entry| {
            let listed = listings
                .of(entry.id())
                .models
                .iter()
                .flatten()
                .map(|model| model.id.clone());
            listed
                .chain(entry.named_models().map(str::to_owned))
                .collect::<Vec<_>>()
        }))
        .collect();
    if let Some((prefix, _)) = model.split_once('/')
        && !names.iter().any(|name| {
            name.split_once('/')
                .is_some_and(|(owner, _)| owner == prefix)
        })
    {
        let providers = registry
            .entries()
            .map(|entry| entry.id().to_owned())
            .collect::<Vec<_>>();
        let close = closest(prefix, &providers);
        return NoTarget::UnknownProvider {
            provider: prefix.to_owned(),
            known: if close.is_empty() { providers } else { close },
        };
    }
    let trouble = registry
        .enabled()
        .filter(|entry| listings.of(entry.id()).models.is_none())
        .filter_map(|entry| {
            listings
                .of(entry.id())
                .error
                .as_ref()
                .map(|_| format!("`{}`", entry.id()))
        })
        .collect();
    NoTarget::UnknownModel {
        model: model.to_owned(),
        closest: closest(model, &names),
        trouble,
    }
}

/// The names most like `wanted`, best first.
pub(crate) fn closest(wanted: &str, names: &[String]) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut ranked: Vec<(f64, &String)> = names
        .iter()
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    ranked.dedup_by(|a, b| a.1 == b.1);
    ranked
        .into_iter()
        .take(CORRECTIONS)
        .map(|(_, name)| name.clone())
        .collect()
}
