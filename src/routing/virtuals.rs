//! Virtual models: names that stand for a list of targets, and which of them a client means.
//!
//! A target is `provider/model`, a bare model name, or the name of another virtual model. A name may hold `*`, which
//! stands for any text. An exact name wins over one with `*`, and of those the one with the most other characters.

use std::collections::{HashMap, HashSet};

/// Virtual models that lead on to each other, at most.
pub(crate) const DEEPEST: usize = 8;
/// Targets of one virtual model, at most.
pub(crate) const MOST_TARGETS: usize = 64;
/// Characters of a name, at most.
pub(crate) const LONGEST_NAME: usize = 200;
/// Characters of a target, at most: a provider's id, a slash and a model's name fit in.
pub(crate) const LONGEST_TARGET: usize = 400;
/// A target's weight, at most.
pub(crate) const HEAVIEST: u32 = 1_000;

/// The built-in model: no name of another one covers it.
const BUILT_IN: [&str; 2] = ["echo", "echo/echo"];
const WILD: char = '*';

/// In which order targets are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Strategy {
    /// As they are listed.
    #[default]
    Priority,
    /// By chance, in proportion to their weights.
    Weighted,
    /// In turn.
    RoundRobin,
    /// The one whose first byte comes soonest.
    LeastLatency,
    /// The one with the fewest requests under way.
    LeastBusy,
    Cheapest,
    /// The one that answered this conversation before.
    Sticky,
}

impl Strategy {
    pub(crate) const ALL: [Self; 7] = [
        Self::Priority,
        Self::Weighted,
        Self::RoundRobin,
        Self::LeastLatency,
        Self::LeastBusy,
        Self::Cheapest,
        Self::Sticky,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Weighted => "weighted",
            Self::RoundRobin => "round_robin",
            Self::LeastLatency => "least_latency",
            Self::LeastBusy => "least_busy",
            Self::Cheapest => "cheapest",
            Self::Sticky => "sticky",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// Where a request for a virtual model may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VirtualTarget {
    pub(crate) target: String,
    /// Its share, for [`Strategy::Weighted`].
    pub(crate) weight: u32,
}

/// A name that stands for a list of targets. An alias is one with a single target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VirtualModel {
    pub(crate) name: String,
    pub(crate) strategy: Strategy,
    /// In the order of [`Strategy::Priority`].
    pub(crate) targets: Vec<VirtualTarget>,
    pub(crate) enabled: bool,
}

/// What is wrong with a virtual model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error(
        "`name` must be 1 to {LONGEST_NAME} characters without control characters, and must not begin or end with a blank"
    )]
    Name,
    #[error("`name` must not be `{0}`, which is built in")]
    BuiltIn(String),
    #[error("`targets` must name at least one target")]
    NoTargets,
    #[error("`targets` must be at most {MOST_TARGETS}")]
    ManyTargets,
    #[error("target {0} must not be empty")]
    EmptyTarget(usize),
    #[error(
        "target {0} must be at most {LONGEST_TARGET} characters without control characters or `*`, and must not begin or end with a blank"
    )]
    Target(usize),
    #[error(
        "target {0} must not be the virtual model itself; write `provider/model` for a provider's model"
    )]
    Itself(usize),
    #[error("the weight of target {0} must be from 1 to {HEAVIEST}")]
    Weight(usize),
    #[error(
        "it would lead in a circle: `{}`; write `provider/model` for a provider's model",
        .0.join("` -> `")
    )]
    Circle(Vec<String>),
    #[error("`{0}` would lead on through more than {DEEPEST} virtual models")]
    Deep(String),
}

/// All virtual models that are enabled, for looking names up.
#[derive(Debug, Default)]
pub(crate) struct Virtuals {
    /// By name.
    models: Vec<VirtualModel>,
    exact: HashMap<String, usize>,
    /// The most specific first.
    wild: Vec<(Glob, usize)>,
}

