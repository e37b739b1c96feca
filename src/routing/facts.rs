//! What is known of a model: its context, what it can do, its price.
//!
//! Three sources, the strongest first: the `config` of the link between provider and model, what the provider's own list
//! says, and the table in `assets/models.json`. The table is data: prices change, and a new model is a row there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use crate::protocol::openai::chunk::Usage;

const TABLE: &str = include_str!("../../assets/models.json");

/// One dollar, in micro-dollars.
const DOLLAR: f64 = 1_000_000.0;
const MILLION: u128 = 1_000_000;
/// No price and no budget is beyond so many dollars: that is a slip.
pub(crate) const DEAREST: f64 = 1_000_000.0;
/// No model has so many tokens.
const LONGEST: u64 = 1_000_000_000;

/// The keys of a link's `config` that say what is known of the model.
const NUMBERS: [&str; 2] = ["context_length", "max_output"];
const FLAGS: [&str; 4] = ["tools", "vision", "structured", "prefill"];
const PRICES: [&str; 4] = ["input", "output", "cached_input", "cache_write"];

/// What is known of a model; none where nobody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Tokens, question and answer together.
    pub(crate) context_length: Option<u64>,
    /// Tokens of an answer.
    pub(crate) max_output: Option<u64>,
    pub(crate) tools: Option<bool>,
    pub(crate) vision: Option<bool>,
    /// Answers by a JSON schema.
    pub(crate) structured: Option<bool>,
    /// It continues an assistant message that stands last.
    pub(crate) prefill: Option<bool>,
    pub(crate) price: Option<Price>,
}

/// Micro-dollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// For the part of the input that came from the upstream's cache.
    pub(crate) cached_input: u64,
    /// For the part of the input that was put into it.
    pub(crate) cache_write: u64,
}

impl Price {
    /// What an exchange cost, micro-dollars, rounded once.
    pub(crate) fn cost_microusd(&self, usage: &Usage) -> u64 {
        let completion = usage.completion.unwrap_or_else(|| match usage.prompt {
            Some(prompt) => usage.total.unwrap_or_default().saturating_sub(prompt),
            None => 0,
        });
        let prompt = usage
            .prompt
            .unwrap_or_else(|| usage.total.unwrap_or_default().saturating_sub(completion));
        let cached = usage.cached.unwrap_or_default().min(prompt);
        let written = usage.cache_write.unwrap_or_default().min(prompt - cached);
        let parts = [
            (prompt - cached - written, self.input),
            (cached, self.cached_input),
            (written, self.cache_write),
            (completion, self.output),
        ];
        let sum = parts
            .iter()
            .map(|(tokens, price)| u128::from(*tokens) * u128::from(*price))
            .fold(MILLION / 2, u128::saturating_add);
        u64::try_from(sum / MILLION).unwrap_or(u64::MAX)
    }
}

/// What is generally known of a model at a provider of this type.
pub(crate) fn facts(kind: &str, model: &str) -> Facts {
    let Some(known) = KNOWN.as_ref() else {
        return Facts::default();
    };
    let model = lower_case(model);
    let mut facts = if known.local.iter().any(|local| local == kind) {
        // Its server's settings decide what it can do, not its name.
        Facts::default()
    } else {
        known.models.find(&model).copied().unwrap_or_default()
    };
    facts.prefill = known
        .prefill
        .get(kind)
        .and_then(|table| table.find(&model))
        .copied();
    facts.price = known.price(kind, &model);
    facts
}

impl Facts {
    /// With what a link's `config` says. What is no fact there, or cannot be read, changes nothing.
    pub(crate) fn overridden(mut self, config: &Value) -> Self {
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        let number = |key: &str| config.get(key).and_then(length);
        self.context_length = number("context_length").or(self.context_length);
        self.max_output = number("max_output").or(self.max_output);
        self.tools = flag("tools").or(self.tools);
        self.vision = flag("vision").or(self.vision);
        self.structured = flag("structured").or(self.structured);
        self.prefill = flag("prefill").or(self.prefill);
        if let Some(price) = config.get("price") {
            self.price = price_of(price).or(self.price.filter(|_| !price.is_null()));
        }
        self
    }
}

