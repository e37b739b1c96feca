//! A column that may be left alone, set, or emptied.

/// What a change does to a nullable text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patch {
    #[default]
    Keep,
    Put(Option<String>),
}

impl Patch {
    pub(super) fn is_put(&self) -> bool {
        matches!(self, Self::Put(_))
    }

    pub(super) fn value(&self) -> Option<&String> {
        match self {
            Self::Keep => None,
            Self::Put(value) => value.as_ref(),
        }
    }
}
