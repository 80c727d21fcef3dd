#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn route(prefixes: &[(&str, &str)]) -> Route {
    let selector = Selector::Replica {
        rse: "RAL".into(),
        scope: None,
    };
    Route::new(selector, vec!["main".into()], vec![], prefixes.iter().copied()).unwrap()
}

fn named(selector: Selector, target: &str) -> Route {
    Route::new(selector, vec![target.into()], vec![], [("/a", "/b")]).unwrap()
}

fn replica(rse: &str, scope: Option<&str>) -> Selector {
    Selector::Replica {
        rse: rse.into(),
        scope: scope.map(Into::into),
    }
}

#[test]
fn a_route_with_the_scope_goes_before_one_for_the_whole_rse() {
    let mapping = Mapping::new(vec![
        named(replica("RAL", None), "any"),
        named(replica("RAL", Some("raw")), "raw"),
        named(replica("RAL", Some("raw")), "second"),
        named(Selector::RseScope("RAL-X-dp-2".into()), "word"),
        named(Selector::RseScope("LANCS".into()), "lancs"),
    ]);
    let target = |rse, scope| {
        mapping
            .route(rse, scope)
            .map(|route| route.targets()[0].to_string())
    };
    for (rse, scope, wanted) in [
        ("RAL", "raw", Some("raw")),
        ("RAL", "dp", Some("any")),
        ("RAL-X", "dp-2", Some("word")),
        ("RAL-X-dp", "2", Some("word")),
        ("RAL-X", "dp", None),
        ("LANCS", "dp", Some("lancs")),
        ("ral", "raw", None),
    ] {
        assert_eq!(target(rse, scope).as_deref(), wanted, "{rse} {scope}");
    }
}

#[test]
fn a_topic_is_the_rse_and_perhaps_the_scope_behind_an_alias() {
    let selector = replica("RAL", None);
    let route = Route::new(selector, vec![], vec!["campaign.7".into()], [("/a", "/b")]).unwrap();
    for topic in [
        "RAL-dp.2",
        "RAL",
        "usdf.RAL-dp.2",
        "usdf.eu.RAL",
        "campaign.7",
        "usdf.campaign.7",
    ] {
        assert!(route.topic_fits(topic, "RAL", "dp.2"), "{topic}");
    }
    for topic in [
        "",
        "RAL-dp",
        "RAL-",
        "RALdp.2",
        "XRAL-dp.2",
        ".RAL-dp.2",
        "RAL-dp.2.x",
        "ral-dp.2",
        "7",
        "usdf-RAL",
    ] {
        assert!(!route.topic_fits(topic, "RAL", "dp.2"), "{topic}");
    }
}

#[test]
fn a_prefix_is_replaced_however_the_url_is_spelt() {
    let route = route(&[("davs://Dtn.example.org:443/rucio/raw_disk/", "/sps/raw/")]);
    for url in [
        "davs://dtn.example.org:443/rucio/raw_disk/raw/LSSTCam/a b.fits",
        "davs://dtn.example.org/rucio/raw_disk/raw/LSSTCam/a%20b.fits",
        "DAVS://DTN.Example.ORG:443//rucio//raw_disk/./raw/LSSTCam//a%20b.fits",
        "davs://dtn.example.org:443/%72ucio/raw%5fdisk/raw/LSSTCam/a%20b.fits",
    ] {
        assert_eq!(
            route.rewrite(url).unwrap(),
            "/sps/raw/raw/LSSTCam/a b.fits",
            "{url}"
        );
    }
}

#[test]
fn a_prefix_fits_at_the_start_and_by_whole_names_only() {
    let route = route(&[("root://h:1094//rucio/raw", "/x")]);
    assert_eq!(route.rewrite("root://h//rucio/raw/a").unwrap(), "/x/a");
    for url in [
        "root://h//rucio/raw2/a",
        "root://h//RUCIO/raw/a",
        "root://h:1095//rucio/raw/a",
        "root://h.example.org//rucio/raw/a",
        "root://user@h//rucio/raw/a",
        "davs://h:1094//rucio/raw/a",
        "root://evil/root://h:1094//rucio/raw/a",
        "/rucio/raw/a",
    ] {
        let error = route.rewrite(url).unwrap_err();
        assert!(
            matches!(error, MappingError::UnknownPrefix { count: 1, .. }),
            "{url}: {error}"
        );
        assert!(
            error.to_string().contains("`RAL`") && error.to_string().contains(url),
            "{error}"
        );
    }
    assert!(matches!(
        route.rewrite("root://h//rucio/raw/"),
        Err(MappingError::BadUrl { .. })
    ));
}