/// What is wrong with a link's `config`: keys, and what they must be.
pub(crate) fn faults(config: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut fault = |key: String, must: String| faults.push((key, must));
    for key in NUMBERS {
        if config.get(key).is_some_and(|value| length(value).is_none()) {
            fault(
                key.into(),
                format!("must be a number of tokens from 1 to {LONGEST}"),
            );
        }
    }
    for key in FLAGS {
        if config.get(key).is_some_and(|value| !value.is_boolean()) {
            fault(key.into(), "must be true or false".into());
        }
    }
    match config.get("price") {
        None | Some(Value::Null) => {}
        Some(Value::Object(price)) => {
            for key in PRICES {
                let is_needed = key == "input" || key == "output";
                let is_wrong = match price.get(key) {
                    Some(value) => microusd(value).is_none(),
                    None => is_needed,
                };
                if is_wrong {
                    let must = format!("must be dollars for a million tokens, from 0 to {DEAREST}");
                    fault(format!("price.{key}"), must);
                }
            }
            for key in price.keys().filter(|key| !PRICES.contains(&key.as_str())) {
                let known = PRICES.join("`, `");
                fault(
                    format!("price.{key}"),
                    format!("is not known; there are: `{known}`"),
                );
            }
        }
        Some(_) => fault(
            "price".into(),
            "must be an object with `input` and `output`, or null for an unknown price".into(),
        ),
    }
    faults
}

fn length(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .filter(|tokens| (1..=LONGEST).contains(tokens))
}

fn price_of(price: &Value) -> Option<Price> {
    let of = |key: &str| price.get(key).and_then(microusd);
    let input = of("input")?;
    Some(Price {
        input,
        output: of("output")?,
        cached_input: of("cached_input").unwrap_or(input),
        cache_write: of("cache_write").unwrap_or(input),
    })
}

/// Dollars as micro-dollars; none when it is no amount of money.
pub(crate) fn microusd(value: &Value) -> Option<u64> {
    let dollars = value
        .as_f64()
        .filter(|dollars| (0.0..=DEAREST).contains(dollars))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative and far below the most"
    )]
    let micro = (dollars * DOLLAR).round() as u64;
    Some(micro)
}

/// The other way round.
#[expect(
    clippy::cast_precision_loss,
    reason = "to the cent up to billions of dollars"
)]
pub(crate) fn dollars(microusd: i64) -> f64 {
    microusd as f64 / DOLLAR
}

/// The table as it lies in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// When the prices were right.
    #[serde(rename = "as_of")]
    _as_of: String,
    #[serde(rename = "note")]
    _note: String,
    /// Types whose requests cost nothing more: the user's own machine, subscriptions, free logins.
    free: Vec<String>,
    local: Vec<String>,
    /// Types that serve models of other vendors for those vendors' prices: how such a name begins, and whose price it is.
    vendors: HashMap<String, HashMap<String, String>>,
    prefill: HashMap<String, HashMap<String, bool>>,
    models: HashMap<String, Row>,
    prices: HashMap<String, HashMap<String, Vec<Value>>>,
}

/// What a model can do, in the file. What is in neither list is not known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    context: Option<u64>,
    output: Option<u64>,
    #[serde(default)]
    can: String,
    #[serde(default)]
    cannot: String,
}

/// The table as it is looked up.
struct Known {
    free: Vec<String>,
    local: Vec<String>,
    vendors: HashMap<String, HashMap<String, String>>,
    prefill: HashMap<String, Names<bool>>,
    models: Names<Facts>,
    prices: HashMap<String, Names<Price>>,
}

/// A file that could not be read would mean that nothing is known; a test reads it.
static KNOWN: LazyLock<Option<Known>> = LazyLock::new(|| Known::read(TABLE).ok());

impl Known {
    fn read(text: &str) -> Result<Self, serde_json::Error> {
        let file: File = serde_json::from_str(text)?;
        let prices = file.prices.into_iter().map(|(kind, rows)| {
            let rows = rows
                .into_iter()
                .map(|(name, row)| Ok((name, row_price(&row)?)));
            let rows = rows.collect::<Result<Vec<_>, serde_json::Error>>()?;
            Ok((kind, Names::new(rows)))
        });
        Ok(Self {
            free: file.free,
            local: file.local,
            vendors: file.vendors,
            prefill: file
                .prefill
                .into_iter()
                .map(|(kind, rows)| (kind, Names::new(rows)))
                .collect(),
            models: Names::new(
                file.models
                    .into_iter()
                    .map(|(name, row)| (name, row.facts())),
            ),
            prices: prices.collect::<Result<_, serde_json::Error>>()?,
        })
    }

