//! The site's excuse for a call that its own runner took: `Tool <name> does not exist(s).` (annex A6). It may follow
//! other text of a short answer, and is never told where tools were declared.

/// Longer answers are no excuse, in characters.
const LENGTH: usize = 300;
/// How the excuse begins.
const HEAD: &str = "Tool ";
/// What follows the name.
const TAIL: &str = " does not exist";
/// The longest name, in characters.
const NAME: usize = 80;

/// The text of one answer, held back where it may yet be the excuse.
#[derive(Debug)]
pub(super) struct Excuse {
    /// Off where no tools were declared, and behind what is no excuse any more.
    is_on: bool,
    held: String,
    /// Characters so far.
    length: usize,
}

impl Excuse {
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            is_on,
            held: String::new(),
            length: 0,
        }
    }

    /// Takes more of the text, and gives what can be told.
    pub(super) fn take(&mut self, text: &str) -> String {
        self.held.push_str(text);
        if !self.is_on {
            return self.release();
        }
        self.length += text.chars().count();
        if self.length >= LENGTH {
            self.is_on = false;
            return self.release();
        }
        let rest = self.held.split_off(suspicious(&self.held));
        std::mem::replace(&mut self.held, rest)
    }

    /// What is held, to be told after all.
    pub(super) fn release(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether the answer, if it ends here, is the excuse.
    pub(super) fn is_there(&self) -> bool {
        self.held
            .match_indices(HEAD)
            .any(|(at, head)| read(self.held.get(at + head.len()..)) == Read::Excuse)
    }
}

/// What the text behind the excuse's first word is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Excuse,
    /// It ends too early to tell.
    Maybe,
    Other,
}

fn read(text: Option<&str>) -> Read {
    let line = text.unwrap_or_default();
    let name = line.find(TAIL).and_then(|at| line.get(..at));
    if let Some(name) = name.filter(|name| !name.contains('\n')) {
        let is_name = (1..=NAME).contains(&name.chars().count());
        return if is_name { Read::Excuse } else { Read::Other };
    }
    if line.contains('\n') || line.chars().count() >= NAME + TAIL.len() {
        return Read::Other;
    }
    Read::Maybe
}

/// The first place from which `text` is the excuse, or may become it.
fn suspicious(text: &str) -> usize {
    let mut heads = text.match_indices(HEAD);
    let head = heads.find(|(at, head)| read(text.get(at + head.len()..)) != Read::Other);
    if let Some((at, _)) = head {
        return at;
    }
    let begun = (1..HEAD.len())
        .rev()
        .filter_map(|length| HEAD.get(..length))
        .find(|begun| text.ends_with(begun));
    text.len() - begun.map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told at once, and whether the excuse is there in the end.
    fn told(pieces: &[&str]) -> (String, bool) {
        let mut excuse = Excuse::new(true);
        let told = pieces.iter().map(|piece| excuse.take(piece)).collect();
        (told, excuse.is_there())
    }

    #[test]
    fn the_excuse_is_told_from_prose_wherever_it_stands() {
        let long = "But ".repeat(80);
        for (pieces, at_once, is_there) in [
            (&["Tool read does not exists."][..], "", true),
            (&["Tool `fs.read` does ", "not exist"], "", true),
            (
                &["Let me. T", "ool read does not exist. So"],
                "Let me. ",
                true,
            ),
            (
                &["Tools do not exist for that."],
                "Tools do not exist for that.",
                false,
            ),
            (
                &["The tool read does not exist"],
                "The tool read does not exist",
                false,
            ),
            (&["Use a Tool for", " it."], "Use a ", false),
            (&["Tool A\nand more"], "Tool A\nand more", false),
            (&["Tool  does not exist"], "Tool  does not exist", false),
            (&["T", "o", "o", " late"], "Too late", false),
            (&[long.as_str(), "Tool read does not exist."], "", false),
        ] {
            let (heard, found) = told(pieces);
            let at_once = if at_once.is_empty() && !is_there {
                pieces.concat()
            } else {
                at_once.to_owned()
            };
            assert_eq!((heard, found), (at_once, is_there), "{pieces:?}");
        }
        let mut off = Excuse::new(false);
        assert_eq!(
            off.take("Tool read does not exist."),
            "Tool read does not exist."
        );
    }

    #[test]
    fn nothing_of_what_is_no_excuse_is_lost() {
        let text = "Tool: a Tool, To Tool one or Tool\nTool x does. Tool".repeat(3);
        for size in [1, 2, 5, 400] {
            let mut excuse = Excuse::new(true);
            let chars: Vec<char> = text.chars().collect();
            let pieces = chars
                .chunks(size)
                .map(|piece| piece.iter().collect::<String>());
            let mut heard: String = pieces.map(|piece| excuse.take(&piece)).collect();
            assert!(!excuse.is_there());
            heard.push_str(&excuse.release());
            assert_eq!(heard, text);
        }
    }
}