impl Virtuals {
    pub(crate) fn new(models: impl IntoIterator<Item = VirtualModel>) -> Self {
        let mut models: Vec<_> = models.into_iter().filter(|model| model.enabled).collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        let (mut exact, mut wild) = (HashMap::new(), Vec::new());
        for (place, model) in models.iter().enumerate() {
            match Glob::read(&model.name) {
                Some(glob) => wild.push((glob, place)),
                None => drop(exact.insert(model.name.clone(), place)),
            }
        }
        // A stable sort: those that are as specific stay by name.
        wild.sort_by_key(|(glob, _)| std::cmp::Reverse(glob.literals));
        Self {
            models,
            exact,
            wild,
        }
    }

    /// The virtual model that a client means by `model`.
    pub(crate) fn find(&self, model: &str) -> Option<&VirtualModel> {
        if BUILT_IN.contains(&model) {
            return None;
        }
        let wild = || self.wild.iter().find(|(glob, _)| glob.covers(model));
        let exact = self.exact.get(model);
        let place = exact.or_else(|| wild().map(|(_, place)| place))?;
        self.models.get(*place)
    }

    /// The virtual model that a target leads on to. A target with a `/` names a provider's model, and a virtual one only
    /// by its exact name: so `*` may lead to `groq/llama`.
    pub(crate) fn behind(&self, target: &str) -> Option<&VirtualModel> {
        if !target.contains('/') {
            return self.find(target);
        }
        let place = self.exact.get(target)?;
        self.models.get(*place)
    }

    /// Those that can be asked for by one name, by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &VirtualModel> {
        self.models
            .iter()
            .filter(|model| !model.name.contains(WILD))
    }

    /// Where `model` leads in the end: the targets that are no virtual models, in order, each once.
    pub(crate) fn ends<'a>(&'a self, model: &'a VirtualModel) -> Vec<&'a str> {
        let mut ends = Vec::new();
        let mut seen = HashSet::from([model.name.as_str()]);
        self.follow(model, DEEPEST, &mut seen, &mut ends);
        ends
    }

    /// Those whose chains do not come to an end in time.
    fn endless(&self) -> HashSet<&str> {
        let models = self.models.iter().enumerate();
        let places: HashMap<&str, usize> = models
            .map(|(place, model)| (model.name.as_str(), place))
            .collect();
        let leads_to = |model: &VirtualModel| -> Vec<usize> {
            let targets = model.targets.iter();
            targets
                .filter_map(|target| self.behind(&target.target))
                .filter_map(|found| places.get(found.name.as_str()).copied())
                .collect()
        };
        let steps: Vec<Vec<usize>> = self.models.iter().map(leads_to).collect();
        // Who goes on for one step more than the last time.
        let mut goes_on = vec![true; steps.len()];
        for _ in 0..DEEPEST {
            goes_on = steps
                .iter()
                .map(|next| next.iter().any(|at| goes_on.get(*at) == Some(&true)))
                .collect();
        }
        let models = self.models.iter().zip(goes_on);
        models
            .filter_map(|(model, goes_on)| goes_on.then_some(model.name.as_str()))
            .collect()
    }

    fn follow<'a>(
        &'a self,
        model: &'a VirtualModel,
        deeper: usize,
        seen: &mut HashSet<&'a str>,
        ends: &mut Vec<&'a str>,
    ) {
        for target in model.targets.iter().map(|target| target.target.as_str()) {
            match self.behind(target) {
                Some(next) if deeper > 0 => {
                    if seen.insert(&next.name) {
                        self.follow(next, deeper - 1, seen, ends);
                    }
                }
                Some(_) => {}
                None if ends.contains(&target) => {}
                None => ends.push(target),
            }
        }
    }
}

