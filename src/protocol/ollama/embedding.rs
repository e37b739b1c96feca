//! Texts as vectors: `/api/embed`, and the older `/api/embeddings` for one text.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::protocol::dialect::Telling;
use crate::protocol::ollama::answer::Moment;
use crate::protocol::openai::request::FieldError;

/// What was asked for.
pub(crate) struct Embed {
    /// As the client named it.
    pub(crate) model: String,
    input: Value,
    dimensions: Option<Value>,
    is_older: bool,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<Value>,
    prompt: Option<Value>,
    dimensions: Option<Value>,
}

impl Embed {
    /// Reads the body of either route.
    pub(crate) fn read(body: &[u8], is_older: bool) -> Result<Self, Vec<FieldError>> {
        let fault = |param: Option<&str>, code, message: String| {
            vec![FieldError {
                param: param.map(str::to_owned),
                message,
                code,
            }]
        };
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            let message = format!("the request cannot be read: {error}");
            fault(None, "invalid_json", message)
        })?;
        let missing = "missing_required_parameter";
        let model = body.model.filter(|model| !model.is_empty());
        let model =
            model.ok_or_else(|| fault(Some("model"), missing, "model is required".into()))?;
        let (name, input) = if is_older {
            ("prompt", body.prompt)
        } else {
            ("input", body.input)
        };
        let input = input.filter(|input| !input.is_null());
        let input =
            input.ok_or_else(|| fault(Some(name), missing, format!("{name} is required")))?;
        Ok(Self {
            model,
            input,
            dimensions: body.dimensions.filter(|count| !count.is_null()),
            is_older,
        })
    }

    /// The request of `OpenAI`'s dialect, to this model.
    pub(crate) fn request(&self, model: &str) -> Bytes {
        let mut request = Map::new();
        request.insert("model".into(), model.into());
        request.insert("input".into(), self.input.clone());
        if let Some(count) = &self.dimensions {
            request.insert("dimensions".into(), count.clone());
        }
        Value::Object(request).to_string().into()
    }

    /// How the answer is told.
    pub(crate) fn telling(self, clock: Box<dyn Fn() -> Moment + Send>) -> EmbedTelling {
        EmbedTelling { asked: self, clock }
    }
}

/// Tells vectors as Ollama does.
pub(crate) struct EmbedTelling {
    asked: Embed,
    clock: Box<dyn Fn() -> Moment + Send>,
}

impl Telling for EmbedTelling {
    fn whole(&mut self, answer: &[u8]) -> Result<Bytes, serde_json::Error> {
        let mut answer: Value = serde_json::from_slice(answer)?;
        let rows = answer.get_mut("data").and_then(Value::as_array_mut);
        let vectors = rows
            .into_iter()
            .flatten()
            .filter_map(|row| row.get_mut("embedding").map(Value::take));
        let mut vectors: Vec<Value> = vectors.collect();
        if self.asked.is_older {
            let only = vectors.drain(..).next().unwrap_or_else(|| json!([]));
            return Ok(json!({"embedding": only}).to_string().into());
        }
        let took = u64::try_from((self.clock)().since.as_nanos()).unwrap_or(u64::MAX);
        let told = json!({
            "model": self.asked.model,
            "embeddings": vectors,
            "total_duration": took,
            "load_duration": 0,
            "prompt_eval_count": answer["usage"]["prompt_tokens"].as_u64().unwrap_or_default(),
        });
        Ok(told.to_string().into())
    }

    /// Vectors come as one document.
    fn event(&mut self, _: &str, _: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_and_vectors_come_back() {
        let answer = json!({"data": [{"embedding": [0.5]}, {"embedding": [1]}], "usage": {"prompt_tokens": 3}}).to_string();
        let clock = || {
            Box::new(|| Moment {
                at: "now".into(),
                since: std::time::Duration::from_nanos(7),
            })
        };
        let embed =
            Embed::read(br#"{"model":"m","input":["a","b"],"dimensions":1}"#, false).unwrap();
        let asked: Value = serde_json::from_slice(&embed.request("x")).unwrap();
        assert_eq!(
            asked,
            json!({"dimensions": 1, "input": ["a", "b"], "model": "x"})
        );
        let told: Value =
            serde_json::from_slice(&embed.telling(clock()).whole(answer.as_bytes()).unwrap())
                .unwrap();
        assert_eq!(
            told,
            json!({"model": "m", "embeddings": [[0.5], [1]], "total_duration": 7, "load_duration": 0, "prompt_eval_count": 3})
        );
        let older = Embed::read(br#"{"model":"m","prompt":"a"}"#, true).unwrap();
        let told = older.telling(clock()).whole(answer.as_bytes()).unwrap();
        assert_eq!(told, br#"{"embedding":[0.5]}"#.as_slice());
        for body in ["{}", "{\"model\":\"m\"}", "7"] {
            assert!(Embed::read(body.as_bytes(), false).is_err());
        }
    }
}
