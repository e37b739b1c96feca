//! What a client asked, in the terms of a chat: system text, turns, tools, and the model as the site names it.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::actors::sessions::Prefix;
use crate::exchange::qwen::refused::invalid;
use crate::hex;
use crate::protocol::openai::message::{self, ChatBody, Message, Role};
use crate::protocol::qwen::chain::{self, Hash};
use crate::protocol::qwen::models::{self, QwenModel};
use crate::protocol::qwen::prompt::{self, Writer};
use crate::protocol::qwen::request::{ChatType, SIZES, Thinking};
use crate::protocol::tools::declared::{Choice, Tools};
use crate::protocol::tools::notation::Notation;
use crate::protocol::tools::render;
use crate::providers::{Call, UpstreamError};

/// Model of requests that name none (management contract, 2.2).
pub(crate) const DEFAULT_MODEL: &str = "qwen3-max";
/// What of the first message a session is shown by.
const SHOWN: usize = 500;

/// See the module.
pub(crate) struct Asked {
    /// Our id of the exchange.
    pub(crate) request_id: String,
    /// As the client named it, for the answer.
    pub(crate) shown_model: String,
    /// As the site names it.
    pub(crate) model: String,
    system: String,
    pub(crate) messages: Vec<Message>,
    /// Empty when none are declared or none may be called.
    pub(crate) tools: Arc<Tools>,
    fingerprint: String,
    /// What the client calls its session.
    session: Option<String>,
    choice: Choice,
    pub(crate) parallel: bool,
    pub(crate) thinking: Thinking,
    pub(crate) chat_type: ChatType,
    /// Of the image to be made.
    pub(crate) size: Option<String>,
    /// Fields of the request that the site knows nothing of.
    pub(crate) ignored: Vec<&'static str>,
}

impl Asked {
    pub(crate) fn read(call: &Call, models: &[QwenModel]) -> Result<Self, UpstreamError> {
        let body = message::body(&call.body)
            .map_err(|error| invalid(&format!("the request cannot be read: {error}")))?;
        let shown_model = body
            .model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        let resolved = models::resolve(&shown_model, models);
        let model = resolved
            .as_ref()
            .map_or_else(|| shown_model.clone(), |resolved| resolved.model_id.clone());
        let by_name = resolved.as_ref().and_then(|resolved| resolved.thinking);
        let by_suffix = resolved.and_then(|resolved| resolved.chat_type);
        let thinking = thinking(&body, by_name);
        let chat_type = chat_type(&body, by_suffix)?;
        let size = size(&body, chat_type)?;
        let declared = Tools::read(body.tools.as_ref());
        let fingerprint = declared.fingerprint_text();
        let choice = Choice::read(body.tool_choice.as_ref());
        let tools = if matches!(choice, Choice::None) {
            Tools::read(None)
        } else {
            declared
        };
        let ignored = body.ignored;
        let (system, messages) = chain::split_system(body.messages);
        Ok(Self {
            request_id: call.request_id.clone(),
            shown_model,
            model,
            system,
            messages,
            tools: Arc::new(tools),
            fingerprint,
            session: call.session.clone(),
            choice,
            parallel: body.parallel_tool_calls,
            thinking,
            chat_type,
            size,
            ignored,
        })
    }

    /// Where every history of this system text, these tools, this model and account begins.
    fn root(&self, account: &str, notation: &Notation) -> Hash {
        // The chat knows its tools in one notation: told in another, it is another chat.
        let fingerprint = if self.tools.is_empty() {
            self.fingerprint.clone()
        } else {
            format!("{}\n{}", notation.name, self.fingerprint)
        };
        chain::root(&self.system, &fingerprint, &self.model, account)
    }

    /// What a chat may know of this history, the longest first.
    pub(crate) fn prefixes(&self, account: &str, notation: &Notation) -> Vec<Prefix> {
        let (known, whole) = chain::prefixes(self.root(account, notation), &self.messages);
        let question: Arc<str> = whole.to_string().into();
        // A history that ends in an answer asks for nothing new: it is told as a whole.
        let new = known
            .into_iter()
            .filter(|(messages, _)| *messages < self.messages.len());
        let prefix = |messages, hash| Prefix {
            messages,
            hash,
            question: question.clone(),
        };
        new.flat_map(|(messages, hash)| {
            let hashes = self.names(&hash).into_iter();
            hashes.map(move |hash| prefix(messages, hash))
        })
        .collect()
    }

    /// The hashes under which this history with `answer` at its end is known.
    pub(crate) fn after(
        &self,
        account: &str,
        notation: &Notation,
        answer: &Message,
    ) -> Vec<String> {
        let root = self.root(account, notation);
        self.names(&chain::after_answer(root, &self.messages, answer))
    }

