use serde_json::json;

use super::*;

fn dollars(input: f64, output: f64, cached: f64) -> Price {
    price_of(&json!({"input": input, "output": output, "cached_input": cached})).unwrap()
}

#[test]
fn the_table_can_be_read_and_every_name_in_it_can_be_found() {
    let file: Value = serde_json::from_str(TABLE).unwrap();
    let known = Known::read(TABLE).unwrap();
    for (kind, rows) in file["prices"].as_object().unwrap() {
        for name in rows.as_object().unwrap().keys() {
            assert_eq!(*name, name.to_lowercase(), "{kind}");
            let model = name.trim_end_matches('*');
            assert!(known.price(kind, model).is_some(), "{kind} {name}");
        }
    }
    for kind in file["vendors"]["openrouter"].as_object().unwrap().values() {
        assert!(known.prices.contains_key(kind.as_str().unwrap()), "{kind}");
    }
    for row in ["[1]", "[1, -1]", "[1, 2, 3, 4, 5]", "[1, \"2\"]"] {
        let row: Vec<Value> = serde_json::from_str(row).unwrap();
        assert!(row_price(&row).is_err(), "{row:?}");
    }
}

#[test]
fn names_are_found_however_hosts_write_them() {
    let gpt = Some(dollars(2.5, 10.0, 1.25));
    for (kind, model) in [
        ("openai", "gpt-4o"),
        ("openai", "GPT-4o-2024-08-06"),
        ("openai", "gpt-4o-latest"),
        ("openrouter", "openai/gpt-4o"),
        ("openrouter", "openai/gpt-4o-2024-11-20"),
    ] {
        assert_eq!(facts(kind, model).price, gpt, "{kind} {model}");
        assert_eq!(facts(kind, model).context_length, Some(128_000), "{model}");
    }
    for (kind, model, input) in [
        ("openai", "gpt-4o-2024-05-13", 5_000_000),
        ("openai", "gpt-4o-mini-2024-07-18", 150_000),
        ("openai", "gpt-5-mini", 250_000),
        ("openai", "gpt-4-0613", 30_000_000),
        ("gemini", "models/gemini-2.5-flash-lite", 100_000),
        ("gemini", "gemini-2.0-flash-001", 100_000),
        ("anthropic", "claude-sonnet-4-5-20250929", 3_000_000),
        ("anthropic", "claude-opus-4-20250514", 15_000_000),
        ("openrouter", "anthropic/claude-opus-4.5", 5_000_000),
        ("mistral", "mistral-large-latest", 500_000),
        ("mistral", "mistral-large-2411", 2_000_000),
        ("groq", "openai/gpt-oss-120b", 150_000),
        (
            "together",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            880_000,
        ),
        ("dashscope", "qwen-plus-2025-07-28", 115_000),
        ("dashscope-intl", "qwen3-coder-plus", 1_000_000),
    ] {
        let price = facts(kind, model).price;
        assert_eq!(
            price.map(|price| price.input),
            Some(input),
            "{kind} {model}"
        );
    }
}

#[test]
fn what_nobody_knows_stays_unknown_and_what_is_at_home_costs_nothing() {
    for (kind, model) in [
        ("openai", "gpt-99"),
        ("openai-compatible", "gpt-4o"),
        ("openrouter", "qwen/qwen3-coder"),
        ("openai", ""),
        ("openai", "-"),
        ("openai", "ünïcödé-2024"),
    ] {
        assert_eq!(facts(kind, model).price, None, "{kind} {model}");
    }
    assert_eq!(facts("openai-compatible", "gpt-4o").vision, Some(true));
    for kind in ["ollama", "qwen-direct", "echo", "dashscope-coding"] {
        assert_eq!(
            facts(kind, "whatever").price,
            Some(Price::default()),
            "{kind}"
        );
    }
    assert_eq!(
        facts("openrouter", "z/y:free").price,
        Some(Price::default())
    );
    // The server's settings say how long it is.
    assert_eq!(facts("ollama", "qwen3-coder").context_length, None);
}

#[test]
fn costs_count_the_cache_and_are_rounded_once() {
    let price = Price {
        cache_write: 5_000_000,
        ..dollars(4.0, 10.0, 1.0)
    };
    let of = |prompt, completion, cached, cache_write| Usage {
        prompt: Some(prompt),
        completion: Some(completion),
        cached: Some(cached),
        cache_write: Some(cache_write),
        ..Usage::default()
    };
    assert_eq!(price.cost_microusd(&of(1_000, 100, 0, 0)), 5_000);
    assert_eq!(price.cost_microusd(&of(1_000, 100, 900, 0)), 2_300);
    assert_eq!(price.cost_microusd(&of(1_000, 0, 500, 100)), 2_600);
    // More cached than asked is the upstream's slip.
    assert_eq!(price.cost_microusd(&of(10, 0, 99, 99)), 10);
    assert_eq!(dollars(0.05, 0.08, 0.05).cost_microusd(&of(3, 4, 0, 0)), 0);
    assert_eq!(dollars(0.05, 0.08, 0.05).cost_microusd(&of(4, 4, 0, 0)), 1);
    assert_eq!(price.cost_microusd(&of(u64::MAX, u64::MAX, 0, 0)), u64::MAX);
    let total = Usage {
        total: Some(1_000),
        ..Usage::default()
    };
    assert_eq!(price.cost_microusd(&total), 4_000);
    let answer = Usage {
        prompt: Some(900),
        ..total
    };
    assert_eq!(price.cost_microusd(&answer), 4_600);
}

#[test]
fn a_link_says_better_and_what_it_says_wrongly_is_told() {
    let known = facts("openai", "gpt-4o");
    let config = json!({"price": {"input": 1, "output": 2.5}, "context_length": 9_000, "tools": false, "temperature": 0});
    assert!(faults(config.as_object().unwrap()).is_empty());
    let said = known.overridden(&config);
    assert_eq!(said.price, Some(dollars(1.0, 2.5, 1.0)));
    assert_eq!(
        (said.context_length, said.tools),
        (Some(9_000), Some(false))
    );
    assert_eq!(
        (said.vision, said.max_output),
        (Some(true), known.max_output)
    );
    assert_eq!(known.overridden(&json!({"price": null})).price, None);
    assert_eq!(
        known.overridden(&json!({"price": {"input": "1"}, "tools": 1})),
        known
    );
    for (config, key) in [
        (json!({"price": 3}), "price"),
        (json!({"price": {"input": 1}}), "price.output"),
        (json!({"price": {"input": -1, "output": 1}}), "price.input"),
        (
            json!({"price": {"input": 1, "output": 1, "in": 1}}),
            "price.in",
        ),
        (json!({"context_length": 0}), "context_length"),
        (json!({"max_output": "many"}), "max_output"),
        (json!({"vision": "yes"}), "vision"),
    ] {
        let told = faults(config.as_object().unwrap());
        assert!(told.len() == 1 && told[0].0 == key, "{config}: {told:?}");
    }
}
