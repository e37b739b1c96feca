//! What each tool wants to be told, and where it looks. As measured with the tools themselves: OpenCode 1.18, Claude
//! Code 2.1, Codex 0.169, Qwen Code 0.15, aider 0.86, openai-python 3, openai-node 6, llm 0.36, `langchain-openai`
//! 1.7, Continue 1.5, Cline 3.0.

use std::fmt::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use crate::cli::env::files::Change;
use crate::cli::failure::Failure;

/// The gateway takes any; the tools want one.
const KEY: &str = "qwarden";
const PROVIDER: &str = "qwarden";

/// A tool that can be pointed at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// OpenCode (opencode.json).
    Opencode,
    /// Claude Code (settings.json, or variables).
    ClaudeCode,
    /// Codex (config.toml).
    Codex,
    /// Qwen Code (.env, or variables).
    QwenCode,
    /// aider (.aider.conf.yml, or variables).
    Aider,
    /// Python's package `openai`.
    OpenaiPython,
    /// Node's package `openai`.
    OpenaiNode,
    /// llm (extra-openai-models.yaml).
    Llm,
    /// What speaks to Ollama alone (a variable).
    Ollama,
    /// Python's package `langchain-openai`.
    Langchain,
    /// Continue (config.yaml).
    Continue,
    /// Cline (a command of its own).
    Cline,
}

/// Where requests go, and for which model.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Without `/v1`.
    pub(crate) root: String,
    pub(crate) model: String,
}

/// The configuration of one tool.
pub(crate) struct Setup {
    /// To be pasted.
    pub(crate) text: String,
    /// The same, for the tool's file.
    pub(crate) change: Change,
    /// What the user does next.
    pub(crate) then: String,
}

impl Setup {
    pub(crate) fn of(tool: Tool, target: &Target) -> Self {
        let base = format!("{}/v1", target.root);
        let model = target.model.as_str();
        match tool {
            Tool::Opencode => opencode(&base, model),
            Tool::ClaudeCode => claude_code(&target.root, model),
            Tool::Codex => codex(&base, model),
            Tool::QwenCode => {
                let variables = variables(&[
                    ("OPENAI_BASE_URL", &base),
                    ("OPENAI_API_KEY", KEY),
                    ("OPENAI_MODEL", model),
                ]);
                Self {
                    text: exports(&variables),
                    change: Change::Lines("=", variables),
                    then: "qwen --auth-type openai".into(),
                }
            }
            Tool::Aider => Self {
                text: exports(&variables(&[
                    ("OPENAI_API_BASE", &base),
                    ("OPENAI_API_KEY", KEY),
                    ("AIDER_MODEL", &format!("openai/{model}")),
                ])),
                change: Change::Lines(
                    ": ",
                    variables(&[
                        ("openai-api-base", &base),
                        ("openai-api-key", KEY),
                        ("model", &format!("openai/{model}")),
                    ]),
                ),
                then: format!("aider --model openai/{model}"),
            },
            Tool::OpenaiPython => Self {
                text: format!(
                    "from openai import OpenAI\n\n\
                     client = OpenAI(base_url={base}, api_key={KEY:?})\n\
                     answer = client.chat.completions.create(\n    \
                         model={model},\n    \
                         messages=[{{\"role\": \"user\", \"content\": \"Hello there\"}}],\n)\n\
                     print(answer.choices[0].message.content)\n",
                    base = literal(&base),
                    model = literal(model),
                ),
                change: sdk(&base),
                then: "pip install openai".into(),
            },
            Tool::OpenaiNode => Self {
                text: format!(
                    "import OpenAI from \"openai\";\n\n\
                     const client = new OpenAI({{ baseURL: {base}, apiKey: {KEY:?} }});\n\
                     const answer = await client.chat.completions.create({{\n  \
                         model: {model},\n  \
                         messages: [{{ role: \"user\", content: \"Hello there\" }}],\n}});\n\
                     console.log(answer.choices[0].message.content);\n",
                    base = literal(&base),
                    model = literal(model),
                ),
                change: sdk(&base),
                then: "npm install openai".into(),
            },
            Tool::Llm => llm(&base, model),
            Tool::Ollama => {
                let variables = variables(&[("OLLAMA_HOST", &target.root)]);
                Self {
                    text: exports(&variables),
                    change: Change::Lines("=", variables),
                    then: format!("curl {}/api/tags", word(&target.root)),
                }
            }
            Tool::Langchain => Self {
                text: format!(
                    "from langchain_openai import ChatOpenAI\n\n\
                     model = ChatOpenAI(base_url={base}, api_key={KEY:?}, model={model}, max_retries=0)\n\
                     print(model.invoke(\"Hello there\").content)\n",
                    base = literal(&base),
                    model = literal(model),
                ),
                change: Change::Lines(
                    "=",
                    variables(&[("OPENAI_API_BASE", &base), ("OPENAI_API_KEY", KEY)]),
                ),
                then: "pip install langchain-openai".into(),
            },
            Tool::Continue => continue_(&base, model),
            Tool::Cline => Self {
                text: format!(
                    "cline auth -p openai-compatible -k {KEY} -m {} -b {}\n",
                    word(model),
                    word(&base)
                ),
                change: Change::Nothing,
                then: "cline \"Say hello\"".into(),
            },
        }
    }
}