    fn price(&self, kind: &str, model: &str) -> Option<Price> {
        let is_free = self.free.iter().any(|free| free == kind);
        // QUIRK(openrouter): what is served for nothing has a name of its own.
        if is_free || (kind == "openrouter" && model.ends_with(":free")) {
            return Some(Price::default());
        }
        let own = self.prices.get(kind).and_then(|table| table.find(model));
        let price = own.or_else(|| {
            let (vendor, rest) = model.split_once('/')?;
            let whose = self.vendors.get(kind)?.get(vendor)?;
            self.prices.get(whose)?.find(rest)
        });
        price.copied()
    }
}

impl Row {
    fn facts(&self) -> Facts {
        let flag = |name: &str| {
            let says = |list: &str| list.split(' ').any(|word| word == name);
            if says(&self.can) {
                Some(true)
            } else {
                says(&self.cannot).then_some(false)
            }
        };
        Facts {
            context_length: self.context,
            max_output: self.output,
            tools: flag("tools"),
            vision: flag("vision"),
            structured: flag("structured"),
            prefill: None,
            price: None,
        }
    }
}

fn row_price(row: &[Value]) -> Result<Price, serde_json::Error> {
    let mut prices = row.iter().map(microusd);
    let wrong = || serde::de::Error::custom("a price is two to four numbers");
    let (Some(Some(input)), Some(Some(output)), 2..=4) = (prices.next(), prices.next(), row.len())
    else {
        return Err(wrong());
    };
    let mut or_input = || {
        prices
            .next()
            .map_or(Ok(input), |price| price.ok_or_else(wrong))
    };
    Ok(Price {
        input,
        output,
        cached_input: or_input()?,
        cache_write: or_input()?,
    })
}

/// Values by a model's whole name, or by how it begins.
struct Names<T> {
    whole: HashMap<String, T>,
    /// The longest first.
    beginnings: Vec<(String, T)>,
}

impl<T> Names<T> {
    fn new(rows: impl IntoIterator<Item = (String, T)>) -> Self {
        let (mut whole, mut beginnings) = (HashMap::new(), Vec::new());
        for (name, value) in rows {
            match name.strip_suffix('*') {
                Some(beginning) => beginnings.push((beginning.to_owned(), value)),
                None => drop(whole.insert(name, value)),
            }
        }
        beginnings.sort_by_key(|(beginning, _)| std::cmp::Reverse(beginning.len()));
        Self { whole, beginnings }
    }

    /// By the name as it is, then without what a host puts before it.
    fn find(&self, model: &str) -> Option<&T> {
        let last = || {
            model
                .rsplit_once('/')
                .and_then(|(_, rest)| self.find_one(rest))
        };
        self.find_one(model).or_else(last)
    }

    fn find_one(&self, model: &str) -> Option<&T> {
        let by_beginning = || {
            let mut beginnings = self.beginnings.iter();
            let found = beginnings.find(|(beginning, _)| model.starts_with(beginning.as_str()));
            found.map(|(_, value)| value)
        };
        self.whole
            .get(model)
            .or_else(|| self.whole.get(undated(model)))
            .or_else(by_beginning)
    }
}

/// A name without the date of its edition at the end: `-2024-08-06`, `-20241022`, `-2507`, `-001`, `-latest`.
fn undated(model: &str) -> &str {
    if let Some(rest) = model.strip_suffix("-latest") {
        return rest;
    }
    let is_date_character = |c: char| c.is_ascii_digit() || c == '-';
    let rest = model.trim_end_matches(is_date_character);
    let end = model.get(rest.len()..).unwrap_or_default();
    // What is in front of the first `-` belongs to the name: `gpt-4-0613` ends in `4-0613`.
    ["-dddd-dd-dd", "-dddddddd", "-dddd", "-ddd"]
        .iter()
        .find(|shape| {
            let tail = end
                .len()
                .checked_sub(shape.len())
                .and_then(|at| end.get(at..));
            tail.is_some_and(|tail| {
                let fits =
                    |(c, shape): (char, char)| if shape == '-' { c == '-' } else { c != '-' };
                tail.chars().zip(shape.chars()).all(fits)
            })
        })
        .and_then(|shape| model.get(..model.len() - shape.len()))
        .unwrap_or(model)
}

fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests;
