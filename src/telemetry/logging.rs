//! Log lines on stderr, as text or JSON.
//!
//! Lines within a request carry the fields of its span, including the request id. Prompts, answers
//! and images are never logged.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer, format};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::progress::beside_bars;
use crate::settings::LogFormat;

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("the log level {level:?} is not a list of directives: {error}")]
    Level { level: String, error: ParseError },
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
        LogFormat::Text => text(level, colours, stderr)?.try_init()?,
        LogFormat::Json => json(level, stderr)?.try_init()?,
    }
    Ok(())
}

/// Standard error, as seen beside bars of progress.
struct Stderr;

fn stderr() -> Stderr {
    Stderr
}

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        beside_bars(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(level).map_err(|error| LoggingError::Level {
        level: level.to_owned(),
        error,
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
    let format = format()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false);
    Ok(tracing_subscriber::fmt()
        .event_format(WithFieldsOfSpans(format))
        .fmt_fields(JsonFields::new())
        .with_env_filter(filter(level)?)
        .with_writer(writer)
        .finish())
}

/// Writes events as JSON objects, with the fields of their spans beside their own: the request's id
/// is where people and programs look for it.
struct WithFieldsOfSpans(Format<Json>);

impl<S, N> FormatEvent<S, N> for WithFieldsOfSpans
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        let object = line.trim_end();
        writer.write_str(object.strip_suffix('}').unwrap_or(object))?;
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            // An object as well.
            let object = extensions.get::<FormattedFields<N>>();
            let fields = object.and_then(|object| object.strip_prefix('{')?.strip_suffix('}'));
            if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
                write!(writer, ",{fields}")?;
            }
        }
        writeln!(writer, "}}")
    }
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

    /// Clients choose it among all printable characters.
    const ID: &str = r#"r-1"}\"#;

    fn log_within_a_request(subscriber: impl Subscriber + Send + Sync) {
        tracing::subscriber::with_default(subscriber, || {
            let _request = tracing::info_span!("request", request_id = ID).entered();
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
            "message": "answered", "tokens": 3, "request_id": ID});
        assert_eq!(line, expected);
    }

    #[test]
    fn a_text_line_within_a_request_carries_its_id() {
        let lines = Lines::default();
        log_within_a_request(text("info", false, lines.writer()).unwrap());
        let text = lines.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(&format!("request_id={ID:?}")) && text.contains("answered"),
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