fn opencode(base: &str, model: &str) -> Setup {
    let config = json!({
        "$schema": "https://opencode.ai/config.json",
        "model": format!("{PROVIDER}/{model}"),
        "provider": {PROVIDER: {
            "npm": "@ai-sdk/openai-compatible",
            "name": "qwarden",
            "options": {"baseURL": base, "apiKey": KEY},
            "models": {model: {"name": model}},
        }},
    });
    Setup {
        text: format!("{config:#}\n"),
        change: Change::Json(config),
        then: "opencode".into(),
    }
}

/// Its small requests, such as titles, name a model of their own unless they are told another.
fn claude_code(root: &str, model: &str) -> Setup {
    let variables = variables(&[
        ("ANTHROPIC_BASE_URL", root),
        ("ANTHROPIC_API_KEY", KEY),
        ("ANTHROPIC_MODEL", model),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model),
    ]);
    let text = exports(&variables);
    let values: serde_json::Map<_, _> = variables
        .into_iter()
        .map(|(key, value)| (key, value.into()))
        .collect();
    Setup {
        text,
        change: Change::Json(json!({"env": values})),
        then: "claude".into(),
    }
}

fn codex(base: &str, model: &str) -> Setup {
    let top = vec![
        ("model".to_owned(), literal(model)),
        ("model_provider".to_owned(), literal(PROVIDER)),
    ];
    let table = format!(
        "[model_providers.{PROVIDER}]\n\
         name = \"qwarden\"\n\
         base_url = {}\n\
         env_key = \"QWARDEN_API_KEY\"\n\
         wire_api = \"responses\"\n",
        literal(base)
    );
    let change = Change::Toml {
        top,
        heading: format!("[model_providers.{PROVIDER}]"),
        table,
    };
    Setup {
        text: change.merged(None).unwrap_or_default(),
        change,
        then: format!("QWARDEN_API_KEY={KEY} codex"),
    }
}

fn llm(base: &str, model: &str) -> Setup {
    let first = format!("- model_id: {PROVIDER}");
    let text = format!(
        "{first}\n  model_name: {}\n  api_base: {}\n  supports_tools: true\n",
        literal(model),
        literal(base)
    );
    Setup {
        text: text.clone(),
        change: Change::Row { first, text },
        then: format!("OPENAI_API_KEY={KEY} llm -m {PROVIDER} \"Hello there\""),
    }
}

