//! The nodes of all providers and targets, by name. They live on the board, above every incarnation of the router.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::actors::router::registry::Registry;
use crate::limits::routing::MOST_NODES;
use crate::routing::node::{Node, Shown};

/// Models of one provider that are shown.
const MOST_SHOWN: usize = 50;

/// How a provider and its models do.
#[derive(Clone)]
pub(crate) struct Doing {
    pub(crate) provider: Shown,
    /// Those that were used, by name; those in trouble first.
    pub(crate) models: Vec<(String, Shown)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Nodes {
    providers: HashMap<String, Arc<Node>>,
    targets: HashMap<String, HashMap<String, Arc<Node>>>,
    count: usize,
}

impl Nodes {
    pub(crate) fn of_provider(&mut self, provider: &str) -> Arc<Node> {
        if let Some(node) = self.providers.get(provider) {
            return node.clone();
        }
        let node = Arc::<Node>::default();
        self.providers.insert(provider.to_owned(), node.clone());
        node
    }

    pub(crate) fn of_target(&mut self, provider: &str, model: &str) -> Arc<Node> {
        let known = self
            .targets
            .get(provider)
            .and_then(|models| models.get(model));
        if let Some(node) = known {
            return node.clone();
        }
        if self.count >= MOST_NODES {
            self.forget_unused();
        }
        let node = Arc::<Node>::default();
        let models = self.targets.entry(provider.to_owned()).or_default();
        models.insert(model.to_owned(), node.clone());
        self.count += 1;
        node
    }

    /// The models of a provider that were used.
    pub(crate) fn models_of(&self, provider: &str) -> impl Iterator<Item = (&str, &Arc<Node>)> {
        let models = self.targets.get(provider).into_iter().flatten();
        models.map(|(model, node)| (model.as_str(), node))
    }

    pub(crate) fn doing(&self, provider: &str, now: Instant) -> Doing {
        let own = self.providers.get(provider);
        let own = own.map_or_else(|| Node::default().shown(now), |node| node.shown(now));
        let models = self.models_of(provider);
        let shown = models.map(|(model, node)| (model.to_owned(), node.shown(now)));
        let mut models: Vec<_> = shown.filter(|(_, shown)| shown.was_used()).collect();
        models.sort_by(|(a, of_a), (b, of_b)| {
            let is_well = |shown: &Shown| shown.breaker == "closed";
            (is_well(of_a), a).cmp(&(is_well(of_b), b))
        });
        models.truncate(MOST_SHOWN);
        Doing {
            provider: own,
            models,
        }
    }

    /// The breakers of a provider, its own and its models', that are not closed.
    pub(crate) fn broken(&self, provider: &str) -> impl Iterator<Item = &Arc<Node>> {
        let own = self.providers.get(provider).into_iter();
        let models = self.models_of(provider).map(|(_, node)| node);
        own.chain(models).filter(|node| node.is_broken())
    }

    /// Puts the limits of `new` in force, and forgets how providers did that were changed or are gone.
    pub(crate) fn follow(&mut self, old: Option<&Registry>, new: &Registry) {
        self.providers
            .retain(|id, _| id == "echo" || new.find(id).is_some());
        self.targets
            .retain(|id, _| id == "echo" || new.find(id).is_some());
        for entry in new.entries() {
            let node = self.of_provider(entry.id());
            let before = old.and_then(|old| old.find(entry.id()));
            if before.is_some_and(|before| !before.is_configured_as(entry)) {
                node.forget();
                for (_, node) in self.models_of(entry.id()) {
                    node.forget();
                }
            }
            node.limit(entry.limits());
        }
        self.count = self.targets.values().map(HashMap::len).sum();
    }

    fn forget_unused(&mut self) {
        for models in self.targets.values_mut() {
            models.retain(|_, node| Arc::strong_count(node) > 1);
        }
        self.count = self.targets.values().map(HashMap::len).sum();
    }
}
