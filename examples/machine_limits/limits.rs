//! The measurements, their medians, and how they are printed.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::arithmetic::{self, Loop};
use crate::memory::{self, Buffer, Line};
use crate::processor::Processor;

/// Measurements of each figure, of which the median and the best are printed.
const SAMPLES: usize = 7;
/// How long one measurement of arithmetic takes.
const DURATION: Duration = Duration::from_millis(50);
/// Bytes that are read in one pass. No power of two, so that what the cores read at a time does not lie
/// in the same banks of memory.
const BUFFER: usize = 2_000_000_000;

/// Rates per second, ascending.
struct Rates(Vec<f64>);

/// One figure: by which instructions, on one core and on all.
struct Figure {
    by: &'static str,
    one: Rates,
    all: Rates,
}

/// Measures everything and prints it.
///
/// # Errors
/// When the processor lacks AVX2 or FMA, which the measurements need.
pub fn print() -> Result<()> {
    let cores = thread::available_parallelism()?.get();
    let processor = Processor::read();
    let int8 = arithmetic(&arithmetic::int8(), cores);
    let f32 = arithmetic(&arithmetic::f32(), cores);
    let best_int8 = peak(&int8).context("the processor lacks AVX2")?;
    let best_f32 = peak(&f32).context("the processor lacks FMA")?;
    let read = read(cores)?;

    eprintln!("{}, cores: {cores}", processor.name);
    eprintln!("{}", processor.instructions.join(" "));
    eprintln!(
        "{:<52}{:>18}{:>18}",
        "median (best)", "one core", "all cores"
    );
    print_rows("int8", "GOP/s", &int8);
    print_rows("f32", "GFLOP/s", &f32);
    print_rows("memory", "GB/s", std::slice::from_ref(&read));
    let document = json!({
        "processor": processor.name,
        "instructions": processor.instructions,
        "cores": cores,
        "int8": best_int8.json(),
        "f32": best_f32.json(),
        "read": read.json(),
    });
    println!("{document}");
    Ok(())
}

/// Operations per second of each loop.
fn arithmetic(loops: &[Loop], cores: usize) -> Vec<Figure> {
    let figure = |each: &Loop| {
        let rounds = rounds(each);
        let rates = |cores| {
            let operations = (cores as u64 * rounds * each.operations) as f64;
            Rates::sample(|| operations / together(cores, |_| (each.run)(rounds)))
        };
        Figure {
            by: each.name,
            one: rates(1),
            all: rates(cores),
        }
    };
    loops.iter().map(figure).collect()
}

/// How many rounds take about [`DURATION`].
fn rounds(each: &Loop) -> u64 {
    const TRIAL: u64 = 1_000_000;
    let trial = || together(1, |_| (each.run)(TRIAL));
    // The first trial wakes the core up.
    let seconds = trial().min(trial());
    (TRIAL as f64 * DURATION.as_secs_f64() / seconds) as u64
}

/// Bytes per second that are read from memory.
fn read(cores: usize) -> Result<Figure> {
    let buffer = Buffer::new(BUFFER).context("no memory to read")?;
    let lines = buffer.lines();
    let rates = |cores| {
        let part = lines.len() / cores;
        let bytes = (cores * part * size_of::<Line>()) as f64;
        Rates::sample(|| {
            bytes / together(cores, |core| memory::read(&lines[core * part..][..part]))
        })
    };
    Ok(Figure {
        by: "read",
        one: rates(1),
        all: rates(cores),
    })
}

/// Seconds in which as many threads as cores, which begin together, have all done their work.
fn together(cores: usize, work: impl Fn(usize) + Sync) -> f64 {
    let (work, barrier) = (&work, &Barrier::new(cores));
    let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let run = |core| {
            scope.spawn(move || {
                barrier.wait();
                let begun = Instant::now();
                work(core);
                (begun, Instant::now())
            })
        };
        let threads: Vec<_> = (0..cores).map(run).collect();
        let done = threads.into_iter().map(|thread| thread.join());
        done.map(|times| times.expect("the loops don't panic"))
            .collect()
    });
    let begun = times.iter().map(|(begun, _)| *begun).min();
    let ended = times.iter().map(|(_, ended)| *ended).max();
    ended
        .zip(begun)
        .map_or(0.0, |(ended, begun)| (ended - begun).as_secs_f64())
}

/// The figure that is largest on all cores.
fn peak(figures: &[Figure]) -> Option<&Figure> {
    let order = |a: &&Figure, b: &&Figure| a.all.median().total_cmp(&b.all.median());
    figures.iter().max_by(order)
}

fn print_rows(what: &str, unit: &str, figures: &[Figure]) {
    for Figure { by, one, all } in figures {
        let name = format!("{what}, {by}, {unit}");
        eprintln!("{name:<52}{:>18}{:>18}", one.text(), all.text());
    }
}

impl Rates {
    fn sample(mut measure: impl FnMut() -> f64) -> Self {
        let mut rates: Vec<f64> = (0..SAMPLES).map(|_| measure()).collect();
        rates.sort_by(f64::total_cmp);
        Self(rates)
    }

    fn median(&self) -> f64 {
        self.0[SAMPLES / 2]
    }

    fn best(&self) -> f64 {
        self.0[SAMPLES - 1]
    }

    /// Median and best in billions.
    fn text(&self) -> String {
        format!("{:.1} ({:.1})", self.median() / 1e9, self.best() / 1e9)
    }

    fn json(&self) -> Value {
        json!({"median": self.median(), "best": self.best()})
    }
}

impl Figure {
    fn json(&self) -> Value {
        json!({"by": self.by, "one": self.one.json(), "all": self.all.json()})
    }
}
