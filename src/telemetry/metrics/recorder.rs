//! The process's recorder of metrics.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use super::catalogue::{
    ADAPTER_GENERATIONS, BUILD_INFO, COUNTERS, GAUGES, HISTOGRAMS, HTTP_REQUESTS, HTTP_SECONDS,
    KEY_REQUESTS, LABELLED_COUNTERS, Metric, NAMED_IMAGES, PREPARING_SECONDS, SECONDS,
};
use super::exposition::in_order;
use super::preparing;

/// How often unscraped samples are folded into their histograms.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The process's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    recorded: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Installs the process's recorder and registers the series that exist from the start. Further
    /// calls return the same metrics. Call it before the engine starts, because the engine reports its
    /// capacities only once.
    ///
    /// # Errors
    /// If another recorder was installed before.
    pub fn install() -> Result<Self, BuildError> {
        static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*installed {
            return Ok(metrics.clone());
        }
        let recorded = builder()?.install_recorder()?;
        register();
        // Otherwise samples would accumulate in memory until the next scrape.
        let upkeep = recorded.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(UPKEEP_EVERY);
                upkeep.run_upkeep();
            }
        });
        let process = Collector::default();
        process.describe();
        let metrics = Self { recorded, process };
        *installed = Some(metrics.clone());
        Ok(metrics)
    }

    /// All metrics in Prometheus' text format, in an order that never changes.
    pub fn render(&self) -> String {
        self.process.collect();
        in_order(&self.recorded.render())
    }
}

pub(super) fn builder() -> Result<PrometheusBuilder, BuildError> {
    let by_name = |metric: Metric| Matcher::Full(metric.0.to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(by_name(HTTP_SECONDS), &SECONDS)?
        .set_buckets_for_metric(by_name(PREPARING_SECONDS), &SECONDS)?;
    HISTOGRAMS
        .iter()
        .try_fold(builder, |builder, (metric, buckets)| {
            builder.set_buckets_for_metric(by_name(*metric), buckets)
        })
}

/// Describes every metric and registers the series that exist from the start, with the value 0.
pub(super) fn register() {
    describe_counter!(HTTP_REQUESTS.0, HTTP_REQUESTS.1);
    describe_histogram!(HTTP_SECONDS.0, HTTP_SECONDS.1);
    describe_gauge!(BUILD_INFO.0, BUILD_INFO.1);
    describe_counter!(ADAPTER_GENERATIONS.0, ADAPTER_GENERATIONS.1);
    describe_counter!(NAMED_IMAGES.0, NAMED_IMAGES.1);
    describe_counter!(KEY_REQUESTS.0, KEY_REQUESTS.1);
    for (name, meaning) in COUNTERS {
        describe_counter!(name, meaning);
        counter!(name).absolute(0);
    }
    for ((name, meaning), label, values) in LABELLED_COUNTERS {
        describe_counter!(name, meaning);
        for value in values {
            counter!(name, label => *value).absolute(0);
        }
    }
    for (name, meaning) in GAUGES {
        describe_gauge!(name, meaning);
        gauge!(name).set(0.0);
    }
    preparing::register();
    for ((name, meaning), _) in HISTOGRAMS {
        describe_histogram!(name, meaning);
        let _registered = histogram!(name);
    }
}