    /// A history is known by itself, and before that by itself in this session: of two chats that know the same, a
    /// client's own is preferred.
    fn names(&self, hash: &Hash) -> Vec<String> {
        let plain = hash.to_string();
        let own = self
            .session
            .as_ref()
            .map(|session| hex::encode(&Sha256::digest(format!("{plain} in {session}"))));
        own.into_iter().chain([plain]).collect()
    }

    /// The whole history as the first message of a new chat.
    pub(crate) fn flattened(&self, notation: &Notation) -> String {
        let instructions = render::instructions(&self.tools, &self.choice, self.parallel, notation);
        write(notation, |writer| {
            prompt::flatten(&self.system, &instructions, &self.messages, writer)
        })
    }

    /// What is new since the first `known` messages.
    pub(crate) fn continued(&self, known: usize, notation: &Notation) -> String {
        write(notation, |writer| {
            prompt::continuation(&self.messages, known, writer)
        })
    }

    /// Whether an answer without a call is not what was asked for.
    pub(crate) fn must_call(&self) -> bool {
        !self.tools.is_empty() && matches!(self.choice, Choice::Required | Choice::Named(_))
    }

    /// Asks for a call that could not be read once more.
    pub(crate) fn repeat(reason: &str, notation: &Notation) -> String {
        let (open, close) = (notation.open, notation.close);
        format!(
            "Your tool call could not be read: {reason}. Write that call once more, as valid JSON between {open} and \
             {close}, with every quote and line break inside strings escaped. Write nothing else."
        )
    }

    /// Asks for the call that must come.
    pub(crate) fn insist(&self, notation: &Notation) -> String {
        let which = match &self.choice {
            Choice::Named(name) => format!("the tool `{name}`"),
            _ => "one of the tools".to_owned(),
        };
        let (open, close) = (notation.open, notation.close);
        format!(
            "You must call {which} now. Write the call between {open} and {close}, and nothing else."
        )
    }

    pub(crate) fn first_user_message(&self) -> String {
        let first = self
            .messages
            .iter()
            .find(|message| matches!(message.role, Role::User));
        first
            .map(|message| message.text.chars().take(SHOWN).collect())
            .unwrap_or_default()
    }
}

fn write(notation: &Notation, write: impl FnOnce(&Writer<'_>) -> String) -> String {
    let call = |name: &str, arguments: &str| render::call(name, arguments, notation);
    let result =
        |name: Option<&str>, id: &str, content: &str| render::result(name, id, content, notation);
    write(&Writer {
        call: &call,
        result: &result,
    })
}

/// The field says it more plainly than the model's name.
fn chat_type(body: &ChatBody, by_suffix: Option<ChatType>) -> Result<ChatType, UpstreamError> {
    let by_field = body.chat_type.as_deref().map(|name| {
        ChatType::named(name).ok_or_else(|| {
            let names = ChatType::names().join(", ");
            invalid(&format!("`chat_type` must be one of {names}"))
        })
    });
    let wanted = match (by_field, by_suffix) {
        (Some(named), _) => named?,
        (None, Some(chat_type)) => chat_type,
        (None, None) if body.web_search => ChatType::Search,
        (None, None) => ChatType::Text,
    };
    if wanted == ChatType::Video {
        return Err(invalid(
            "a video takes minutes and is no chat answer: make it at chat.qwen.ai, or ask a model without `-video`",
        ));
    }
    Ok(wanted)
}

fn size(body: &ChatBody, chat_type: ChatType) -> Result<Option<String>, UpstreamError> {
    let makes_image = matches!(chat_type, ChatType::Image | ChatType::ImageEdit);
    let size = body.size.clone().filter(|_| makes_image);
    if size.as_deref().is_some_and(|size| !SIZES.contains(&size)) {
        let sizes = SIZES.join(", ");
        return Err(invalid(&format!("`size` must be one of {sizes}")));
    }
    Ok(size)
}

/// Explicit fields win over the model's name (qwen-web-protocol, 6).
fn thinking(body: &ChatBody, by_name: Option<bool>) -> Thinking {
    let wanted = &body.thinking;
    let by_effort = wanted
        .effort
        .as_deref()
        .map(|effort| !matches!(effort, "none" | "minimal"));
    let on = wanted
        .enable
        .or(by_effort)
        .or(wanted.budget.map(|budget| budget > 0))
        .or(by_name);
    match on {
        Some(true) => Thinking::On {
            budget: wanted.budget,
        },
        Some(false) | None => Thinking::Off,
    }
}
