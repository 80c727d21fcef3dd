//! Mapping: which repositories a landed file belongs to, and what they know it by.
//!
//! ```text
//!   (RSE, scope) --> route --> repositories
//!   topic -----------> fits the route?
//!   replica's URL ---> longest prefix of the route --> path or URI for the Butler
//! ```
//!
//! In:    what an event says: RSE, scope, topic, URL.
//! Out:   a [`Route`] and a rewritten URL, or a [`MappingError`] that names what does not fit.
//! State: none; a few routes and prefixes from the configuration.
//!
//! No URL, however it is spelt, leads out of the folder its prefix is mapped to.

mod location;
#[cfg(test)]
mod tests;

use dbb_events::Reason;
use location::Location;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

/// Which files a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Files that landed on an RSE, of one scope or of any.
    Replica {
        /// The RSE.
        rse: Arc<str>,
        /// The scope; `None` for any.
        scope: Option<Arc<str>>,
    },
    /// Files for which `{rse}-{scope}`, or the RSE alone, is this word: an RSE and a scope may both
    /// have hyphens, so such a word cannot be taken apart.
    RseScope(Arc<str>),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica {
                rse,
                scope: Some(scope),
            } => write!(f, "{rse}-{scope}"),
            Self::Replica {
                rse: word,
                scope: None,
            }
            | Self::RseScope(word) => f.write_str(word),
        }
    }
}

/// Why a route cannot be built, or a URL not be mapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A prefix that no URL can start with.
    #[error("prefix `{from}` {fault}")]
    BadFrom {
        /// The prefix.
        from: String,
        /// The rest of the sentence.
        fault: &'static str,
    },
    /// A place that no file can be in.
    #[error("`{to}`, which replaces a prefix, {fault}")]
    BadTo {
        /// The place.
        to: String,
        /// The rest of the sentence.
        fault: &'static str,
    },
    /// A URL that is not safe to map.
    #[error("replica URL `{url}` {fault}")]
    BadUrl {
        /// The URL.
        url: String,
        /// The rest of the sentence.
        fault: &'static str,
    },
    /// A URL of some other place.
    #[error("replica URL `{url}` starts with none of the {count} prefixes configured for `{route}`")]
    UnknownPrefix {
        /// The URL.
        url: String,
        /// How many prefixes there are.
        count: usize,
        /// The RSE, and the scope where the route has one.
        route: String,
    },
}

impl MappingError {
    /// The class of the dead letter.
    pub fn reason(&self) -> Reason {
        Reason::UnknownPrefix
    }
}

/// One prefix, taken apart.
#[derive(Debug, Clone)]
struct Prefix {
    from: Location,
    to: To,
}

#[derive(Debug, Clone)]
enum To {
    /// Nothing: what remains is a path below the datastore's root.
    Nothing,
    /// A folder, with its slash at the end.
    Folder(String),
    /// A URI, with a slash at the end.
    Uri(String),
}

/// Where the files of one selector go.
#[derive(Debug, Clone)]
pub struct Route {
    selector: Selector,
    targets: Vec<Arc<str>>,
    topics: Vec<Arc<str>>,
    prefixes: Vec<Prefix>,
}

