//! Where a file is seen from here, and what its documents would be called.

use super::super::UrlPrefix;
use std::path::{Path, PathBuf};

/// The file at `url` as a path; `None` where no prefix fits, or where it would be outside of the folder.
pub(super) fn path(url: &str, prefixes: &[UrlPrefix]) -> Option<PathBuf> {
    let prefix = prefixes
        .iter()
        .filter(|prefix| url.starts_with(&prefix.from))
        .max_by_key(|prefix| prefix.from.len())?;
    let rest = url[prefix.from.len()..].trim_start_matches('/');
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let leaves = rest.split('/').any(|part| part == "..") || rest.contains('\0') || rest.is_empty();
    (!leaves).then(|| Path::new(&prefix.to).join(rest))
}

/// The documents that would be that of `file` alone, in the order to look for them.
pub(super) fn of_file(file: &Path, templates: &[String]) -> Vec<PathBuf> {
    let (Some(folder), Some(name), Some(stem)) = (
        file.parent(),
        file.file_name().and_then(|name| name.to_str()),
        file.file_stem().and_then(|name| name.to_str()),
    ) else {
        return Vec::new();
    };
    templates
        .iter()
        .map(|template| folder.join(template.replace("{name}", name).replace("{stem}", stem)))
        // A dataset in JSON is not its own description.
        .filter(|document| document != file)
        .collect()
}

/// The documents that would be those of its whole folder.
pub(super) fn of_folder(file: &Path, names: &[String]) -> Vec<PathBuf> {
    let Some(folder) = file.parent() else {
        return Vec::new();
    };
    names
        .iter()
        .map(|name| folder.join(name))
        .filter(|document| document != file)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn prefix(from: &str, to: &str) -> UrlPrefix {
        UrlPrefix {
            from: from.into(),
            to: to.into(),
        }
    }

    #[test]
    fn the_longest_prefix_leads_to_the_file_and_never_out_of_its_folder() {
        let prefixes = [prefix("davs://h:443/", "/a"), prefix("davs://h:443/raw/", "/b/")];
        let of = |url| path(url, &prefixes).map(|path| path.display().to_string());
        assert_eq!(of("davs://h:443/raw/x/y.fits").as_deref(), Some("/b/x/y.fits"));
        assert_eq!(of("davs://h:443//dp2/y.fits").as_deref(), Some("/a/dp2/y.fits"));
        assert_eq!(
            of("davs://h:443/raw/y.fits?token=1").as_deref(),
            Some("/b/y.fits")
        );
        for url in [
            "root://h/raw/x.fits",
            "davs://h:443/raw/../../etc/passwd",
            "davs://h:443/",
            "davs://h:443/a\0",
        ] {
            assert_eq!(of(url), None, "{url}");
        }
    }

    #[test]
    fn a_file_is_not_its_own_document() {
        let templates = ["{name}.json".into(), "{stem}.json".into()];
        let of = |file| of_file(Path::new(file), &templates);
        assert_eq!(
            of("/d/a.fits"),
            [Path::new("/d/a.fits.json"), Path::new("/d/a.json")]
        );
        assert_eq!(of("/d/a.json"), [Path::new("/d/a.json.json")]);
        assert_eq!(
            of_folder(Path::new("/d/a.fits"), &["all.yaml".into()]),
            [Path::new("/d/all.yaml")]
        );
    }
}
