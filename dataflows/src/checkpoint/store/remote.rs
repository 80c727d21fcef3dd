//! A store in S3, or in what speaks like it.

use super::Stored;
use crate::config::Checkpoint as Settings;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use std::{ops::Range, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// Longest for one request, and for all of its repetitions: whoever asks tries again by itself.
const REQUEST: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
const RETRIES: usize = 3;

pub(super) struct Remote {
    bucket: AmazonS3,
    prefix: String,
    runtime: Runtime,
}

impl Remote {
    /// The place behind `s3://`: a bucket, and perhaps a prefix.
    pub(super) fn new(place: &str, settings: &Settings) -> Result<Self, String> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err("names no bucket".into());
        }
        // Everything here uses ring; which of them is first to say so does not matter.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(
                ClientOptions::new()
                    .with_allow_http(settings.allow_http)
                    .with_timeout(REQUEST)
                    .with_connect_timeout(CONNECT),
            )
            .with_allow_http(settings.allow_http)
            .with_retry(RetryConfig {
                max_retries: RETRIES,
                retry_timeout: REQUEST,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            bucket: builder
                .build()
                .map_err(|error| format!("cannot be used: {error}"))?,
            prefix: prefix.trim_matches('/').into(),
            runtime: runtime.map_err(|error| format!("cannot be used: {error}"))?,
        })
    }

    fn path(&self, path: &str) -> Path {
        Path::from(format!("{}/{path}", self.prefix))
    }

    /// False when there is an object of that name and `create` is wanted.
    pub(super) fn put(&self, path: &str, bytes: Bytes, create: bool) -> Result<bool, Error> {
        let mode = if create {
            PutMode::Create
        } else {
            PutMode::Overwrite
        };
        let path = self.path(path);
        let put = self.bucket.put_opts(&path, bytes.into(), PutOptions::from(mode));
        match self.runtime.block_on(put) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if create => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn size(&self, path: &str) -> Result<Option<u64>, Error> {
        match self.runtime.block_on(self.bucket.head(&self.path(path))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.runtime
            .block_on(self.bucket.get_range(&self.path(path), range))
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<Stored>, Error> {
        let under = self.path(folder);
        let listed: Vec<_> = self
            .runtime
            .block_on(self.bucket.list(Some(&under)).try_collect())?;
        let name = |path: &Path| path.filename().map(|name| format!("{folder}/{name}"));
        Ok(listed
            .into_iter()
            .filter_map(|meta| {
                Some(Stored {
                    path: name(&meta.location)?,
                    bytes: meta.size,
                })
            })
            .collect())
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), Error> {
        match self.runtime.block_on(self.bucket.delete(&self.path(path))) {
            Err(error) if !matches!(error, Error::NotFound { .. }) => Err(error),
            _ => Ok(()),
        }
    }
}
