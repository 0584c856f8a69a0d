//! COCO JSON for object detection: <https://cocodataset.org/#format-data>.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::ensure;
use paligemma_server::pixels::mask::Rle;
use serde::Serialize;

use super::super::exit::UsageError;
use super::record::{Record, RecordedDetection};

#[derive(Serialize)]
struct Document<'a> {
    images: Vec<Image<'a>>,
    annotations: Vec<Annotation<'a>>,
    categories: Vec<Category<'a>>,
}

#[derive(Serialize)]
struct Image<'a> {
    id: usize,
    file_name: &'a str,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct Annotation<'a> {
    id: usize,
    image_id: usize,
    category_id: usize,
    /// Left, top, width and height in pixels.
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<&'a Rle>,
}

#[derive(Serialize)]
struct Category<'a> {
    id: usize,
    name: &'a str,
}

/// Checks that the file can be written later.
///
/// # Errors
/// When it is the output file (also through a link), a folder, or in a folder that doesn't exist.
pub fn check(path: &Path, output: &Path) -> anyhow::Result<()> {
    ensure!(!path.is_dir(), "this is a folder");
    let folder = folder(path);
    ensure!(
        folder.is_dir(),
        "the folder {} does not exist",
        folder.display()
    );
    if let (Ok(one), Ok(other)) = (path.metadata(), output.metadata()) {
        let same = (one.dev(), one.ino()) == (other.dev(), other.ino());
        if same {
            return Err(UsageError("--output is the same file".to_owned()).into());
        }
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Writes all pictures that have an answer, even those without objects.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, records: &[Record]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, &document(records))?;
    file.flush()?;
    Ok(())
}

fn document(records: &[Record]) -> Document<'_> {
    let mut records: Vec<_> = records
        .iter()
        .filter(|record| record.error.is_none())
        .collect();
    records.sort_by(|a, b| a.file.cmp(&b.file));
    let detections = records
        .iter()
        .flat_map(|record| record.objects.iter().flatten());
    let labels = detections.map(|detection| detection.object.label.as_str());
    let labels: BTreeSet<&str> = labels.collect();
    let categories: BTreeMap<&str, usize> = labels.into_iter().zip(1..).collect();
    let mut annotations = Vec::new();
    let mut images = Vec::with_capacity(records.len());
    for (record, id) in records.iter().zip(1..) {
        images.push(Image {
            id,
            file_name: &record.file,
            width: record.width,
            height: record.height,
        });
        for detection in record.objects.iter().flatten() {
            let category = categories[detection.object.label.as_str()];
            annotations.push(annotation(annotations.len() + 1, id, category, detection));
        }
    }
    Document {
        images,
        annotations,
        categories: categories
            .into_iter()
            .map(|(name, id)| Category { id, name })
            .collect(),
    }
}

fn annotation(
    id: usize,
    image_id: usize,
    category_id: usize,
    detection: &RecordedDetection,
) -> Annotation<'_> {
    let corners = &detection.object.pixels;
    let (width, height) = (corners.x1 - corners.x0, corners.y1 - corners.y0);
    Annotation {
        id,
        image_id,
        category_id,
        bbox: [corners.x0, corners.y0, width, height],
        area: detection
            .area
            .map_or(width * height, |pixels| pixels as f64),
        iscrowd: 0,
        score: detection.object.score,
        segmentation: detection.mask.as_ref(),
    }
}
