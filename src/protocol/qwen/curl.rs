//! A request as browsers copy it ("Copy as cURL"): read for its headers, never run.

/// What a login needs of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) cookies: Option<String>,
    pub(crate) bearer: Option<String>,
    pub(crate) umid: Option<String>,
    /// The browser's other headers that the site looks at, by lower-case name.
    pub(crate) headers: Vec<(String, String)>,
}

/// Whether a header of the login session is sent again with each request: what tells the browser, and what the site's
/// own page adds (qwen-web-protocol, 1). Whatever belongs to one request or connection is not.
pub(crate) fn is_replayed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(
        name.as_str(),
        "user-agent" | "accept-language" | "version" | "timezone" | "source"
    ) || name.starts_with("bx-")
        || name.starts_with("sec-ch-ua")
}

/// Reads the cookie header and the token of a copied command.
pub(crate) fn read(command: &str) -> Copied {
    let mut copied = Copied::default();
    let mut words = words(command).into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-H" | "--header" => {
                if let Some((name, value)) = words
                    .next()
                    .as_deref()
                    .and_then(|header| header.split_once(':'))
                {
                    copied.header(name.trim(), value.trim());
                }
            }
            "-b" | "--cookie" => copied.cookies = words.next(),
            "-A" | "--user-agent" => {
                let agent = words.next().map(|agent| ("user-agent".to_owned(), agent));
                copied.headers.extend(agent);
            }
            _ => {}
        }
    }
    copied
}

impl Copied {
    fn header(&mut self, name: &str, value: &str) {
        match name.to_ascii_lowercase().as_str() {
            "cookie" => self.cookies = Some(value.to_owned()),
            "authorization" => {
                self.bearer = value
                    .strip_prefix("Bearer ")
                    .map(|token| token.trim().to_owned());
            }
            name if is_replayed(name) => {
                if name == "bx-umidtoken" {
                    self.umid = Some(value.to_owned());
                }
                self.headers.push((name.to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }
}

/// A shell's words: quotes, `$'..'`, backslashes; nothing is expanded.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\'' => {
                let into = word.get_or_insert_default();
                into.extend(chars.by_ref().take_while(|char| *char != '\''));
            }
            '"' => {
                let into = word.get_or_insert_default();
                while let Some(char) = chars.next() {
                    match char {
                        '"' => break,
                        '\\' => into.extend(chars.next()),
                        char => into.push(char),
                    }
                }
            }
            '$' if chars.peek() == Some(&'\'') => {
                chars.next();
                let into = word.get_or_insert_default();
                while let Some(char) = chars.next() {
                    match char {
                        '\'' => break,
                        '\\' => into.extend(chars.next()),
                        char => into.push(char),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some('\r') => drop(chars.next_if_eq(&'\n')),
                Some(char) => word.get_or_insert_default().push(char),
            },
            char if char.is_whitespace() => words.extend(word.take()),
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_command_gives_its_cookies_and_token() {
        let command = "curl 'https://chat.qwen.ai/api/v2/chats/' \\\n  -H 'accept: */*' \\\r\n  -H \"Authorization: Bearer a.b.c\" \\\n  \
                       -H $'cookie: token=x; it\\'s=1' --compressed";
        let copied = read(command);
        assert_eq!(copied.cookies.as_deref(), Some("token=x; it's=1"));
        assert_eq!(copied.bearer.as_deref(), Some("a.b.c"));
        let browser =
            read("curl x -H 'User-Agent: B/1' -H 'bx-v: 2.5' -H 'x-request-id: 7' -H 'host: h'");
        let kept = [("user-agent", "B/1"), ("bx-v", "2.5")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(browser.headers, kept);
        assert_eq!(
            read("curl x -b 'a=1; b=2'").cookies.as_deref(),
            Some("a=1; b=2")
        );
        assert!(read("curl -H").cookies.is_none());
        assert!(read("' unclosed \\").cookies.is_none());
    }
}
