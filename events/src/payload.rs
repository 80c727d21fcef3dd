//! What an event says of a file, a request, a rule or a DID: every field that anything here uses.

use crate::{
    DecodeError, Kind, Micros, Sidecar,
    error::cut,
    scalar::{FromScalar, Key, Scalar, fill},
    sidecar::SidecarText,
};
use serde::de::{IgnoredAny, MapAccess};
use std::borrow::Cow;

/// The value of `rubin_butler` as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label<'a> {
    /// A word: `raw_file`.
    Word(Cow<'a, str>),
    /// What events had before December 2024: the integer 1.
    Integer(i64),
}

impl<'a> FromScalar<'a> for Label<'a> {
    const WANTED: &'static str = "a string";

    fn from_scalar(value: Scalar<'a>) -> Option<Self> {
        match value {
            Scalar::Text(word) => Some(Self::Word(word)),
            Scalar::Integer(_) => i64::from_scalar(value).map(Self::Integer),
            _ => None,
        }
    }
}

macro_rules! payload {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $first:literal $(| $other:literal)*,)*) => {
        /// The payload, flat and lenient: a field that is absent, null or the text `None` is `None`, whatever
        /// the type of the event. Text is borrowed from the body unless it has escapes.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Payload<'a> {
            $($(#[$doc])* pub $field: Option<$type>,)*
            /// The sidecar as it came, as JSON text; see [`Payload::sidecar`].
            pub rubin_sidecar: Option<Cow<'a, str>>,
        }

        /// True for the keys that [`Payload::read`] does not skip, so that their values have a type.
        pub(crate) fn is_field(key: &[u8]) -> bool {
            const KEYS: &[&str] = &[$($first, $($other,)*)* "rubin_sidecar"];
            KEYS.iter().any(|field| field.as_bytes() == key)
        }

        impl<'a> Payload<'a> {
            /// Reads the fields of one object, skipping those that nothing uses.
            pub(crate) fn read<A: MapAccess<'a>>(
                &mut self,
                mut map: A,
                wrong: &mut Option<DecodeError>,
            ) -> Result<(), A::Error> {
                while let Some(Key(key)) = map.next_key()? {
                    match key.as_ref() {
                        $($first $(| $other)* => fill(
                            &mut self.$field,
                            map.next_value()?,
                            concat!("payload.", $first),
                            wrong,
                        ),)*
                        "rubin_sidecar" => match map.next_value()? {
                            SidecarText::Text(text) => self.rubin_sidecar = text,
                            SidecarText::Wrong(found) => {
                                wrong.get_or_insert(DecodeError::WrongType {
                                    field: "payload.rubin_sidecar",
                                    found,
                                    wanted: "a string",
                                });
                            }
                        },
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(())
            }
        }
    };
}

payload! {
    /// Scope of the DID.
    scope: Cow<'a, str> = "scope",
    /// Name of the DID.
    name: Cow<'a, str> = "name",
    /// The RSE of a deletion or a dataset lock.
    rse: Cow<'a, str> = "rse",
    /// The id of that RSE: a dataset lock has it, and the deletion of a file that no catalogue knows.
    rse_id: Cow<'a, str> = "rse_id",
    /// Where a transfer goes.
    dst_rse: Cow<'a, str> = "dst-rse",
    /// Where a transfer comes from.
    src_rse: Cow<'a, str> = "src-rse",
    /// The URL of the file where it landed.
    dst_url: Cow<'a, str> = "dst-url",
    /// The URL it came from.
    src_url: Cow<'a, str> = "src-url",
    /// The URL of a deleted file.
    url: Cow<'a, str> = "url",
    /// The transfer request.
    request_id: Cow<'a, str> = "request-id",
    /// The request this one tries again.
    previous_request_id: Cow<'a, str> = "previous-request-id",
    /// The rule; of transfers only `transfer-queued` has it.
    rule_id: Cow<'a, str> = "rule-id" | "rule_id",
    /// Name of the parent Rucio dataset.
    dataset: Cow<'a, str> = "dataset" | "dataset_name",
    /// Scope of the parent Rucio dataset.
    dataset_scope: Cow<'a, str> = "datasetScope" | "dataset_scope",
    /// Scope of what was attached or detached.
    child_scope: Cow<'a, str> = "child_scope" | "childscope",
    /// Name of what was attached or detached.
    child_name: Cow<'a, str> = "child_name" | "childname",
    /// Type of what was attached or detached, with or without `DIDType.` in front.
    child_type: Cow<'a, str> = "child_type" | "childtype",
    /// Type of the DID, with or without `DIDType.` in front.
    did_type: Cow<'a, str> = "did_type",
    /// Rucio's activity: `Data Consolidation`.
    activity: Cow<'a, str> = "activity",
    /// Rucio's account.
    account: Cow<'a, str> = "account",
    /// Size in bytes; Rucio writes it twice.
    bytes: u64 = "bytes" | "file-size",
    /// Number of files, when a dataset closes.
    length: u64 = "length",
    /// Adler-32 as it came; see [`Payload::adler32`].
    checksum_adler: Cow<'a, str> = "checksum-adler",
    /// MD5, 32 hexadecimal digits.
    checksum_md5: Cow<'a, str> = "checksum-md5",
    /// Why it failed; empty when it did not.
    reason: Cow<'a, str> = "reason",
    /// Seconds it took; -1 where nobody knows.
    duration_seconds: f64 = "duration",
    /// The protocol: `davs`, `root`.
    protocol: Cow<'a, str> = "protocol",
    /// When the request was made, as text; [`Micros::parse`] reads these.
    created_at: Cow<'a, str> = "created_at",
    /// When the request was queued or submitted, as text.
    queued_at: Cow<'a, str> = "queued_at",
    /// When FTS got the request, as text.
    submitted_at: Cow<'a, str> = "submitted_at",
    /// When the bytes began to flow, as text.
    started_at: Cow<'a, str> = "started_at",
    /// When the file had landed, as text; see [`Payload::landed_at`].
    transferred_at: Cow<'a, str> = "transferred_at",
    /// When a new DID will expire, as text.
    expired_at: Cow<'a, str> = "expired_at",
    /// How far a rule is, in percent.
    progress: i64 = "progress",
    /// The virtual organisation, where it is not the default one.
    vo: Cow<'a, str> = "vo",
    /// What a Butler is to do with the file; see [`Payload::kind`].
    rubin_butler: Label<'a> = "rubin_butler",
}

impl Payload<'_> {
    /// What a Butler is to do with the file; `None` when the file is not for one.
    ///
    /// Until December 2024 the label was the integer 1 and meant only "there is a Butler dataset in here";
    /// at the time every such file was a single dataset with its sidecar, which is what a data product is.
    /// Without a sidecar nothing says what to do with it, so 1 is then an unknown label like any other.
    pub fn kind(&self) -> Result<Option<Kind>, DecodeError> {
        let unknown = |word: &str| DecodeError::UnknownKind { word: cut(word) };
        match &self.rubin_butler {
            None => Ok(None),
            Some(Label::Word(word)) if word.is_empty() => Ok(None),
            Some(Label::Word(word)) => Kind::parse(word).map(Some).ok_or_else(|| unknown(word)),
            Some(Label::Integer(1)) if self.rubin_sidecar.is_some() => Ok(Some(Kind::DataProduct)),
            Some(Label::Integer(number)) => Err(unknown(&number.to_string())),
        }
    }

    /// The sidecar, in the form that today's Butler reads; `None` where there is none.
    pub fn sidecar(&self) -> Result<Option<Sidecar<'_>>, DecodeError> {
        self.rubin_sidecar.as_deref().map(Sidecar::parse).transpose()
    }

    /// Adler-32 as 8 lower-case hexadecimal digits; `None` where there is none, or what there is is not one.
    pub fn adler32(&self) -> Option<String> {
        adler32(self.checksum_adler.as_deref()?).map(|sum| format!("{sum:08x}"))
    }

    /// When the file had landed; `None` where the event does not say, or says no time.
    pub fn landed_at(&self) -> Option<Micros> {
        Micros::parse(self.transferred_at.as_deref()?)
    }
}

/// Adler-32 of 1 to 8 hexadecimal digits; `None` if `text` is anything else.
pub(crate) fn adler32(text: &str) -> Option<u32> {
    if !(1..=8).contains(&text.len()) {
        return None;
    }
    text.bytes().try_fold(0, |sum, digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(sum << 4 | value)
    })
}