fn continue_(base: &str, model: &str) -> Setup {
    let first = format!("name: {PROVIDER}");
    let text = format!(
        "{first}\n\
         version: 1.0.0\n\
         schema: v1\n\
         models:\n  \
           - name: {PROVIDER}\n    \
             provider: openai\n    \
             model: {}\n    \
             apiBase: {}\n    \
             apiKey: {KEY}\n    \
             roles: [chat, edit, apply]\n",
        literal(model),
        literal(base)
    );
    Setup {
        text: text.clone(),
        change: Change::Whole { first, text },
        then: "cn --config ~/.continue/config.yaml".into(),
    }
}

/// Both packages read these of their own accord.
fn sdk(base: &str) -> Change {
    Change::Lines(
        "=",
        variables(&[("OPENAI_BASE_URL", base), ("OPENAI_API_KEY", KEY)]),
    )
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn exports(variables: &[(String, String)]) -> String {
    let mut text = String::new();
    for (key, value) in variables {
        let _ = writeln!(text, "export {key}={}", word(value));
    }
    text
}

/// As one word of a POSIX shell; bare where that is safe.
fn word(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// As a string of JSON, which Python, JavaScript and TOML read as well.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Where the tool looks for its configuration.
pub(crate) fn path(tool: Tool) -> Result<PathBuf, Failure> {
    let home = directories::BaseDirs::new().ok_or_else(|| {
        Failure::Other("this user has no home directory; name a file with --path".into())
    })?;
    let home = home.home_dir();
    let named = |variable: &str, usual: PathBuf| match std::env::var_os(variable) {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => usual,
    };
    Ok(match tool {
        Tool::Opencode => named("XDG_CONFIG_HOME", home.join(".config"))
            .join("opencode")
            .join("opencode.json"),
        Tool::ClaudeCode => named("CLAUDE_CONFIG_DIR", home.join(".claude")).join("settings.json"),
        Tool::Codex => named("CODEX_HOME", home.join(".codex")).join("config.toml"),
        Tool::QwenCode => home.join(".qwen").join(".env"),
        Tool::Aider => home.join(".aider.conf.yml"),
        // Of the project one stands in.
        Tool::OpenaiPython | Tool::OpenaiNode | Tool::Ollama | Tool::Langchain => {
            PathBuf::from(".env")
        }
        Tool::Llm => named(
            "LLM_USER_PATH",
            home.join(".config").join("io.datasette.llm"),
        )
        .join("extra-openai-models.yaml"),
        Tool::Continue => home.join(".continue").join("config.yaml"),
        Tool::Cline => home.join(".cline"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(model: &str) -> Target {
        Target {
            root: "http://127.0.0.1:3001".into(),
            model: model.into(),
        }
    }

    #[test]
    fn the_address_has_v1_but_for_claude_code_and_ollamas_clients() {
        for tool in Tool::value_variants() {
            let text = Setup::of(*tool, &target("m")).text;
            assert!(text.contains("http://127.0.0.1:3001"), "{tool:?}: {text}");
            assert_eq!(
                text.contains("http://127.0.0.1:3001/v1"),
                !matches!(tool, Tool::ClaudeCode | Tool::Ollama),
                "{tool:?}: {text}"
            );
        }
    }

    #[test]
    fn a_model_of_any_name_stays_one_word() {
        let odd = target("a'b\"c $d");
        for (tool, said) in [
            (Tool::QwenCode, r#"export OPENAI_MODEL='a'\''b"c $d'"#),
            (Tool::Codex, r#"model = "a'b\"c $d""#),
            (Tool::OpenaiPython, r#"model="a'b\"c $d","#),
            (Tool::Opencode, r#""model": "qwarden/a'b\"c $d""#),
            (Tool::Llm, r#"model_name: "a'b\"c $d""#),
            (Tool::Continue, r#"model: "a'b\"c $d""#),
            (Tool::Cline, r#"-m 'a'\''b"c $d' "#),
        ] {
            let text = Setup::of(tool, &odd).text;
            assert!(text.contains(said), "{tool:?}: {text}");
        }
    }
}
