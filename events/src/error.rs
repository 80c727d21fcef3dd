//! Why bytes could not be read as an event: the class and one sentence.

use crate::Reason;

/// What is wrong with a body, a field of it or its sidecar.
///
/// None of these gets better by waiting: each is a dead letter, but for [`DecodeError::BulkAction`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`crate::MAX_BODY_BYTES`].
    #[error("the body has {bytes} bytes, more than the {limit} an event may have")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that is read.
        limit: usize,
    },
    /// Nothing, or white space only.
    #[error("the body is empty")]
    Empty,
    /// Not text.
    #[error("the body is not UTF-8: byte {offset} begins no character")]
    NotUtf8 {
        /// Bytes before the first that is wrong.
        offset: usize,
    },
    /// The text ends inside the JSON document.
    #[error("the JSON is cut short after {bytes} bytes")]
    Truncated {
        /// The length of what there is.
        bytes: usize,
    },
    /// The text is not JSON.
    #[error("the body is not JSON: {detail} near byte {offset}")]
    NotJson {
        /// What the parser says.
        detail: String,
        /// About where.
        offset: usize,
    },
    /// JSON nested too deeply to be an event.
    #[error("the JSON is nested more than {limit} levels deep at byte {offset}")]
    TooDeep {
        /// Bytes before the bracket that is too much.
        offset: usize,
        /// The deepest nesting that is read.
        limit: usize,
    },
    /// JSON, but no event.
    #[error("the body is {found}, not an object")]
    NotAnObject {
        /// What it is, with its article.
        found: &'static str,
    },
    /// The line that precedes an event in an Elastic bulk request: no event, and nothing is wrong.
    #[error("the line is an action of an Elastic bulk request, not an event")]
    BulkAction,
    /// A field nothing can be done without.
    #[error("field `{field}` is missing")]
    Missing {
        /// Its path in the body.
        field: &'static str,
    },
    /// A field of another type than it has in Rucio.
    #[error("field `{field}` is {found}, not {wanted}")]
    WrongType {
        /// Its path in the body.
        field: &'static str,
        /// What it is, with its article.
        found: &'static str,
        /// What it should be, with its article.
        wanted: &'static str,
    },
    /// Text that is no time.
    #[error("field `{field}` is `{text}`, not a time such as 2026-11-21 19:14:49.938629")]
    BadTime {
        /// Its path in the body.
        field: &'static str,
        /// The text, cut to 60 characters.
        text: String,
    },
    /// A word with a meaning that is none of those known.
    #[error("field `{field}` is `{word}`, none of {known}")]
    UnknownWord {
        /// Its path in the row.
        field: &'static str,
        /// The word, cut to 60 characters.
        word: String,
        /// Those that are known.
        known: &'static str,
    },
    /// Text that is no checksum.
    #[error("field `{field}` is `{text}`, not a checksum of at most eight hexadecimal digits")]
    BadChecksum {
        /// Its path in the row.
        field: &'static str,
        /// The text, cut to 60 characters.
        text: String,
    },
    /// A row of a listing that is none of the kinds there are.
    #[error("the row has none of the fields `rse`, `states`, `bytes` that a row of a listing has")]
    NoListing,
    /// A label nobody knows.
    #[error("field `payload.rubin_butler` is `{word}`, none of dim_file, zip_file, raw_file, data_product")]
    UnknownKind {
        /// The label, cut to 60 characters.
        word: String,
    },
    /// A sidecar that describes no dataset.
    #[error("field `payload.rubin_sidecar` {detail}")]
    BadSidecar {
        /// The rest of the sentence.
        detail: String,
    },
}

impl DecodeError {
    pub(crate) fn unknown_word(field: &'static str, word: &str, known: &'static str) -> Self {
        Self::UnknownWord {
            field,
            word: cut(word),
            known,
        }
    }

    /// The class of the dead letter.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. }
            | Self::Empty
            | Self::NotUtf8 { .. }
            | Self::Truncated { .. }
            | Self::NotJson { .. }
            | Self::TooDeep { .. }
            | Self::NotAnObject { .. }
            | Self::BulkAction => Reason::Unreadable,
            Self::Missing { .. }
            | Self::WrongType { .. }
            | Self::BadTime { .. }
            | Self::UnknownWord { .. }
            | Self::BadChecksum { .. }
            | Self::NoListing => Reason::BadField,
            Self::UnknownKind { .. } => Reason::UnknownKind,
            Self::BadSidecar { .. } => Reason::BadSidecar,
        }
    }
}

/// At most 60 characters of `text`, so that a sentence stays one.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
