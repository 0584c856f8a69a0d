//! What a stage took, as numbers that hold for any number of layers.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};
use paligemma_server::models::WeightFormat;

use crate::counts::Counts;
use crate::measure::{Asked, Case};
use crate::recorder::Stage;

/// Layers of the checkpoints, in both towers: what a layer adds is the difference.
pub const FEW: i64 = 2;
pub const MANY: i64 = 4;

/// A published model, and the shape of its checkpoints.
pub struct Model {
    pub shape: &'static str,
    pub name: &'static str,
    decoder_layers: i64,
    vision_layers: i64,
}

pub const MODELS: [Model; 2] = [
    Model {
        shape: "paligemma-narrow",
        name: "PaliGemma 3B",
        decoder_layers: 18,
        vision_layers: 27,
    },
    Model {
        shape: "paligemma2-narrow",
        name: "PaliGemma 2 3B",
        decoder_layers: 26,
        vision_layers: 27,
    },
];

/// A number of calls: so many for each layer, and so many beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Linear {
    a_layer: i64,
    beside: i64,
}

pub const COLUMN_NAMES: [&str; 8] = [
    "launches",
    "waits",
    "copies to the card",
    "to the host",
    "bytes of those",
    "on the card",
    "memory set",
    "allocations",
];

fn columns(counts: &Counts) -> [u64; 8] {
    [
        counts.of("launch") + counts.of("product"),
        counts.of("synchronise"),
        counts.named("copy", "to device"),
        counts.named("copy", "to host"),
        counts.named("bytes", "to host"),
        counts.named("copy", "on device"),
        counts.of("set"),
        counts.of("allocate"),
    ]
}

/// What a stage took.
pub struct Entry {
    pub model: &'static Model,
    pub format: WeightFormat,
    pub stage: Stage,
    case: Option<Case>,
    columns: Vec<Linear>,
    /// What a layer launches, by name.
    a_layer: BTreeMap<String, i64>,
    events: u64,
}

impl Entry {
    /// From what was counted with [`FEW`] and with [`MANY`] layers.
    pub fn new(
        model: &'static Model,
        format: WeightFormat,
        stage: Stage,
        case: Option<Case>,
        few: &Counts,
        many: &Counts,
    ) -> Result<Self> {
        let pairs = columns(few).into_iter().zip(columns(many));
        let of_columns = pairs.map(|(few, many)| Linear::new(few, many));
        let few_launched = by_name(few);
        let mut a_layer = BTreeMap::new();
        for (name, calls) in by_name(many) {
            let before = few_launched.get(&name).copied().unwrap_or(0);
            match Linear::new(before, calls)?.a_layer {
                0 => {}
                calls => _ = a_layer.insert(name, calls),
            }
        }
        Ok(Self {
            model,
            format,
            stage,
            case,
            columns: of_columns.collect::<Result<_>>()?,
            a_layer,
            events: many.of("event"),
        })
    }

    /// Launches with all layers of the published model.
    pub fn published(&self) -> i64 {
        let layers = match self.stage {
            Stage::Encode(_) => self.model.vision_layers,
            _ => self.model.decoder_layers,
        };
        self.columns[0].of(layers)
    }

    pub fn rows(&self) -> String {
        let Some(case) = self.case else {
            return String::new();
        };
        let of = match case.asked {
            Asked::Base => "",
            Asked::Recorded => ", recorded",
            Asked::Sampled => ", sampled",
            Asked::Adapter => " of an adapter",
            Asked::All => " of the base and two adapters",
        };
        format!("{}{of}", case.rows)
    }

    /// Cells of numbers.
    pub fn counts(&self) -> String {
        let cells: Vec<String> = self.columns.iter().map(Linear::to_string).collect();
        cells.join(" | ")
    }

    /// A cell of names.
    pub fn kernels(&self) -> String {
        let times = |(name, calls): (&String, &i64)| match calls {
            1 => format!("`{name}`"),
            calls => format!("{calls} `{name}`"),
        };
        let all: Vec<String> = self.a_layer.iter().map(times).collect();
        all.join(", ")
    }
}

impl Linear {
    fn new(few: u64, many: u64) -> Result<Self> {
        let (few, many) = (few.cast_signed(), many.cast_signed());
        let more = many - few;
        ensure!(
            more % (MANY - FEW) == 0,
            "{few} calls with {FEW} layers and {many} with {MANY}: layers differ"
        );
        let a_layer = more / (MANY - FEW);
        Ok(Self {
            a_layer,
            beside: few - FEW * a_layer,
        })
    }

    fn of(self, layers: i64) -> i64 {
        self.a_layer * layers + self.beside
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.a_layer, self.beside) {
            (0, beside) => return write!(f, "{beside}"),
            (1, _) => f.write_str("L")?,
            (a_layer, _) => write!(f, "{a_layer}L")?,
        }
        match self.beside {
            0 => Ok(()),
            beside if beside < 0 => write!(f, " − {}", -beside),
            beside => write!(f, " + {beside}"),
        }
    }
}

fn by_name(counts: &Counts) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    for (name, calls) in counts.launched() {
        let name = plain(name);
        let of_any_type = name.trim_end_matches("_bf16").trim_end_matches("_f32");
        *names.entry(of_any_type.to_owned()).or_default() += calls;
    }
    names
}

/// A kernel's name without the types of a template, which C++ puts into it: `_Z9mul_mat_qIL…` is `mul_mat_q`.
fn plain(name: &str) -> String {
    let digits = name.trim_start_matches("_Z").trim_start_matches(['N', 'L']);
    let length = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let count = digits.len() - length.len();
    let known = digits[..count].parse().ok();
    match known.and_then(|known: usize| length.get(..known)) {
        Some(plain) if name.starts_with("_Z") => plain.to_owned(),
        _ => name.to_owned(),
    }
}

/// What a step of decoding may take, whatever the table says.
pub fn check_promises(entries: &[Entry]) -> Result<()> {
    for entry in entries {
        let key = format!(
            "{}, {}, {} rows",
            entry.model.name,
            entry.format,
            entry.rows()
        );
        ensure!(entry.events == 0, "{key}: {} events", entry.events);
        let of_base = entry.case.is_some_and(|case| case.asked == Asked::Base);
        if !matches!(entry.stage, Stage::Decode(_)) {
            continue;
        }
        let (launches, waits, bytes) = (entry.columns[0], entry.columns[1], entry.columns[4]);
        ensure!(waits.of(MANY) <= 2, "{key}: {waits} waits");
        // The likeliest tokens of each row, not its logits.
        let allowed = entry.case.map_or(0, |case| match case.asked {
            Asked::Sampled => 1024 * case.rows as i64,
            _ => 32 * case.rows as i64,
        });
        ensure!(
            bytes.of(MANY) <= allowed,
            "{key}: {bytes} bytes to the host"
        );
        let recorded = entry.case.is_some_and(|case| case.asked == Asked::Recorded);
        // Layers are in the graph.
        ensure!(
            !recorded || launches.a_layer == 0,
            "{key}: {launches} launches"
        );
        // Adapters take more.
        if of_base {
            ensure!(launches.a_layer <= 12, "{key}: {launches} launches");
        }
    }
    Ok(())
}
