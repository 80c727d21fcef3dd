//! Views, and checkpoints of them.

use super::Check;
use crate::{
    checkpoint::{CheckpointError, Store},
    config::{Config, problem::nearest, views::EPOCH_MS},
    views::Name,
};
use dbb_operators::views::placement;

impl Check<'_> {
    pub(super) fn views(&mut self, config: &Config) {
        let views = &config.views;
        let known = || Name::ALL.into_iter().map(Name::as_str);
        for (i, word) in views.keep.iter().enumerate() {
            let path = format!("views.keep[{i}]");
            if word == "all" && views.keep.len() > 1 {
                self.error(&path, "`all` stands for all the others").hint =
                    Some("write `keep: [all]`".into());
            } else if word != "all" && !known().any(|name| name == word) {
                let near = nearest(word, known().chain(["all"]));
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the views are {}", known().collect::<Vec<_>>().join(", ")),
                };
                self.error(&path, format!("no view is called `{word}`")).hint = Some(hint);
            } else if views.keep[..i].contains(word) {
                self.error(&path, format!("`{word}` is named twice"));
            }
        }
        if views.are_kept()
            && let Some(source) = config.source.read_once()
        {
            let message =
                format!("views need a source that can be read again, and `{source}` gives each event once");
            self.error("views.keep", message).hint =
                Some("put its events into a Kafka topic with `dbb record`, and keep views of that".into());
        }
        if views.publish_ms == 0 || !views.publish_ms.is_multiple_of(EPOCH_MS) {
            let message = format!("must be a multiple of {EPOCH_MS}, not {}", views.publish_ms);
            self.error("views.publish_ms", message);
        }
        if let Err(error) = placement::check(&views.policies) {
            self.error("views.policies", error.to_string());
        }
        let places = views.keep == ["all"] || views.keep.iter().any(|word| word == Name::Placement.as_str());
        if !views.policies.is_empty() && !places && config.hub.is_none() {
            self.warning("views.policies", "nothing looks at them: `placement` is not kept");
        }
    }

    pub(super) fn checkpoint(&mut self, config: &Config) {
        let checkpoint = &config.checkpoint;
        let Some(url) = &checkpoint.url else { return };
        if let Err(CheckpointError::Url { problem, .. }) = Store::existing(checkpoint) {
            self.error("checkpoint.url", format!("`{url}` {problem}")).hint =
                Some("write `/var/lib/dbb/checkpoints` or `s3://bucket/prefix`".into());
        }
        if !config.views.are_kept() {
            self.error("checkpoint.url", "no views are kept that could be checkpointed")
                .hint = Some("write `views: {keep: [all]}`, or leave `checkpoint` out".into());
        }
        if !(1..=3600).contains(&checkpoint.every_seconds) {
            let message = format!("must be 1 to 3600, not {}", checkpoint.every_seconds);
            self.error("checkpoint.every_seconds", message);
        }
        if !(2..=1000).contains(&checkpoint.keep) {
            let message = format!("must be 2 to 1000, not {}", checkpoint.keep);
            self.error("checkpoint.keep", message).hint =
                Some("with one alone there is none to go back to".into());
        }
        let is_s3 = url.starts_with("s3://");
        for (key, given) in [
            ("endpoint", checkpoint.endpoint.is_some()),
            ("region", checkpoint.region.is_some()),
            ("allow_http", checkpoint.allow_http),
        ] {
            if given && !is_s3 {
                self.warning(&format!("checkpoint.{key}"), "is for `s3://` alone");
            }
        }
        if checkpoint
            .endpoint
            .as_ref()
            .is_some_and(|e| e.starts_with("http://"))
            && !checkpoint.allow_http
        {
            self.error("checkpoint.endpoint", "has no encryption").hint =
                Some("write `https://`, or `allow_http: true` beside it".into());
        }
    }
}
