//! The nodes of all providers and targets, by name. They live on the board, above every incarnation of the router.

use std::collections::HashMap;
use std::sync::Arc;

use crate::actors::router::registry::Registry;
use crate::routing::node::Node;

/// Clients name models freely: beyond this many, those nobody uses are forgotten.
const MOST: usize = 10_000;

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
        if self.count >= MOST {
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
