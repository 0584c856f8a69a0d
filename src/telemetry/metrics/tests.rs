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
    build(Some("avx2"));
    adapter_generations("counting", 2);
    named_image(true);
    key_request("alice", "taken");
    connections(2);
    stalled_reader();
    for stage in [
        Stage::Receiving,
        Stage::Fetching,
        Stage::Waiting,
        Stage::Decoding,
    ] {
        // The gauge is that of those that are under way.
        std::mem::drop(Preparing::new(stage));
        let _under_way = std::mem::ManuallyDrop::new(Preparing::new(stage));
    }
    model_loaded(Duration::from_secs(3));
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
                FINISHED => finished(value, 3, Duration::from_secs(1), Duration::from_secs(2)),
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
fn every_series_is_zero_before_its_first_event_but_those_of_requests_and_the_build_are_not_there() {
    let (before, _) = samples_after(|| {});
    let (after, _) = samples_after(every_event);
    assert!(before.values().all(|&value| value == 0.0), "{before:#?}");
    let late = |series: &&String| {
        let name = name(series);
        let http = name.starts_with("paligemma_http_re");
        http || [
            BUILD_INFO.0,
            KEY_REQUESTS.0,
            ADAPTER_GENERATIONS.0,
            NAMED_IMAGES.0,
        ]
        .contains(&name)
    };
    let (late, early): (Vec<_>, Vec<_>) = after.keys().partition(late);
    assert_eq!(before.keys().collect::<Vec<_>>(), early);
    for series in [
        &format!(
            r#"paligemma_build_info{{version="{}",revision="{}",cuda="{}",instructions="avx2"}}"#,
            build_info::VERSION,
            build_info::REVISION.unwrap_or_default(),
            build_info::CUDA
        ),
        r#"paligemma_http_requests_total{method="GET",route="/v1/models",status="200"}"#,
    ] {
        assert_eq!(after[series], 1.0);
    }
    assert_eq!(late.len(), 5 + SECONDS.len() + 3);
}

#[test]
fn every_series_that_an_alert_needs_exists_from_the_start() {
    let (before, _) = samples_after(|| {});
    let alerts = include_str!("../../../deploy/prometheus/alerts.yml");
    let mut checked = 0;
    for query in alerts.split("paligemma_").skip(1) {
        let end = query.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        let name = format!("paligemma_{}", &query[..end.unwrap()]);
        let labels = query[end.unwrap()..].split(['{', '}']).nth(1);
        let labels = labels.filter(|_| query[end.unwrap()..].starts_with('{'));
        let there = |series: &String| {
            series.starts_with(&name) && labels.is_none_or(|labels| series.contains(labels))
        };
        assert!(before.keys().any(there), "{name} {labels:?}");
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn every_metric_is_in_the_documentation_with_its_meaning() {
    let documentation = include_str!("../../../docs/monitoring.md");
    let (_, rendered) = samples_after(every_event);
    let described = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    for (name, meaning) in described {
        let row = documentation
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` | ")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in docs/monitoring.md"));
        assert!(row.ends_with(&format!(" | {meaning} |")), "{row}");
    }
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
        let prefixes = ["paligemma_", "vllm:", "gen_ai_server_"];
        let known = prefixes.iter().any(|prefix| name.starts_with(prefix));
        assert!(known, "{name}");
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
