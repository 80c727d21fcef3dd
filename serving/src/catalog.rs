//! Registers metrics, and remembers what it registered: `docs/metrics.md` is written from it.

use prometheus_client::{
    encoding::EncodeMetric,
    registry::{Registry, Unit},
};
use std::fmt::{Debug, Write as _};

/// What every name starts with.
const PREFIX: &str = "dbb";

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets; its names end in `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// One metric, for people.
#[derive(Debug, Clone)]
pub struct Described {
    /// As Prometheus knows it.
    pub name: String,
    /// What kind of number it is.
    pub form: Form,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// A registry and what is in it.
#[derive(Debug)]
pub struct Catalog {
    registry: Registry,
    described: Vec<Described>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            registry: Registry::with_prefix(PREFIX),
            described: Vec::new(),
        }
    }
}

impl Catalog {
    /// Adds `metric`, called `name` and measured in `unit`; `help` is a sentence without its full stop.
    pub fn add<M>(
        &mut self,
        (name, unit): (&str, &str),
        form: Form,
        labels: &'static [&'static str],
        help: &'static str,
        metric: &M,
    ) where
        M: EncodeMetric + Clone + Send + Sync + Debug + 'static,
    {
        let unit_suffix = if unit.is_empty() {
            String::new()
        } else {
            format!("_{unit}")
        };
        let total = if form == Form::Counter { "_total" } else { "" };
        let full = format!("{PREFIX}_{name}{unit_suffix}{total}");
        self.described.push(Described {
            name: full,
            form,
            labels,
            help,
        });
        match unit {
            "" => self.registry.register(name, help, metric.clone()),
            "seconds" => self
                .registry
                .register_with_unit(name, help, Unit::Seconds, metric.clone()),
            "bytes" => self
                .registry
                .register_with_unit(name, help, Unit::Bytes, metric.clone()),
            other => self
                .registry
                .register_with_unit(name, help, Unit::Other(other.into()), metric.clone()),
        }
    }

    /// The registry, for the encoder.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics, in the order added.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// All metrics in Markdown: `docs/metrics.md`.
    pub fn markdown(&self) -> String {
        let mut page = INTRODUCTION.to_owned();
        for Described {
            name,
            form,
            labels,
            help,
        } in &self.described
        {
            let labels: Vec<_> = labels.iter().map(|l| format!("`{l}`")).collect();
            let form = match form {
                Form::Counter => "counter",
                Form::Gauge => "gauge",
                Form::Histogram => "histogram",
            };
            // A string cannot fail to take more.
            let _ = writeln!(page, "| `{name}` | {form} | {} | {help}. |", labels.join(", "));
        }
        page
    }
}

const INTRODUCTION: &str = "\
# Metrics

`GET /metrics` on the address `http.listen` answers in the OpenMetrics text format, which Prometheus reads. Times are in
seconds and sizes in bytes, as the names say. No label ever holds the name of a file.

`GET /livez` is 200 while the dataflow steps, else 503. `GET /readyz` is 200, or 503 with the reasons by name; not ready does
not mean broken: with one repository down the others go on.

This page is written from the program's own registry; a histogram `x` has the series `x_bucket`, `x_sum` and `x_count`.

| metric | kind | labels | meaning |
|---|---|---|---|
";