impl Route {
    /// A route to `targets` for the files of `selector`.
    ///
    /// `topics` are names under which they may be published besides `{rse}-{scope}` and `{rse}`. `prefixes`
    /// are pairs of what a URL starts with and what replaces it: an absolute folder, a URI, or nothing.
    pub fn new(
        selector: Selector,
        targets: Vec<Arc<str>>,
        topics: Vec<Arc<str>>,
        prefixes: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<Self, MappingError> {
        let prefixes = prefixes
            .into_iter()
            .map(|(from, to)| prefix(from.as_ref(), to.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            selector,
            targets,
            topics,
            prefixes,
        })
    }

    /// The names of the repositories.
    pub fn targets(&self) -> &[Arc<str>] {
        &self.targets
    }

    /// The files it is for.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// True when an event of (`rse`, `scope`) may come from `topic`.
    ///
    /// MirrorMaker puts the name of the cluster it copies from in front: `usdf.IN2P3_RAW_DISK-raw`.
    pub fn topic_fits(&self, topic: &str, rse: &str, scope: &str) -> bool {
        let own = |topic: &str| {
            topic.strip_prefix(rse).is_some_and(|after| {
                after.is_empty() || after.strip_prefix('-').is_some_and(|after| after == scope)
            }) || self.topics.iter().any(|known| **known == *topic)
        };
        // A scope may have dots, an alias too: any of them may be the one that ends the alias.
        own(topic)
            || topic
                .match_indices('.')
                .any(|(at, _)| at > 0 && own(&topic[at + 1..]))
    }

    /// What the Butler may know the file by of which only scope and name are told: on Rubin's storage a file is at
    /// `SCOPE/NAME` below the root of its RSE, and prefixes end with the root, or with the folder of the scope.
    pub fn places(&self, scope: &str, name: &str) -> Vec<String> {
        let mut places: Vec<String> = Vec::new();
        let clean = |part: &str| part.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        if !clean(scope) || !clean(name) {
            return places;
        }
        for Prefix { from, to } in &self.prefixes {
            let is_of_scope = from.segments.last().is_some_and(|last| last == scope);
            let below = if is_of_scope {
                name.to_owned()
            } else {
                format!("{scope}/{name}")
            };
            let place = match to {
                To::Nothing => below,
                To::Folder(folder) => format!("{folder}{below}"),
                To::Uri(uri) => {
                    let segments: Vec<String> = below.split('/').map(str::to_owned).collect();
                    format!("{uri}{}", location::encoded(&segments))
                }
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// True for a URI of a Butler that one of the prefixes leads to.
    pub fn leads_to(&self, uri: &str) -> bool {
        self.prefixes.iter().any(|prefix| match &prefix.to {
            To::Nothing => false,
            To::Folder(start) | To::Uri(start) => uri.starts_with(start.as_str()),
        })
    }

    /// What the Butler knows the file at `url` by: the longest prefix that fits, replaced.
    ///
    /// Spelling does not matter: upper case in scheme and host, the port that is the default one anyway,
    /// repeated slashes, needless percent-encoding. The start and whole names of folders do: `/raw` is no
    /// prefix of `/raw2/x`.
    ///
    /// Where nothing replaces the prefix, what follows it is left, a path below the datastore's root;
    /// but an absolute one if the prefix ends with the host and two slashes follow: `root://h:1094//data/x`.
    pub fn rewrite(&self, url: &str) -> Result<String, MappingError> {
        let bad = |fault| MappingError::BadUrl {
            url: url.into(),
            fault,
        };
        let location = Location::parse(url).map_err(bad)?;
        let prefix = self
            .prefixes
            .iter()
            .filter(|prefix| location.is_below(&prefix.from))
            .max_by_key(|prefix| prefix.from.segments.len());
        let Some(Prefix { from, to }) = prefix else {
            return Err(MappingError::UnknownPrefix {
                url: url.into(),
                count: self.prefixes.len(),
                route: self.selector.to_string(),
            });
        };
        let rest = &location.segments[from.segments.len()..];
        if rest.is_empty() {
            return Err(bad("is a prefix itself, not a file below it"));
        }
        match to {
            To::Uri(uri) => Ok(format!("{uri}{}", location::encoded(rest))),
            // In a path too, the Butler takes what follows `#` for a fragment, and `$HOME` for the variable.
            _ if rest.iter().any(|segment| segment.contains(['#', '?', '$'])) => {
                Err(bad("has a `#`, `?` or `$` in a name, which a path cannot have"))
            }
            To::Folder(folder) => Ok(format!("{folder}{}", rest.join("/"))),
            To::Nothing => {
                let absolute = from.segments.is_empty() && location.slashes > from.slashes.max(1);
                // `~root/x` is another folder and `file:/x` another root once the Butler reads them.
                if !absolute && rest[0].starts_with('~') | rest[0].contains(':') {
                    return Err(bad(
                        "has a `~` or `:` in what would be the first folder below a root",
                    ));
                }
                Ok(format!("{}{}", if absolute { "/" } else { "" }, rest.join("/")))
            }
        }
    }
}

fn prefix(from: &str, to: &str) -> Result<Prefix, MappingError> {
    let location = Location::parse(from).map_err(|fault| MappingError::BadFrom {
        from: from.into(),
        fault,
    })?;
    let bad = |fault| MappingError::BadTo { to: to.into(), fault };
    let with_slash = || {
        if to.ends_with('/') {
            to.to_owned()
        } else {
            format!("{to}/")
        }
    };
    let to = if to.is_empty() {
        To::Nothing
    } else if to.starts_with('/') {
        if to.split('/').any(|segment| segment == "..") {
            return Err(bad("has `..` in it"));
        }
        To::Folder(with_slash())
    } else if to.contains("://") {
        Location::parse(to).map_err(bad)?;
        To::Uri(with_slash())
    } else {
        return Err(bad("is neither an absolute path nor a URI"));
    };
    Ok(Prefix { from: location, to })
}

/// All routes, by RSE and scope.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    routes: Vec<Route>,
    by_replica: HashMap<Arc<str>, HashMap<Option<Arc<str>>, usize>>,
    by_word: HashMap<Arc<str>, usize>,
    removing: HashSet<Arc<str>>,
}

impl Mapping {
    /// A mapping with these routes; of two with the same selector, the first.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut mapping = Self::default();
        for (at, route) in routes.iter().enumerate() {
            match &route.selector {
                Selector::Replica { rse, scope } => {
                    let scopes = mapping.by_replica.entry(rse.clone()).or_default();
                    scopes.entry(scope.clone()).or_insert(at);
                }
                Selector::RseScope(word) => {
                    mapping.by_word.entry(word.clone()).or_insert(at);
                }
            }
        }
        Self { routes, ..mapping }
    }

    /// Where the files of `scope` on `rse` go; `None` if nowhere.
    ///
    /// A route with the scope goes before one for the whole RSE.
    pub fn route(&self, rse: &str, scope: &str) -> Option<&Route> {
        let scopes = self.by_replica.get(rse);
        let by_scope = || scopes?.get(&Some(Arc::from(scope)));
        let by_both_words = || {
            // A mapping is of one kind or of the other: most do not pay for the word.
            if self.by_word.is_empty() {
                None
            } else {
                self.by_word.get(format!("{rse}-{scope}").as_str())
            }
        };
        let at = by_scope()
            .or_else(by_both_words)
            .or_else(|| scopes?.get(&None))
            .or_else(|| self.by_word.get(rse))?;
        self.routes.get(*at)
    }

    /// The same, where `targets` are to be without the files that are gone.
    pub fn removing(self, targets: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            removing: targets.into_iter().collect(),
            ..self
        }
    }

    /// True when `target` is to be without the files that are gone.
    pub fn is_removing(&self, target: &str) -> bool {
        self.removing.contains(target)
    }

    /// True when files of `scope` on `rse` go to any such target.
    pub fn removes(&self, rse: &str, scope: &str) -> bool {
        !self.removing.is_empty()
            && self
                .route(rse, scope)
                .is_some_and(|route| route.targets.iter().any(|target| self.is_removing(target)))
    }

    /// All routes, in the order given.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}
