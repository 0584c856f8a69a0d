//! Log lines on stderr, as text or JSON.
//!
//! Lines within a request carry the fields of its span, including the request id. Prompts, answers
//! and images are never logged.

use std::io::{self, IsTerminal};

use json_subscriber::JsonLayer;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::settings::LogFormat;

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("the log level {level:?} is not a list of directives: {source}")]
    Level { level: String, source: ParseError },
    #[error(transparent)]
    Taken(#[from] TryInitError),
}

/// Logs to stderr what `level` (directives of [`EnvFilter`]) lets through.
///
/// # Errors
/// If `level` can't be parsed, or logging was already set up.
pub fn init(format: LogFormat, level: &str) -> Result<(), LoggingError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match format {
        LogFormat::Text => text(level, colours, io::stderr)?.try_init()?,
        LogFormat::Json => json(level, io::stderr)?.try_init()?,
    }
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(level).map_err(|source| LoggingError::Level {
        level: level.to_owned(),
        source,
    })
}

fn text<W>(level: &str, colours: bool, writer: W) -> Result<impl Subscriber, LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    Ok(tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_ansi(colours)
        .with_writer(writer)
        .finish())
}

fn json<W>(level: &str, writer: W) -> Result<impl Subscriber, LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let mut layer = JsonLayer::new(writer);
    layer
        .with_timer("timestamp", SystemTime)
        .with_level("level")
        .with_target("target")
        .with_flattened_event()
        // The fields of spans, which are the request's id, beside those of the event.
        .with_top_level_flattened_span_list();
    Ok(tracing_subscriber::registry()
        .with(filter(level)?)
        .with(layer))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Collects the output.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn writer(&self) -> impl for<'w> MakeWriter<'w> + Send + Sync + 'static {
            let lines = self.clone();
            move || lines.clone()
        }
    }

    fn log_within_a_request(subscriber: impl Subscriber + Send + Sync) {
        tracing::subscriber::with_default(subscriber, || {
            let _request = tracing::info_span!("request", request_id = "r-1").entered();
            let _inner = tracing::info_span!("inner").entered();
            tracing::info!(tokens = 3, "answered");
            tracing::debug!("too fine");
        });
    }

    #[test]
    fn a_json_line_within_a_request_carries_its_id_at_the_top_level() {
        let lines = Lines::default();
        log_within_a_request(json("info", lines.writer()).unwrap());
        assert_eq!(lines.text().lines().count(), 1, "{}", lines.text());
        let mut line: serde_json::Value = serde_json::from_str(&lines.text()).unwrap();
        let timestamp = line["timestamp"].take();
        assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
        let expected = serde_json::json!({
            "timestamp": null, "level": "INFO", "target": "paligemma_server::telemetry::logging::tests",
            "message": "answered", "tokens": 3, "request_id": "r-1"});
        assert_eq!(line, expected);
    }

    #[test]
    fn a_text_line_within_a_request_carries_its_id() {
        let lines = Lines::default();
        log_within_a_request(text("info", false, lines.writer()).unwrap());
        let text = lines.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("request_id=\"r-1\"") && text.contains("answered"),
            "{text}"
        );
    }

    #[test]
    fn a_level_for_one_module_applies_to_it_alone() {
        let lines = Lines::default();
        log_within_a_request(text("off,some::module=debug", false, lines.writer()).unwrap());
        assert_eq!(lines.text(), "");
    }
}