/// Whether `candidate` may be, beside `all` the others; one of its own name there is the one it replaces. Tells every
/// fault. It is looked at as if it was enabled, so that enabling it later brings no surprise.
pub(crate) fn check(candidate: &VirtualModel, all: &[VirtualModel]) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    let name = &candidate.name;
    if BUILT_IN.contains(&name.as_str()) {
        faults.push(Fault::BuiltIn(name.clone()));
    } else if name.is_empty() || !is_plain(name, LONGEST_NAME) {
        faults.push(Fault::Name);
    }
    if candidate.targets.is_empty() {
        faults.push(Fault::NoTargets);
    }
    if candidate.targets.len() > MOST_TARGETS {
        faults.push(Fault::ManyTargets);
    }
    // People count from 1. Of more than may be, those that may be are enough to tell.
    for (at, target) in (1..).zip(candidate.targets.iter().take(MOST_TARGETS)) {
        let text = &target.target;
        if text.trim().is_empty() {
            faults.push(Fault::EmptyTarget(at));
        } else if text == name {
            faults.push(Fault::Itself(at));
        } else if text.contains(WILD) || !is_plain(text, LONGEST_TARGET) {
            faults.push(Fault::Target(at));
        }
        if !(1..=HEAVIEST).contains(&target.weight) {
            faults.push(Fault::Weight(at));
        }
    }
    if faults.is_empty() {
        let enabled = VirtualModel {
            enabled: true,
            ..candidate.clone()
        };
        let others = all.iter().filter(|other| other.name != *name).cloned();
        let virtuals = Virtuals::new(others.chain([enabled]));
        faults.extend(endless(candidate, &virtuals));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// What goes wrong with the others when `before` becomes `after`: a chain becomes too long, or a `*` covers what an exact
/// name covered. What was wrong before does not count.
pub(crate) fn broken(before: &[VirtualModel], after: &[VirtualModel]) -> Vec<Fault> {
    let (old, new) = (
        Virtuals::new(before.iter().cloned()),
        Virtuals::new(after.iter().cloned()),
    );
    let was_so = old.endless();
    let is_so = new.endless();
    new.models
        .iter()
        .filter(|model| is_so.contains(model.name.as_str()))
        .filter(|model| !was_so.contains(model.name.as_str()))
        .filter_map(|model| endless(model, &new))
        .collect()
}

/// Why following `from` does not come to an end in time, if so.
fn endless(from: &VirtualModel, virtuals: &Virtuals) -> Option<Fault> {
    // For each step: who is reached, and from whom.
    let mut steps: Vec<HashMap<&str, &str>> = Vec::new();
    let mut here = vec![from];
    for _ in 0..DEEPEST {
        let (mut reached, mut next) = (HashMap::new(), Vec::new());
        for model in here {
            let targets = model.targets.iter();
            for found in targets.filter_map(|target| virtuals.behind(&target.target)) {
                if reached
                    .insert(found.name.as_str(), model.name.as_str())
                    .is_none()
                {
                    next.push(found);
                }
            }
        }
        let is_back = reached.contains_key(from.name.as_str());
        steps.push(reached);
        if is_back {
            return Some(Fault::Circle(path(&from.name, &steps)));
        }
        if next.is_empty() {
            return None;
        }
        here = next;
    }
    Some(Fault::Deep(from.name.clone()))
}

/// From `name` back to it, through who was reached in each step.
fn path(name: &str, steps: &[HashMap<&str, &str>]) -> Vec<String> {
    let mut path = vec![name.to_owned()];
    let mut at = name;
    for step in steps.iter().rev() {
        at = step.get(at).copied().unwrap_or(name);
        path.push(at.to_owned());
    }
    path.reverse();
    path
}

fn is_plain(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && text.trim() == text && !text.chars().any(char::is_control)
}

/// A name with `*` in it, taken apart.
#[derive(Debug)]
struct Glob {
    head: String,
    middle: Vec<String>,
    tail: String,
    /// Characters that are not `*`.
    literals: usize,
}

impl Glob {
    /// `None` for a name without `*`.
    fn read(name: &str) -> Option<Self> {
        let (head, rest) = name.split_once(WILD)?;
        let (middle, tail) = rest.rsplit_once(WILD).unwrap_or(("", rest));
        Some(Self {
            head: head.to_owned(),
            middle: middle
                .split(WILD)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
            tail: tail.to_owned(),
            literals: name.chars().filter(|c| *c != WILD).count(),
        })
    }

    /// In time linear in the two: whoever takes each part where it first comes leaves the most for the rest.
    fn covers(&self, text: &str) -> bool {
        let inside = text
            .strip_prefix(&self.head)
            .and_then(|rest| rest.strip_suffix(&self.tail));
        let Some(mut rest) = inside else {
            return false;
        };
        self.middle.iter().all(|part| {
            let found = rest.split_once(part.as_str());
            found.is_some_and(|(_, after)| {
                rest = after;
                true
            })
        })
    }
}

#[cfg(test)]
mod tests;
