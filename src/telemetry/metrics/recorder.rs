//! The process's recorder of metrics.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::{
    COUNTERS, GAUGES, HISTOGRAMS, HTTP_REQUESTS, HTTP_SECONDS, LABELLED_COUNTERS, Metric, SECONDS,
};

/// How often unscraped samples are folded into their histograms.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Installs the process's recorder, with every series at 0, and returns the handle that renders
/// `/metrics`. Further calls return the same handle. Call it before the engine starts, because the
/// engine reports its capacities only once.
///
/// # Errors
/// If another recorder was installed before.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = builder()?.install_recorder()?;
    register();
    *installed = Some(handle.clone());
    // Otherwise samples would accumulate in memory until the next scrape.
    let upkeep = handle.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(UPKEEP_EVERY);
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

pub(super) fn builder() -> Result<PrometheusBuilder, BuildError> {
    let by_name = |metric: Metric| Matcher::Full(metric.0.to_owned());
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(by_name(HTTP_SECONDS), &SECONDS)?;
    HISTOGRAMS
        .iter()
        .try_fold(builder, |builder, (metric, buckets)| {
            builder.set_buckets_for_metric(by_name(*metric), buckets)
        })
}

/// Describes every metric and registers every series whose labels are known.
pub(super) fn register() {
    describe_counter!(HTTP_REQUESTS.0, HTTP_REQUESTS.1);
    describe_histogram!(HTTP_SECONDS.0, HTTP_SECONDS.1);
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
    for ((name, meaning), _) in HISTOGRAMS {
        describe_histogram!(name, meaning);
        let _registered = histogram!(name);
    }
}