#[test]
fn the_longest_of_several_prefixes_wins() {
    let route = route(&[
        ("root://h/", "/all"),
        ("root://h//rucio/raw/deep", "/deep"),
        ("root://h//rucio/raw", "/raw"),
        ("davs://door:8443/rucio", "/door"),
    ]);
    for (url, wanted) in [
        ("root://h:1094//rucio/raw/deep/a", "/deep/a"),
        ("root://h:1094//rucio/raw/deeper/a", "/raw/deeper/a"),
        ("root://h:1094//other/a", "/all/other/a"),
        ("davs://door:8443/rucio/a", "/door/a"),
    ] {
        assert_eq!(route.rewrite(url).unwrap(), wanted, "{url}");
    }
}

#[test]
fn a_uri_stays_valid() {
    let route = route(&[
        ("root://xrd1:1094//rucio", "file:///rucio0"),
        ("davs://h/a", "root://door:1094//data/"),
    ]);
    for (url, wanted) in [
        (
            "root://xrd1:1094//rucio/test/28/27/test",
            "file:///rucio0/test/28/27/test",
        ),
        (
            "davs://h/a/b%20c/d%23e+f%3F",
            "root://door:1094//data/b%20c/d%23e+f%3F",
        ),
        ("davs://h/a/é%zz", "root://door:1094//data/%C3%A9%25zz"),
    ] {
        assert_eq!(route.rewrite(url).unwrap(), wanted, "{url}");
    }
}

#[test]
fn without_a_replacement_what_follows_the_prefix_is_left() {
    let below_root = route(&[("root://h:1094//rucio/", "")]);
    assert_eq!(below_root.rewrite("root://h:1094//rucio/raw/a").unwrap(), "raw/a");
    let two_slashes = route(&[("root://h:1094//", "")]);
    assert_eq!(
        two_slashes.rewrite("root://h:1094//rucio/raw/a").unwrap(),
        "rucio/raw/a"
    );
    let host = route(&[("root://h:1094/", "")]);
    assert_eq!(
        host.rewrite("root://h:1094//rucio/raw/a").unwrap(),
        "/rucio/raw/a"
    );
    assert_eq!(host.rewrite("root://h:1094/rucio/raw/a").unwrap(), "rucio/raw/a");
    for url in [
        "root://h:1094//rucio/~root/a",
        "root://h:1094//rucio/file:/etc/passwd",
    ] {
        assert!(
            below_root
                .rewrite(url)
                .unwrap_err()
                .to_string()
                .contains("first folder"),
            "{url}"
        );
    }
}

#[test]
fn whatever_leads_out_of_the_folder_is_refused() {
    let route = route(&[("davs://h/rucio", "/sps")]);
    for (url, fault) in [
        ("davs://h/rucio/../etc/passwd", "`..`"),
        ("davs://h/rucio/a/../b", "`..`"),
        ("davs://h/x/../rucio/a", "`..`"),
        ("davs://h/rucio/%2e%2E/etc/passwd", "`..`"),
        ("davs://h/rucio/.%2e/a", "`..`"),
        ("davs://h/rucio/%2e%2e%2fetc", "encoded slash"),
        ("davs://h/rucio/a%2Fb", "encoded slash"),
        ("davs://h/rucio/%252e%252e/etc", "encoded twice"),
        ("davs://h/rucio/%00", "control character"),
        ("davs://h/rucio/a\nb", "control character"),
        ("davs://h/rucio/%ff", "not UTF-8"),
        ("davs://h/rucio/a?b", "query"),
        ("davs://h/rucio/a#b", "query"),
        ("davs://h/rucio/a%23b", "`#`"),
        ("davs://h/rucio/$HOME/b", "`$`"),
        ("davs:///rucio/a", "no host"),
        ("file://other/rucio/a", "another host"),
        ("rucio/a", "neither a URL"),
        ("", "neither a URL"),
    ] {
        let error = route.rewrite(url).unwrap_err();
        assert!(matches!(error, MappingError::BadUrl { .. }), "{url}: {error}");
        assert!(error.to_string().contains(fault), "{url}: {error}");
        assert_eq!(error.reason(), Reason::UnknownPrefix);
    }
}

