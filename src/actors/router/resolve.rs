//! From the name a client wrote to the targets to try: a pure decision over registry, lists and settings.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::router::catalogue::Listings;
use crate::actors::router::registry::{Entry, Registry};
use crate::providers::{Provider, Record, presets};
use crate::settings::{self, Settings};

/// How alike two names must be to be offered as a correction (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.72;
const CORRECTIONS: usize = 3;

/// Where a request goes, in the order to try.
#[derive(Clone)]
pub(crate) struct RoutePlan {
    pub(crate) targets: Vec<Target>,
    /// Nobody lists the model: the targets are providers that never told what they have.
    pub(crate) is_guess: bool,
}

/// One provider, and the name it knows the model by.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) provider: String,
    pub(crate) upstream_model: String,
    pub(crate) adapter: Arc<dyn Provider>,
    /// The provider's own silence limit, when its configuration has one.
    pub(crate) timeout: Option<Duration>,
    /// Whether it understands `stream_options`.
    pub(crate) reports_usage: bool,
    /// Which of its exchanges are recorded, when its configuration says so.
    pub(crate) record: Option<Record>,
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

/// Decides for `model`, or for the default when a request names none.
pub(crate) fn resolve(
    model: Option<&str>,
    registry: &Registry,
    listings: &Listings,
    settings: &Settings,
) -> Result<RoutePlan, NoTarget> {
    let active = settings
        .text(settings::ACTIVE_PROVIDER)
        .and_then(|id| registry.find(id));
    let model = match model.or(settings.text(settings::ACTIVE_MODEL)) {
        Some(model) => model,
        None => active
            .and_then(Entry::default_model)
            .ok_or(NoTarget::NoModel)?,
    };
    if model == "echo" || model == "echo/echo" {
        return Ok(RoutePlan {
            targets: vec![Target {
                provider: "echo".into(),
                upstream_model: "echo".into(),
                adapter: registry.echo.clone(),
                timeout: None,
                reports_usage: true,
                record: None,
            }],
            is_guess: false,
        });
    }
    let mut offering: Vec<&Entry> = registry
        .enabled()
        .filter(|entry| entry.adapter.is_ok() && offers(entry, model, listings))
        .collect();
    if let Some(active) = active {
        // A stable sort: the active provider first, the rest by priority as before.
        offering.sort_by_key(|entry| entry.id() != active.id());
    }
    if !offering.is_empty() {
        return plan(offering.into_iter().map(|entry| (entry, model)));
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
        return plan(std::iter::once((entry, rest)));
    }
    let guesses: Vec<_> = registry
        .enabled()
        .filter(|entry| may_offer(entry, active, listings))
        .collect();
    if !guesses.is_empty() {
        let planned = plan(guesses.into_iter().map(|entry| (entry, model)))?;
        return Ok(RoutePlan {
            is_guess: true,
            ..planned
        });
    }
    Err(unknown(model, registry, listings))
}

fn plan<'a>(entries: impl Iterator<Item = (&'a Entry, &'a str)>) -> Result<RoutePlan, NoTarget> {
    let mut targets = Vec::new();
    for (entry, upstream_model) in entries {
        let adapter = entry
            .adapter
            .clone()
            .map_err(|error| NoTarget::Misconfigured {
                provider: entry.id().to_owned(),
                reason: error.to_string(),
            })?;
        let timeout = entry
            .stored
            .config
            .iter()
            .find(|row| row.key == "timeout")
            .and_then(|row| row.value.as_u64());
        targets.push(Target {
            provider: entry.id().to_owned(),
            upstream_model: upstream_model.to_owned(),
            adapter,
            timeout: timeout.map(Duration::from_millis),
            reports_usage: presets::find(&entry.stored.provider.kind)
                .is_none_or(|preset| preset.stream_usage),
            record: entry.record(),
        });
    }
    Ok(RoutePlan {
        targets,
        is_guess: false,
    })
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
