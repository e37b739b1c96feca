//! The vendors that speak `OpenAI`'s chat format or Anthropic's Messages, as data. A new one is a row.
//!
//! Those of Alibaba's regions and plans are from its help pages of 2026 (qwen-web-protocol, A10). The others are what is
//! generally known and were not tried from here. Every address can be replaced by `baseURL`.

use crate::protocol::dialect::Dialect;

/// The kind reported for a server that is no preset.
pub(crate) const GENERIC: &str = "generic-openai";
/// Any server that speaks Anthropic's Messages.
pub(crate) const ANTHROPIC: &str = "anthropic-compatible";

/// The kinds that know the role `developer`. Others are told `system`, which all know.
pub(crate) const KNOW_DEVELOPERS: [&str; 1] = ["openai"];

/// What is known about a vendor.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the vendor"
)]
pub(crate) struct Preset {
    /// Value of a provider's `type`: lower case letters, digits, `.` and `-`. Never changes once released.
    pub(crate) kind: &'static str,
    pub(crate) label: &'static str,
    pub(crate) description: &'static str,
    /// Used when the configuration has no `baseURL`.
    pub(crate) base_url: Option<&'static str>,
    /// The environment variable the vendor's own tools read the key from; None when no key is needed.
    pub(crate) key_variable: Option<&'static str>,
    /// Runs on the user's own machine.
    pub(crate) local: bool,
    /// Where to look for a local one.
    pub(crate) port: Option<u16>,
    /// Configuration keys without which no adapter can be made.
    pub(crate) required: &'static [&'static str],
    pub(crate) optional: &'static [&'static str],
    /// Understands `stream_options.include_usage`. Of a server that is no preset it is assumed.
    pub(crate) stream_usage: bool,
    /// Its own address serves Responses too: requests in that dialect are passed on as they are.
    pub(crate) responses: bool,
    /// `/v1` is appended to a `baseURL` that has none.
    pub(crate) append_v1: bool,
    pub(crate) dialect: Dialect,
}

/// The row of a kind; None means that it is a generic server.
pub(crate) fn find(kind: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.kind == kind)
}

const OPTIONAL: &[&str] = &[
    "baseURL",
    "apiKey",
    "timeout",
    "headers",
    "defaultModel",
    "record",
    "responses",
    "caFile",
];

/// Of a server that is no vendor's, so that its address is required.
pub(crate) const OPTIONAL_OF_ANY: &[&str] = &[
    "apiKey",
    "timeout",
    "headers",
    "defaultModel",
    "record",
    "responses",
    "caFile",
];

const fn cloud(
    kind: &'static str,
    label: &'static str,
    description: &'static str,
    base_url: &'static str,
    key_variable: &'static str,
) -> Preset {
    Preset {
        kind,
        label,
        description,
        base_url: Some(base_url),
        key_variable: Some(key_variable),
        local: false,
        port: None,
        required: &[],
        optional: OPTIONAL,
        stream_usage: true,
        append_v1: false,
        dialect: Dialect::Chat,
        responses: false,
    }
}

const fn local(
    kind: &'static str,
    label: &'static str,
    description: &'static str,
    base_url: &'static str,
    port: u16,
) -> Preset {
    Preset {
        kind,
        label,
        description,
        base_url: Some(base_url),
        key_variable: None,
        local: true,
        port: Some(port),
        required: &[],
        optional: OPTIONAL,
        stream_usage: true,
        append_v1: false,
        dialect: Dialect::Chat,
        responses: false,
    }
}