#[test]
fn a_prefix_that_cannot_work_is_refused_at_the_start() {
    let build = |from, to| Route::new(replica("R", None), vec![], vec![], [(from, to)]);
    for (from, to) in [
        ("", "/a"),
        ("rucio/", "/a"),
        ("davs://h/a?b", "/a"),
        ("davs://h/../a", "/a"),
        ("davs://h/a", "sps/"),
        ("davs://h/a", "/sps/../etc"),
        ("davs://h/a", "file:///sps/%2e%2e/etc"),
        ("davs://h/a", "s3://bucket/?x"),
    ] {
        assert!(build(from, to).is_err(), "{from} {to}");
    }
    assert!(build("file:///data", "/a").is_ok());
}

#[test]
fn a_local_path_is_mapped_like_a_file_url() {
    for from in ["/data/in", "file:///data/in/", "FILE://localhost/data/in"] {
        let route = route(&[(from, "/sps")]);
        for url in ["/data/in/a", "file:///data/in/a", "//data//in/a"] {
            assert_eq!(route.rewrite(url).unwrap(), "/sps/a", "{from} {url}");
        }
    }
}

/// Pieces that URLs are attacked with.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "/", "//", "..", ".", "%2e", "%2E%2e", "%2f", "%252e", "%25", "%", "rucio", "raw", "a b", "é",
            "?", "#", ":443", "@", "\\", "%00", "%c0%ae",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,3}",
    ]
}

proptest! {
    #[test]
    fn no_url_leaves_the_folder_it_is_mapped_to(pieces in prop::collection::vec(piece(), 0..12)) {
        let rest = pieces.concat();
        let prefixes = [("davs://h/rucio", "/sps/disk"), ("root://h//rucio", "file:///sps/disk/"), ("dav://h/rucio", "")];
        let route = route(&prefixes);
        for start in ["davs://h/rucio/", "davs://h/rucio", "root://h//rucio/", "dav://h/rucio/", "davs://h/", ""] {
            let Ok(mapped) = route.rewrite(&format!("{start}{rest}")) else { continue };
            let path = mapped.strip_prefix("file://").unwrap_or(&mapped);
            let folder = if start.starts_with("dav:") { "" } else { "/sps/disk/" };
            prop_assert!(path.starts_with(folder) && path.len() > folder.len(), "{mapped}");
            prop_assert!(!path[folder.len()..].starts_with('/'), "{mapped}");
            // However often it is decoded.
            let mut decoded = path.to_owned();
            for _ in 0..4 {
                prop_assert!(!decoded.split('/').any(|segment| segment == ".."), "{mapped}");
                prop_assert_eq!(decoded.matches('/').count(), path.matches('/').count());
                decoded = percent_encoding::percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
            }
        }
    }

    #[test]
    fn every_name_arrives_whole(names in prop::collection::vec("[a-zA-Z0-9_+=, é-]{1,8}", 1..6)) {
        let route = route(&[("davs://h:443/rucio", "/sps"), ("root://h//rucio", "file:///sps")]);
        let path = names.join("/");
        prop_assert_eq!(route.rewrite(&format!("davs://H//rucio/{path}")).unwrap(), format!("/sps/{path}"));
        let uri = route.rewrite(&format!("root://h:1094//rucio//{path}")).unwrap();
        prop_assert!(uri.is_ascii() && !uri.contains(' '));
        let decoded = percent_encoding::percent_decode_str(&uri).decode_utf8().unwrap();
        prop_assert_eq!(decoded, format!("file:///sps/{path}"));
    }

    #[test]
    fn no_text_panics(url in ".{0,60}", topic in ".{0,20}") {
        let route = route(&[("davs://h/rucio", "/sps")]);
        let _ = route.rewrite(&url);
        let _ = Route::new(replica("R", None), vec![], vec![], [(&url, &topic)]);
        let _ = route.topic_fits(&topic, "R", "s");
    }
}
