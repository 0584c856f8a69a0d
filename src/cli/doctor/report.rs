//! What the doctor found, as a table that grows line by line, or as one JSON document.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// So many failed checks are named at the end; all of them are in the report.
const NAMED: usize = 5;

/// Everything that was found, by whichever thread.
pub struct Report {
    found: Mutex<Found>,
    json: bool,
}

#[derive(Default, Serialize)]
struct Found {
    machine: Vec<Fact>,
    checks: Vec<Check>,
    speed: Vec<Figure>,
    left_out: Vec<LeftOut>,
}

/// Something that is there.
#[derive(Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

/// Something that this machine is too small for.
#[derive(Serialize)]
struct LeftOut {
    name: String,
    reason: &'static str,
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    #[serde(flatten)]
    finding: Finding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Finding {
    /// How far something is off what is right, and how far it may be.
    Distance { error: f64, allowed: f64 },
    /// What is there, or what is wrong.
    Words { finding: String },
}

/// A measurement: the median, and the best.
#[derive(Serialize)]
struct Figure {
    name: String,
    median: f64,
    best: f64,
    unit: &'static str,
    /// What part of the speed this is that would be reached if all that counted were reading the weights
    /// from memory at the measured speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_limit: Option<f64>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self {
            found: Mutex::default(),
            json,
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is there.
    pub fn fact(&self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        self.line(&format!("{name:<24}{value}"));
        self.found().machine.push(Fact { name, value });
    }

    /// Notes how far something is off what is right.
    pub fn distance(&self, name: impl Into<String>, error: f64, allowed: f64) {
        // NaN is never right.
        let ok = error <= allowed;
        self.check(name.into(), ok, Finding::Distance { error, allowed });
    }

    /// Notes that something is as it should be.
    pub fn holds(&self, name: impl Into<String>, finding: impl Into<String>) {
        let finding = finding.into();
        self.check(name.into(), true, Finding::Words { finding });
    }

    /// Notes that something is wrong, or could not be found out.
    pub fn fails(&self, name: impl Into<String>, finding: impl Into<String>) {
        let finding = finding.into();
        self.check(name.into(), false, Finding::Words { finding });
    }

    fn check(&self, name: String, ok: bool, finding: Finding) {
        let word = if ok { "ok" } else { "WRONG" };
        let told = match &finding {
            Finding::Distance { error, allowed } => {
                format!("off by {error:<9.1e} at most {allowed:.0e}")
            }
            Finding::Words { finding } => finding.clone(),
        };
        self.line(&format!("{word:<7}{name:<66}{told}"));
        self.found().checks.push(Check { name, ok, finding });
    }

    /// Notes how long something takes. `limit` is the time that memory allows at best.
    pub fn time(
        &self,
        name: impl Into<String>,
        times: Vec<f64>,
        unit: &'static str,
        limit: Option<f64>,
    ) {
        let (best, median) = (f64::min, median(&times));
        let share = limit.map(|limit| limit / median);
        self.figure(name.into(), &times, best, unit, share);
    }

    /// Notes how quick something is.
    pub fn rate(&self, name: impl Into<String>, rates: Vec<f64>, unit: &'static str) {
        self.figure(name.into(), &rates, f64::max, unit, None);
    }

    fn figure(
        &self,
        name: String,
        values: &[f64],
        better: fn(f64, f64) -> f64,
        unit: &'static str,
        share_of_limit: Option<f64>,
    ) {
        let median = median(values);
        let best = values.iter().copied().fold(median, better);
        let share = share_of_limit.map_or(String::new(), |share| {
            format!("{:>6.0} % of the limit", 100.0 * share)
        });
        self.line(&format!(
            "{name:<46}{median:>12.4} {unit:<9} best {best:<10.4}{share}"
        ));
        self.found().speed.push(Figure {
            name,
            median,
            best,
            unit,
            share_of_limit,
        });
    }

    /// Notes that something was not measured.
    pub fn left_out(&self, name: impl Into<String>, reason: &'static str) {
        let name = name.into();
        self.line(&format!("{name:<46}not measured: {reason}"));
        self.found().left_out.push(LeftOut { name, reason });
    }

    /// Begins another part of the table.
    pub fn heading(&self, text: &str) {
        self.line(&format!("\n{text}"));
    }

    fn line(&self, text: &str) {
        if !self.json {
            // Nobody is left to read it where this fails.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// Prints the document, if one is wanted. Fails if a check did.
    pub fn finish(&self) -> anyhow::Result<()> {
        let found = self.found();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&*found)?);
        }
        let failed = found.checks.iter().filter(|check| !check.ok);
        let names: Vec<_> = failed.map(|check| check.name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let named = names.iter().take(NAMED).copied().collect::<Vec<_>>();
        Err(Unwell {
            failed: names.len(),
            all: found.checks.len(),
            names: named.join("; "),
            more: match names.len() - named.len() {
                0 => String::new(),
                more => format!("; and {more} more"),
            },
        }
        .into())
    }
}

/// Some check failed.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} checks failed: {names}{more}")]
struct Unwell {
    failed: usize,
    all: usize,
    names: String,
    more: String,
}

/// The middle one of some values, of which there is at least one.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