/// Every preset, in the order they are shown.
pub(crate) static PRESETS: &[Preset] = &[
    Preset {
        responses: true,
        ..cloud(
            "openai",
            "OpenAI",
            "GPT models from OpenAI",
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
        )
    },
    cloud(
        "openrouter",
        "OpenRouter",
        "Models of many vendors behind one key",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
    ),
    cloud(
        "dashscope",
        "Alibaba Model Studio (China)",
        "Qwen models, Beijing region",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    cloud(
        "dashscope-intl",
        "Alibaba Model Studio (international)",
        "Qwen models, Singapore region",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    cloud(
        "dashscope-us",
        "Alibaba Model Studio (US)",
        "Qwen models, Virginia region",
        "https://dashscope-us.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    cloud(
        "dashscope-hk",
        "Alibaba Model Studio (Hong Kong)",
        "Qwen models, Hong Kong region",
        "https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    cloud(
        "dashscope-coding",
        "Alibaba Coding Plan (China)",
        "Qwen models by subscription, keys of the form sk-sp-...",
        "https://coding.dashscope.aliyuncs.com/v1",
        "DASHSCOPE_API_KEY",
    ),
    cloud(
        "dashscope-coding-intl",
        "Alibaba Coding Plan (international)",
        "Qwen models by subscription, keys of the form sk-sp-...",
        "https://coding-intl.dashscope.aliyuncs.com/v1",
        "DASHSCOPE_API_KEY",
    ),
    cloud(
        "deepseek",
        "DeepSeek",
        "DeepSeek chat and reasoning models",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
    ),
    cloud(
        "groq",
        "Groq",
        "Open models on Groq's hardware",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
    ),
    // QUIRK(mistral): refuses unknown fields with 422, and sends usage in the last chunk anyway.
    Preset {
        stream_usage: false,
        ..cloud(
            "mistral",
            "Mistral",
            "Mistral's own models",
            "https://api.mistral.ai/v1",
            "MISTRAL_API_KEY",
        )
    },
    cloud(
        "together",
        "Together",
        "Open models hosted by Together",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
    ),
    cloud(
        "fireworks",
        "Fireworks",
        "Open models hosted by Fireworks",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
    ),
    cloud(
        "xai",
        "xAI",
        "Grok models",
        "https://api.x.ai/v1",
        "XAI_API_KEY",
    ),
    cloud(
        "gemini",
        "Google Gemini",
        "Gemini models through Google's OpenAI-compatible endpoint",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
    ),
    cloud(
        "moonshot",
        "Moonshot",
        "Kimi models",
        "https://api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
    ),
    cloud(
        "zhipu",
        "Zhipu",
        "GLM models",
        "https://open.bigmodel.cn/api/paas/v4",
        "ZHIPUAI_API_KEY",
    ),
    cloud(
        "siliconflow",
        "SiliconFlow",
        "Open models hosted by SiliconFlow",
        "https://api.siliconflow.cn/v1",
        "SILICONFLOW_API_KEY",
    ),
    cloud(
        "cerebras",
        "Cerebras",
        "Open models on Cerebras hardware",
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
    ),
    local(
        "ollama",
        "Ollama",
        "Models run by Ollama on this machine",
        "http://127.0.0.1:11434/v1",
        11434,
    ),
    local(
        "lm-studio",
        "LM Studio",
        "Models run by LM Studio on this machine",
        "http://127.0.0.1:1234/v1",
        1234,
    ),
    local(
        "llama.cpp",
        "llama.cpp",
        "A model run by llama-server on this machine",
        "http://127.0.0.1:8080/v1",
        8080,
    ),
    local(
        "vllm",
        "vLLM",
        "A model run by vLLM",
        "http://127.0.0.1:8000/v1",
        8000,
    ),
    Preset {
        kind: "qwen-proxy",
        label: "Qwen proxy",
        description: "A proxy to chat.qwen.ai that speaks OpenAI's format",
        base_url: Some("http://localhost:3000"),
        key_variable: None,
        local: true,
        port: None,
        required: &[],
        optional: OPTIONAL,
        stream_usage: true,
        append_v1: true,
        responses: false,
        dialect: Dialect::Chat,
    },
    Preset {
        append_v1: true,
        dialect: Dialect::Anthropic,
        ..cloud(
            "anthropic",
            "Anthropic",
            "Claude models from Anthropic",
            "https://api.anthropic.com/v1",
            "ANTHROPIC_API_KEY",
        )
    },
    Preset {
        kind: ANTHROPIC,
        label: "Anthropic-compatible server",
        description: "Any other server that speaks Anthropic's Messages",
        base_url: None,
        key_variable: None,
        local: false,
        port: None,
        required: &["baseURL"],
        optional: &[
            "apiKey",
            "timeout",
            "headers",
            "defaultModel",
            "record",
            "caFile",
        ],
        stream_usage: true,
        append_v1: true,
        dialect: Dialect::Anthropic,
        responses: false,
    },
    Preset {
        kind: "openai-compatible",
        label: "OpenAI-compatible server",
        description: "Any other server that speaks OpenAI's chat format",
        base_url: None,
        key_variable: None,
        local: false,
        port: None,
        required: &["baseURL"],
        optional: OPTIONAL_OF_ANY,
        stream_usage: true,
        append_v1: false,
        dialect: Dialect::Chat,
        responses: false,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::{Map, json};

    use super::super::{Definition, Http, build};
    use super::*;

    #[test]
    fn every_row_can_be_built_and_named() {
        let mut seen = HashSet::new();
        for preset in PRESETS {
            let well_formed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
            assert!(
                !preset.kind.is_empty() && preset.kind.chars().all(well_formed),
                "{}",
                preset.kind
            );
            assert!(seen.insert(preset.kind), "{} is there twice", preset.kind);
            assert!(preset.local || preset.port.is_none());
            let mut config = Map::new();
            if preset.required.contains(&"baseURL") {
                assert_eq!(preset.base_url, None);
                config.insert("baseURL".into(), json!("http://127.0.0.1:9/v1"));
            }
            let definition = Definition {
                id: "p".into(),
                kind: preset.kind.into(),
                config,
            };
            assert_eq!(
                build(&definition, &Http::default()).ok().unwrap().kind(),
                preset.kind
            );
        }
    }

    #[test]
    fn unknown_kinds_are_generic() {
        let config = Map::from_iter([("baseURL".to_owned(), json!("http://h"))]);
        let definition = Definition {
            id: "p".into(),
            kind: "Something Else".into(),
            config,
        };
        assert_eq!(
            build(&definition, &Http::default()).ok().unwrap().kind(),
            GENERIC
        );
    }
}
