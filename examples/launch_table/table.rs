//! The table of counts, for people and for comparing.

use std::fmt::{self, Write};

use crate::entry::{COLUMN_NAMES, Entry};
use crate::recorder::Stage;

const HEAD: &str = "\
# What a step asks of the CUDA driver

Counted on a fake driver by `tools/gpu/fake-driver/check.sh`, which CI compares with this file. There is no card behind it:
nothing was computed, and **nothing here is a time**. The engine answers requests with checkpoints that have the published
models' proportions and pictures of 224 pixels; it is warm, and a batch takes one step. Tokens are greedy where the table
does not say that they are sampled.

`5L + 9` means five calls for each layer and nine beside them. A call of cuBLAS counts as one launch. Waits are
synchronisations, and a copy to the host is one, too. A row of these models' logits is 16,132 bytes. Recorded steps are CUDA
graphs (`cuda_graphs`), of which each is one launch.
";

type Section = (&'static str, fn(&Stage) -> bool);

const SECTIONS: [Section; 3] = [
    ("Decoding: a token for each row", |stage| {
        matches!(stage, Stage::Decode(_))
    }),
    (
        "Prefill: image and prompt, and each row's first token",
        |stage| matches!(stage, Stage::Prefill(_)),
    ),
    ("Vision tower: an image for each row", |stage| {
        matches!(stage, Stage::Encode(_))
    }),
];

/// The whole file.
pub fn render(entries: &[Entry]) -> String {
    let mut text = HEAD.to_owned();
    for (title, is_of) in SECTIONS {
        let of: Vec<&Entry> = entries.iter().filter(|it| is_of(&it.stage)).collect();
        _ = write!(text, "\n## {title}\n\n");
        text += &header(&["rows", "launches of all layers"], &COLUMN_NAMES);
        let counts = |entry: &&Entry| {
            let cells = format!("{} | {}", entry.published(), entry.counts());
            Line::new(entry, cells)
        };
        text += &lines(of.iter().map(counts));
        text += "\nOf these, a layer launches:\n\n";
        text += &header(&["rows"], &["kernels"]);
        text += &lines(of.iter().map(|entry| Line::new(entry, entry.kernels())));
    }
    text += "\n## Loading, with L layers in each tower and two adapters\n\n";
    text += &header(&[], &COLUMN_NAMES);
    let loads = entries.iter().filter(|it| it.stage == Stage::Load);
    text += &lines(loads.map(|entry| Line::new(entry, entry.counts())));
    text
}

fn header(first: &[&str], columns: &[&str]) -> String {
    let names = [&["model", "weights"], first, columns].concat();
    format!(
        "| {} |\n|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    )
}

/// A line of a table.
#[derive(PartialEq, Eq)]
struct Line {
    models: Vec<&'static str>,
    formats: Vec<String>,
    rows: String,
    cells: String,
}

impl Line {
    fn new(of: &Entry, cells: String) -> Self {
        Self {
            models: vec![of.model.name],
            formats: vec![of.format.to_string()],
            rows: of.rows(),
            cells,
        }
    }
}

/// The text of lines, of which those that say the same are one.
fn lines(all: impl Iterator<Item = Line>) -> String {
    let mut of_model: Vec<Line> = Vec::new();
    for line in all {
        let same = |it: &&mut Line| {
            (&it.models, &it.rows, &it.cells) == (&line.models, &line.rows, &line.cells)
        };
        match of_model.iter_mut().find(same) {
            Some(known) => known.formats.extend(line.formats),
            None => of_model.push(line),
        }
    }
    let mut merged: Vec<Line> = Vec::new();
    for line in of_model {
        let same = |it: &&mut Line| {
            (&it.formats, &it.rows, &it.cells) == (&line.formats, &line.rows, &line.cells)
        };
        match merged.iter_mut().find(same) {
            Some(known) => known.models.extend(line.models),
            None => merged.push(line),
        }
    }
    merged.iter().map(Line::to_string).collect()
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (models, formats) = (self.models.join(", "), self.formats.join(", "));
        write!(f, "| {models} | {formats} |")?;
        if !self.rows.is_empty() {
            write!(f, " {} |", self.rows)?;
        }
        writeln!(f, " {} |", self.cells)
    }
}

/// The lines that differ, in the order of the longer text.
pub fn differences(committed: &str, now: &str) -> String {
    let mut text = String::new();
    for (mark, lines, others) in [('-', committed, now), ('+', now, committed)] {
        let others: Vec<&str> = others.lines().collect();
        for line in lines.lines().filter(|line| !others.contains(line)) {
            _ = writeln!(text, "{mark} {line}");
        }
    }
    text
}
