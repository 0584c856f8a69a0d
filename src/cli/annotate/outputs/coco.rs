//! COCO JSON for object detection: <https://cocodataset.org/#format-data>.

use std::collections::{BTreeMap, BTreeSet};

use paligemma_server::pixels::mask::Rle;
use serde::Serialize;

use super::super::record::{Record, RecordedDetection};

#[derive(Serialize)]
pub struct Document<'a> {
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

/// The document of records in this order.
pub fn document(records: &[Record]) -> Document<'_> {
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
