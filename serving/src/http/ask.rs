//! What a request asks of a view.

use super::format::Format;
use arrow::datatypes::{DataType, SchemaRef};
use std::collections::BTreeSet;

/// What is wrong with a request, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadRequest(pub(super) String);

/// Which rows and columns, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) format: Format,
    /// At most so many rows.
    pub(super) limit: Option<u64>,
    /// The columns, by their places.
    pub(super) columns: Vec<usize>,
    /// Columns of text, by their places, and the value that each must have.
    pub(super) equal: Vec<(usize, String)>,
}

impl Ask {
    pub(super) fn read(
        parameters: &[(String, String)],
        accept: Option<&str>,
        schema: &SchemaRef,
    ) -> Result<Self, BadRequest> {
        let mut ask = Self {
            format: accept.map_or(Format::Json, Format::of_accept),
            limit: None,
            columns: (0..schema.fields().len()).collect(),
            equal: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        for (name, value) in parameters {
            if !seen.insert(name) {
                return Err(BadRequest(format!("`{name}` is given twice, and can be once")));
            }
            match name.as_str() {
                "format" => {
                    ask.format = Format::of_name(value).ok_or_else(|| {
                        BadRequest(format!(
                            "there is no format `{value}`; there are json, ndjson and arrow"
                        ))
                    })?;
                }
                "limit" => {
                    let limit = value
                        .parse()
                        .map_err(|_| BadRequest(format!("limit `{value}` is no number of rows")))?;
                    ask.limit = Some(limit);
                }
                "columns" => {
                    ask.columns.clear();
                    for name in value.split(',').map(str::trim) {
                        let place = place(name, schema)?;
                        // So there are never more than the view has.
                        if ask.columns.contains(&place) {
                            return Err(BadRequest(format!("column `{name}` is asked for twice")));
                        }
                        ask.columns.push(place);
                    }
                }
                column => {
                    let place = place(column, schema)?;
                    if !is_text(schema.field(place).data_type()) {
                        return Err(BadRequest(format!(
                            "column `{column}` is no text, which alone can be asked for by value; those that are: {}",
                            names(schema, is_text)
                        )));
                    }
                    ask.equal.push((place, value.clone()));
                }
            }
        }
        Ok(ask)
    }
}

fn place(column: &str, schema: &SchemaRef) -> Result<usize, BadRequest> {
    schema.index_of(column).map_err(|_| {
        BadRequest(format!(
            "there is no column `{column}`; there are {}",
            names(schema, |_| true)
        ))
    })
}

fn names(schema: &SchemaRef, wanted: impl Fn(&DataType) -> bool) -> String {
    let fields = schema.fields().iter().filter(|field| wanted(field.data_type()));
    fields
        .map(|field| field.name().as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn read(query: &[(&str, &str)], accept: Option<&str>) -> Result<Ask, String> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("rse", DataType::Utf8, false),
            Field::new("files", DataType::Int64, false),
        ]));
        let query: Vec<_> = query
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Ask::read(&query, accept, &schema).map_err(|BadRequest(error)| error)
    }

    #[test]
    fn without_parameters_all_is_asked_for_as_json() {
        let ask = read(&[], None).unwrap();
        assert_eq!(
            (ask.format, ask.limit, ask.columns),
            (Format::Json, None, vec![0, 1])
        );
    }

    #[test]
    fn columns_limits_and_values_are_read() {
        let ask = read(&[("columns", "files,rse"), ("limit", "3"), ("rse", "A")], None).unwrap();
        assert_eq!(
            (ask.columns, ask.limit, ask.equal),
            (vec![1, 0], Some(3), vec![(0, "A".to_owned())])
        );
    }

    #[test]
    fn the_format_is_what_is_accepted_unless_it_is_named() {
        let arrow = "application/vnd.apache.arrow.stream";
        assert_eq!(
            read(&[], Some("text/html, application/x-ndjson;q=0.9"))
                .unwrap()
                .format,
            Format::Ndjson
        );
        assert_eq!(read(&[], Some(arrow)).unwrap().format, Format::Arrow);
        assert_eq!(read(&[], Some("*/*")).unwrap().format, Format::Json);
        assert_eq!(
            read(&[("format", "json")], Some(arrow)).unwrap().format,
            Format::Json
        );
    }

    #[test]
    fn nothing_can_be_asked_for_twice() {
        let many = vec!["rse"; 3000].join(",");
        assert_eq!(
            read(&[("columns", &many)], None).unwrap_err(),
            "column `rse` is asked for twice"
        );
        for name in ["columns", "rse", "limit", "format"] {
            let value = match name {
                "columns" => "rse",
                "limit" => "3",
                _ => "json",
            };
            assert_eq!(
                read(&[(name, value), (name, value)], None).unwrap_err(),
                format!("`{name}` is given twice, and can be once")
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (query, error) in [
            (("rze", "A"), "there is no column `rze`; there are rse, files"),
            (
                ("columns", "rse,size"),
                "there is no column `size`; there are rse, files",
            ),
            (
                ("files", "3"),
                "column `files` is no text, which alone can be asked for by value; those that are: rse",
            ),
            (("limit", "all"), "limit `all` is no number of rows"),
            (
                ("format", "xml"),
                "there is no format `xml`; there are json, ndjson and arrow",
            ),
        ] {
            assert_eq!(read(&[query], None).unwrap_err(), error);
        }
    }
}
