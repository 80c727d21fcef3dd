//! The threads' end: one source after the other, until each ask has its answer.

use super::{
    Cache, LookUp, LookUpError, LookUpSettings, LookUpStats,
    documents::Documents,
    labels, now,
    rucio::{Bulk, Rucio, Told},
};
use dbb_events::{Ask, Dependency, Did, Found, Labels};
use std::{collections::HashMap, sync::Arc};

/// All that looks labels up, ready for its threads.
pub struct LookUps {
    /// What is remembered: for the operator, which asks only for what is not in it.
    pub cache: Cache,
    /// What was done.
    pub stats: Arc<LookUpStats>,
    /// Rucio, where it is configured.
    pub rucio: Option<Rucio>,
    /// One for each thread.
    pub threads: Vec<Box<dyn LookUp>>,
}

/// Where labels come from, for one thread.
struct Chain {
    settings: Arc<LookUpSettings>,
    cache: Cache,
    stats: Arc<LookUpStats>,
    documents: Option<Documents>,
    rucio: Option<Bulk>,
}

impl LookUps {
    /// Prepares to look up; nothing is asked yet.
    ///
    /// # Errors
    /// The settings are of no use.
    pub fn open(settings: &LookUpSettings) -> Result<Self, LookUpError> {
        settings.validate()?;
        let settings = Arc::new(settings.clone());
        let cache = Cache::new(&settings.cache);
        let stats = Arc::new(LookUpStats::new(cache.clone()));
        let rucio = match &settings.rucio {
            Some(rucio) => Some(Rucio::open(rucio, Arc::clone(&stats))?),
            None => None,
        };
        let bulk = rucio.clone().map(Bulk::new);
        let documents = settings
            .documents
            .as_ref()
            .map(|documents| Documents::new(documents, &settings.labels, Arc::clone(&stats)));
        let thread = || -> Box<dyn LookUp> {
            Box::new(Chain {
                settings: Arc::clone(&settings),
                cache: cache.clone(),
                stats: Arc::clone(&stats),
                documents: documents.clone(),
                rucio: bulk.clone(),
            })
        };
        let threads = (0..settings.threads).map(|_| thread()).collect();
        Ok(Self {
            cache,
            stats,
            rucio,
            threads,
        })
    }
}

impl LookUps {
    /// Looks whether Rucio lets us in and the folders of documents are there: all that is wrong.
    pub fn check(&self, settings: &LookUpSettings) -> Vec<LookUpError> {
        let asked = self.rucio.as_ref().and_then(|rucio| rucio.check().err());
        let folders = settings
            .documents
            .iter()
            .flat_map(|documents| &documents.prefixes);
        let unread = folders.filter_map(|prefix| {
            let error = std::fs::read_dir(&prefix.to).err()?;
            Some(LookUpError::Settings {
                field: "documents.prefixes",
                problem: format!("folder `{}` cannot be read: {error}", prefix.to),
            })
        });
        asked.into_iter().chain(unread).collect()
    }
}

impl LookUp for Chain {
    fn look_up(&mut self, asks: Vec<Ask>) -> Vec<(Ask, Found)> {
        let mut hits = 0;
        let mut found: Vec<Option<Found>> = asks
            .iter()
            .map(|ask| {
                let labels = self.cache.peek(&ask.did);
                hits += u64::from(labels.is_some());
                labels.map(Found::Labels).or_else(|| self.document(ask))
            })
            .collect();
        let mut left: Vec<Did> = asks
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(ask, _)| ask.did.clone())
            .collect();
        // A file that landed at several RSEs is asked for once.
        left.sort_unstable();
        left.dedup();
        let told = match &self.rucio {
            Some(rucio) if !left.is_empty() => self.judge(rucio.look(left)),
            _ => HashMap::new(),
        };
        for (ask, found) in asks.iter().zip(&mut found) {
            found.get_or_insert_with(|| match told.get(&ask.did) {
                Some(found) => found.clone(),
                // Neither a document nor Rucio: nobody says that it is a dataset.
                None => Found::Labels(labels::none()),
            });
        }
        let answers: Vec<_> = asks.into_iter().zip(found.into_iter().flatten()).collect();
        self.count(&answers, hits);
        answers
    }
}

impl Chain {
    /// What a document says; `None` leaves it to Rucio.
    fn document(&self, ask: &Ask) -> Option<Found> {
        let documents = self.documents.as_ref()?;
        match documents.find(ask) {
            Ok(Some(labels)) => {
                self.cache.put(ask.did.clone(), Arc::clone(&labels));
                Some(Found::Labels(labels))
            }
            Ok(None) if self.rucio.is_some() => None,
            Ok(None) => Some(self.settings.patience.not_yet(
                Dependency::Labels,
                format!(
                    "there is no sidecar document for {}: {}",
                    ask.did,
                    documents.looked_at(ask)
                ),
                now(),
            )),
            Err(trouble) => Some(self.settings.patience.not_yet(Dependency::Labels, trouble, now())),
        }
    }

    fn judge(&self, told: HashMap<Did, Told>) -> HashMap<Did, Found> {
        let judged = told.into_iter().map(|(did, told)| {
            let found = self.judge_one(&did, told);
            (did, found)
        });
        judged.collect()
    }

    fn judge_one(&self, did: &Did, told: Told) -> Found {
        let patience = &self.settings.patience;
        let later = |detail| patience.not_yet(Dependency::Labels, detail, now());
        match told {
            Told::Metadata(metadata) => match labels::labels(did, &metadata, &self.settings.labels) {
                Ok(labels) => {
                    let labels: Arc<Labels> = Arc::new(labels);
                    self.cache.put(did.clone(), Arc::clone(&labels));
                    Found::Labels(labels)
                }
                Err(refusal) => Found::Refused(refusal),
            },
            Told::Unknown => later(format!("Rucio knows no DID {did}")),
            Told::Trouble(why) => later(format!("Rucio cannot tell the metadata of {did}: {why}")),
            Told::Down { why, since } => patience.down(why, since, now()),
        }
    }

    fn count(&self, answers: &[(Ask, Found)], hits: u64) {
        self.stats.update(|stats| {
            stats.asked += answers.len() as u64;
            stats.cache_hits += hits;
            for (_, found) in answers {
                match found {
                    Found::Labels(found) if found.contains_key(labels::BUTLER) => stats.labelled += 1,
                    Found::Labels(_) => stats.unlabelled += 1,
                    Found::Later(_) => stats.later += 1,
                    Found::Refused(_) => stats.refused += 1,
                }
            }
        });
    }
}
