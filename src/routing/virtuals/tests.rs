use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::settings::{self, Kind};

fn virtual_model(name: &str, targets: &[&str]) -> VirtualModel {
    VirtualModel {
        name: name.into(),
        strategy: Strategy::Priority,
        targets: targets
            .iter()
            .map(|target| VirtualTarget {
                target: (*target).into(),
                weight: 1,
            })
            .collect(),
        enabled: true,
    }
}

fn disabled(model: VirtualModel) -> VirtualModel {
    VirtualModel {
        enabled: false,
        ..model
    }
}

fn found(virtuals: &Virtuals, model: &str) -> Option<String> {
    virtuals.find(model).map(|found| found.name.clone())
}

fn circle(path: &[&str]) -> Fault {
    Fault::Circle(path.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn strategies_are_those_of_the_setting() {
    for strategy in Strategy::ALL {
        assert_eq!(Strategy::parse(strategy.as_str()), Some(strategy));
    }
    assert_eq!(Strategy::parse("Priority"), None);
    let setting = settings::find(settings::ROUTING_STRATEGY).unwrap();
    let Kind::OneOf(words) = setting.kind else {
        panic!("it is one of several words");
    };
    assert_eq!(Strategy::ALL.map(Strategy::as_str), words);
    assert_eq!(
        setting.default_value().unwrap(),
        Strategy::default().as_str()
    );
}

#[test]
fn exact_names_win_then_the_most_specific_then_the_first_by_name() {
    let virtuals = Virtuals::new(
        [
            "claude-*",
            "*",
            "claude-sonnet-*",
            "claude-sonnet-4",
            "*-4",
            "b*c",
            "*bc",
        ]
        .map(|name| virtual_model(name, &["p/m"])),
    );
    for (model, name) in [
        ("claude-sonnet-4", "claude-sonnet-4"),
        ("claude-sonnet-5", "claude-sonnet-*"),
        ("claude-opus-4", "claude-*"),
        ("gpt-4", "*-4"),
        // Both have two characters: `*` comes before letters.
        ("bbc", "*bc"),
        ("bac", "b*c"),
        ("groq/llama", "*"),
        ("", "*"),
    ] {
        assert_eq!(found(&virtuals, model).as_deref(), Some(name), "{model}");
    }
    for built_in in BUILT_IN {
        assert_eq!(found(&virtuals, built_in), None);
    }
}

#[test]
fn disabled_ones_are_not_there() {
    let virtuals = Virtuals::new([
        disabled(virtual_model("coder", &["p/m"])),
        virtual_model("cod*", &["p/n"]),
        disabled(virtual_model("code*", &["p/n"])),
    ]);
    assert_eq!(found(&virtuals, "coder").as_deref(), Some("cod*"));
    assert_eq!(found(&virtuals, "x"), None);
    assert_eq!(virtuals.named().count(), 0);
}

#[test]
fn a_target_with_a_slash_is_virtual_only_by_its_exact_name() {
    let virtuals = Virtuals::new([
        virtual_model("*", &["groq/llama"]),
        virtual_model("Qwen/Qwen3", &["p/m"]),
    ]);
    let behind = |target: &str| virtuals.behind(target).map(|model| model.name.as_str());
    assert_eq!(behind("groq/llama"), None);
    assert_eq!(behind("Qwen/Qwen3"), Some("Qwen/Qwen3"));
    assert_eq!(behind("llama"), Some("*"));
    assert_eq!(behind("echo"), None);
}

#[test]
fn the_ends_of_a_chain_come_in_order_and_once() {
    let all = [
        virtual_model("coder", &["qwen/a", "small", "ollama/c"]),
        virtual_model("small", &["ollama/b", "qwen/a", "bare"]),
    ];
    let virtuals = Virtuals::new(all.clone());
    assert_eq!(
        virtuals.ends(&all[0]),
        ["qwen/a", "ollama/b", "bare", "ollama/c"]
    );
    // What was stored by other hands may be a circle: it has an end, too.
    let circle = [
        virtual_model("a", &["b", "p/a"]),
        virtual_model("b", &["a", "p/b"]),
    ];
    assert_eq!(
        Virtuals::new(circle.clone()).ends(&circle[0]),
        ["p/b", "p/a"]
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let many = vec!["p/m"; MOST_TARGETS + 1];
    let long = "x".repeat(LONGEST_NAME + 1);
    let long_target = "x".repeat(LONGEST_TARGET + 1);
    for (name, targets, faults) in [
        ("coder", vec!["p/m"], vec![]),
        ("a/b", vec!["b"], vec![]),
        (&*"é".repeat(LONGEST_NAME), vec!["b"], vec![]),
        ("", vec!["p/m"], vec![Fault::Name]),
        (" a", vec!["p/m"], vec![Fault::Name]),
        ("a\n", vec!["p/m"], vec![Fault::Name]),
        ("a\u{7}b", vec!["p/m"], vec![Fault::Name]),
        (&*long, vec!["p/m"], vec![Fault::Name]),
        ("echo", vec!["p/m"], vec![Fault::BuiltIn("echo".into())]),
        (
            "echo/echo",
            vec!["p/m"],
            vec![Fault::BuiltIn("echo/echo".into())],
        ),
        ("a", vec![], vec![Fault::NoTargets]),
        ("a", many, vec![Fault::ManyTargets]),
        (
            "a ",
            vec!["", "p/m", " ", "a ", "x*", " p/m", &long_target],
            vec![
                Fault::Name,
                Fault::EmptyTarget(1),
                Fault::EmptyTarget(3),
                Fault::Itself(4),
                Fault::Target(5),
                Fault::Target(6),
                Fault::Target(7),
            ],
        ),
    ] {
        let told = check(&virtual_model(name, &targets), &[])
            .err()
            .unwrap_or_default();
        assert_eq!(told, faults, "{name} {targets:?}");
    }
    for (weight, is_good) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
        let mut model = virtual_model("a", &["p/m"]);
        model.targets[0].weight = weight;
        let faults = check(&model, &[]).err().unwrap_or_default();
        assert_eq!(faults.is_empty(), is_good, "{weight}");
        assert!(is_good || faults == [Fault::Weight(1)]);
    }
}

#[test]
fn circles_are_found_wherever_they_begin() {
    let all = [
        virtual_model("b", &["p/m", "c"]),
        virtual_model("c", &["a"]),
        disabled(virtual_model("d", &["e"])),
    ];
    for (name, targets, fault) in [
        ("a", vec!["p/m", "b"], Some(circle(&["a", "b", "c", "a"]))),
        ("a", vec!["p/m", "p/b"], None),
        // The one it replaces does not count.
        ("c", vec!["p/a"], None),
        ("c", vec!["b"], Some(circle(&["c", "b", "c"]))),
        // Nor does one that is disabled, until it is enabled.
        ("e", vec!["d"], None),
        (
            "claude-*",
            vec!["claude-x"],
            Some(circle(&["claude-*", "claude-*"])),
        ),
        ("claude-*", vec!["anthropic/claude-x"], None),
        ("*", vec!["groq/llama"], None),
        ("*", vec!["echo"], None),
        ("*", vec!["b"], Some(circle(&["*", "b", "c", "*"]))),
        ("a*", vec!["c"], Some(circle(&["a*", "c", "a*"]))),
    ] {
        let told = check(&virtual_model(name, &targets), &all).err();
        assert_eq!(told, fault.map(|fault| vec![fault]), "{name} {targets:?}");
    }
    let e = virtual_model("e", &["d"]);
    let enabled = virtual_model("d", &["e"]);
    assert_eq!(
        check(&disabled(enabled), &[e]),
        Err(vec![circle(&["d", "e", "d"])]),
        "as if it was enabled"
    );
}

#[test]
fn chains_are_at_most_so_deep() {
    let name = |n: usize| format!("v{n}");
    let chain = |to: usize| -> Vec<VirtualModel> {
        (2..=to)
            .map(|n| {
                let next = if n == to { "p/m".into() } else { name(n + 1) };
                virtual_model(&name(n), &[&next])
            })
            .collect()
    };
    let first = virtual_model(&name(1), &[&name(2)]);
    assert_eq!(check(&first, &chain(DEEPEST)), Ok(()));
    assert_eq!(
        check(&first, &chain(DEEPEST + 1)),
        Err(vec![Fault::Deep("v1".into())])
    );
    // The one that makes another's chain too long is found, too.
    let mut before = chain(DEEPEST);
    before.push(first);
    let mut after = before.clone();
    after[DEEPEST - 2].targets[0].target = "more".into();
    after.push(virtual_model("more", &["p/m"]));
    assert_eq!(broken(&before, &after), [Fault::Deep("v1".into())]);
    assert_eq!(broken(&after, &before), []);
    assert_eq!(broken(&after, &after), [], "it was so before");
}

#[test]
fn what_an_exact_name_covered_may_become_a_circle() {
    let all = [
        virtual_model("claude-*", &["claude-x"]),
        virtual_model("claude-x", &["p/m"]),
    ];
    assert_eq!(check(&all[0], &all), Ok(()));
    assert_eq!(broken(&all, &all[..1]), [circle(&["claude-*", "claude-*"])]);
    assert_eq!(
        broken(&all, &[all[0].clone(), disabled(all[1].clone())]),
        [circle(&["claude-*", "claude-*"])]
    );
    assert_eq!(broken(&all, &all[1..]), []);
}

/// The plainest way to say it, in exponential time.
fn covers(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [WILD, rest @ ..] => (0..=text.len()).any(|at| covers(rest, &text[at..])),
        [one, rest @ ..] => text.first() == Some(one) && covers(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn a_glob_covers_what_it_says(pattern in "[ab*é]{0,7}", text in "[abé]{0,8}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let wanted = covers(&chars(&pattern), &chars(&text));
        let got = match Glob::read(&pattern) {
            Some(glob) => glob.covers(&text),
            None => pattern == text,
        };
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn who_comes_to_no_end_is_found_either_way(
        edges in proptest::collection::vec(("[a-e]", proptest::collection::vec("[a-f]", 1..3)), 1..12)
    ) {
        let models = edges.iter().map(|(name, targets)| {
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            (name.clone(), virtual_model(name, &targets))
        });
        let models: HashMap<_, _> = models.collect();
        let virtuals = Virtuals::new(models.into_values());
        let all = virtuals.endless();
        for model in &virtuals.models {
            prop_assert_eq!(all.contains(model.name.as_str()), endless(model, &virtuals).is_some());
        }
    }

    #[test]
    fn what_was_checked_comes_to_an_end(
        edges in proptest::collection::vec(("[a-d][a-d*]?", proptest::collection::vec("[a-d]{1,2}", 1..3)), 1..12)
    ) {
        let mut all: Vec<VirtualModel> = Vec::new();
        for (name, targets) in edges {
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            let candidate = virtual_model(&name, &targets);
            let mut after: Vec<_> = all.iter().filter(|one| one.name != name).cloned().collect();
            after.push(candidate.clone());
            if check(&candidate, &all).is_ok() && broken(&all, &after).is_empty() {
                all = after;
            }
        }
        let virtuals = Virtuals::new(all.clone());
        for model in &all {
            prop_assert_eq!(endless(model, &virtuals), None);
            prop_assert!(!virtuals.ends(model).is_empty());
        }
    }
}
