//! What the doctor found, as a table that grows line by line, or as one JSON document.

use std::io::Write as _;

use serde::Serialize;

/// Everything that was found.
#[derive(Serialize)]
pub struct Report {
    pub machine: Vec<Fact>,
    pub checks: Vec<Check>,
    pub speed: Vec<Figure>,
    #[serde(skip)]
    json: bool,
}

/// Something that is there.
#[derive(Serialize)]
pub struct Fact {
    name: &'static str,
    value: String,
}

/// A comparison with what is right.
#[derive(Serialize)]
pub struct Check {
    pub name: String,
    /// How far it is off.
    error: f64,
    /// How far it may be off.
    allowed: f64,
    ok: bool,
}

/// A measurement: the median, and the fastest.
#[derive(Serialize)]
pub struct Figure {
    name: String,
    median: f64,
    best: f64,
    unit: &'static str,
    /// What part of the time it would take if all that counted were reading the weights from memory at
    /// the measured speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_limit: Option<f64>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self {
            machine: Vec::new(),
            checks: Vec::new(),
            speed: Vec::new(),
            json,
        }
    }

    /// Notes what is there.
    pub fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        self.line(&format!("{name:<24}{value}"));
        self.machine.push(Fact { name, value });
    }

    /// Notes a comparison.
    pub fn check(&mut self, name: impl Into<String>, error: f64, allowed: f64) {
        let name = name.into();
        // NaN is never right.
        let ok = error <= allowed;
        let word = if ok { "ok" } else { "WRONG" };
        self.line(&format!(
            "{word:<7}{name:<66}off by {error:<9.1e} at most {allowed:.0e}"
        ));
        self.checks.push(Check {
            name,
            error,
            allowed,
            ok,
        });
    }

    /// Notes a measurement. `limit` is the value that memory allows at best, and higher values are
    /// slower.
    pub fn figure(
        &mut self,
        name: impl Into<String>,
        mut values: Vec<f64>,
        unit: &'static str,
        limit: Option<f64>,
    ) {
        let name = name.into();
        values.sort_by(f64::total_cmp);
        let (best, median) = (values[0], values[values.len() / 2]);
        let share_of_limit = limit.map(|limit| limit / median);
        let share = share_of_limit.map_or(String::new(), |share| {
            format!("{:>6.0} % of the limit", 100.0 * share)
        });
        self.line(&format!(
            "{name:<46}{median:>12.4} {unit:<6} best {best:<10.4}{share}"
        ));
        self.speed.push(Figure {
            name,
            median,
            best,
            unit,
            share_of_limit,
        });
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

    /// Names of the checks that failed.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.checks.iter().filter(|check| !check.ok);
        failed.map(|check| check.name.as_str()).collect()
    }

    /// Prints the document, if one is wanted.
    pub fn finish(&self) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(self)?);
        }
        Ok(())
    }
}
