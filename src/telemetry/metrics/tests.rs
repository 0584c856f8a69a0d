use std::collections::BTreeMap;

use super::recorder::{builder, register};
use super::*;

/// All samples by series (name and labels), after `events`.
fn samples_after(events: impl FnOnce()) -> (BTreeMap<String, f64>, String) {
    let recorder = builder().unwrap().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        register();
        events();
    });
    let rendered = handle.render();
    let lines = rendered.lines();
    let samples = lines.filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    (samples.map(sample).collect(), rendered)
}

/// Emits every event once.
fn every_event() {
    http_route("GET", "/v1/models", &[200]);
    http_request("GET", "/v1/models", 200, Duration::from_secs(1));
    capacities(4, 16, 1000);
    ready(true);
    model_restart();
    load(2, 3);
    step(2, Duration::from_millis(20));
    prefill_batch(3, 2);
    image_cache(500);
    started(Duration::from_secs(1), 256, 5);
    vision(Duration::from_secs(1));
    first_token(Duration::from_secs(1), Duration::from_secs(2));
    next_token(Duration::from_millis(50));
    completion_token();
    for (metric, _, values) in LABELLED_COUNTERS {
        for value in values {
            match metric {
                FINISHED => finished(value, Duration::from_secs(1)),
                CANCELLED => cancelled(value),
                FAILED => failed(value),
                REJECTED => rejected(value, 2),
                other => panic!("{other:?} has no event"),
            }
        }
    }
}

fn name(series: &str) -> &str {
    let name = series.split('{').next().unwrap();
    let parts = ["_bucket", "_sum", "_count"];
    let histogram = parts.iter().find_map(|part| name.strip_suffix(part));
    histogram.unwrap_or(name)
}

#[test]
fn every_series_is_zero_before_its_first_event() {
    let routes = || http_route("GET", "/v1/models", &[200]);
    let (before, _) = samples_after(routes);
    let (after, _) = samples_after(every_event);
    assert!(before.values().all(|&value| value == 0.0), "{before:#?}");
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
}

#[test]
fn every_series_is_set_by_an_event_and_every_name_is_described() {
    let (samples, rendered) = samples_after(every_event);
    for (series, value) in samples {
        let is_bucket = series.contains("_bucket{");
        assert!(value > 0.0 || is_bucket, "{series} was never set");
        let help = format!("# HELP {} ", name(&series));
        assert!(rendered.contains(&help), "{series} is not described");
    }
}

#[test]
fn names_have_the_prefix_and_a_unit() {
    let (samples, rendered) = samples_after(every_event);
    for series in samples.keys() {
        let name = name(series);
        assert!(name.starts_with("paligemma_"), "{name}");
        let counts = rendered.contains(&format!("# TYPE {name} counter"));
        assert_eq!(counts, name.ends_with("_total"), "{name}");
    }
}

#[test]
fn hits_and_misses_add_up_to_the_generations() {
    let (samples, _) = samples_after(|| prefill_batch(5, 2));
    assert_eq!(samples[CACHE_HITS.0], 3.0);
    assert_eq!(samples[CACHE_MISSES.0], 2.0);
}
