//! The order of the exposition: the exporter's is that of hash maps, another in each process.

/// `text`, in Prometheus' text format, with its metrics by name and their series by labels, so that
/// two scrapes can be compared line by line.
pub(super) fn in_order(text: &str) -> String {
    let metrics = text.split("\n\n").filter(|metric| !metric.is_empty());
    // Each begins with its name: `# HELP name …`.
    let mut metrics: Vec<_> = metrics.collect();
    metrics.sort_unstable();
    let mut ordered = String::with_capacity(text.len());
    for metric in metrics {
        for line in series_in_order(metric) {
            ordered.push_str(line);
            ordered.push('\n');
        }
        ordered.push('\n');
    }
    ordered
}

/// The lines of a metric: its comments, and its series by their labels.
fn series_in_order(metric: &str) -> Vec<&str> {
    let lines: Vec<_> = metric.lines().collect();
    let comments = lines
        .iter()
        .take_while(|line| line.starts_with('#'))
        .count();
    let (comments, samples) = lines.split_at(comments);
    let is_histogram = comments.iter().any(|line| line.ends_with(" histogram"));
    // The lines of a histogram stay together, and its buckets in their order: `_count` is its last.
    let mut series: Vec<_> = samples
        .chunk_by(|line, _| is_histogram && !name(line).ends_with("_count"))
        .collect();
    series.sort_unstable();
    [comments, &series.concat()].concat()
}

fn name(sample: &str) -> &str {
    sample.split(['{', ' ']).next().unwrap_or(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_series_are_sorted_and_buckets_stay_in_their_order() {
        let text = "\
# HELP b Second.
# TYPE b counter
b{status=\"404\"} 1
b{status=\"200\"} 7

# HELP a First.
# TYPE a histogram
a_bucket{route=\"/y\",le=\"0.5\"} 1
a_bucket{route=\"/y\",le=\"10\"} 1
a_bucket{route=\"/y\",le=\"+Inf\"} 1
a_sum{route=\"/y\"} 0.1
a_count{route=\"/y\"} 1
a_bucket{route=\"/x\",le=\"0.5\"} 2
a_bucket{route=\"/x\",le=\"10\"} 3
a_bucket{route=\"/x\",le=\"+Inf\"} 3
a_sum{route=\"/x\"} 5.2
a_count{route=\"/x\"} 3

# HELP a_too Third.
# TYPE a_too gauge
a_too 1

";
        let ordered = "\
# HELP a First.
# TYPE a histogram
a_bucket{route=\"/x\",le=\"0.5\"} 2
a_bucket{route=\"/x\",le=\"10\"} 3
a_bucket{route=\"/x\",le=\"+Inf\"} 3
a_sum{route=\"/x\"} 5.2
a_count{route=\"/x\"} 3
a_bucket{route=\"/y\",le=\"0.5\"} 1
a_bucket{route=\"/y\",le=\"10\"} 1
a_bucket{route=\"/y\",le=\"+Inf\"} 1
a_sum{route=\"/y\"} 0.1
a_count{route=\"/y\"} 1

# HELP a_too Third.
# TYPE a_too gauge
a_too 1

# HELP b Second.
# TYPE b counter
b{status=\"200\"} 7
b{status=\"404\"} 1

";
        assert_eq!(in_order(text), ordered);
        assert_eq!(in_order(ordered), ordered);
    }
}
