//! Tasks with predictions for Label Studio: <https://labelstud.io/guide/predictions>.

use serde::Serialize;
use serde_json::{Value, json};

use super::super::record::{Record, RecordedDetection};

/// How the prompts begin that ask for masks.
const SEGMENT: &str = "segment ";
/// Where Label Studio serves files of its own machine.
pub const LOCAL_FILES: &str = "/data/local-files/?d=";

/// A picture with the model's answer.
#[derive(Serialize)]
pub struct Task {
    data: Value,
    predictions: [Prediction; 1],
}

#[derive(Serialize)]
struct Prediction {
    model_version: String,
    /// The lowest of the objects' scores, so that doubtful pictures can be sorted first.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    result: Vec<Value>,
}

/// All pictures. Boxes and masks are for a control `label`, texts for a control `answer`, and all for
/// an object `image`. An object whose mask could not be drawn is left out beside others that have one:
/// a control knows either boxes or masks.
pub fn tasks(records: &[Record], picture_url: &str) -> Vec<Task> {
    records
        .iter()
        .map(|record| task(record, picture_url))
        .collect()
}

fn task(record: &Record, picture_url: &str) -> Task {
    let image = format!("{picture_url}{}", encoded(&record.file));
    let objects = record.objects.as_deref();
    let scores = objects.unwrap_or_default().iter();
    let region = match record.asked.prompt.starts_with(SEGMENT) {
        true => brush,
        false => rectangle,
    };
    let result = match objects {
        Some(objects) => objects
            .iter()
            .zip(1..)
            .filter_map(|(found, number)| region(record, found, number))
            .collect(),
        None => vec![json!({
            "id": "answer", "from_name": "answer", "to_name": "image", "type": "textarea",
            "value": {"text": [record.text.as_deref().unwrap_or_default()]},
        })],
    };
    let model_version = match &record.asked.adapter {
        Some(adapter) => format!("{} with {adapter}", record.asked.model),
        None => record.asked.model.clone(),
    };
    Task {
        data: json!({"image": image}),
        predictions: [Prediction {
            model_version,
            score: scores.map(|found| found.object.score).reduce(f32::min),
            result,
        }],
    }
}

/// A box, in percent of the picture.
fn rectangle(record: &Record, found: &RecordedDetection, number: usize) -> Option<Value> {
    let corners = &found.object.box_normalized;
    let value = json!({
        "x": corners.x0 * 100.0, "y": corners.y0 * 100.0,
        "width": (corners.x1 - corners.x0) * 100.0, "height": (corners.y1 - corners.y0) * 100.0,
        "rotation": 0, "rectanglelabels": [found.object.label],
    });
    Some(region(record, found, number, "rectanglelabels", value))
}

/// A mask, if there is one.
fn brush(record: &Record, found: &RecordedDetection, number: usize) -> Option<Value> {
    let rle = found.mask.as_ref()?.mask()?.brush()?;
    let value = json!({"format": "rle", "rle": rle, "brushlabels": [found.object.label]});
    Some(region(record, found, number, "brushlabels", value))
}

fn region(
    record: &Record,
    found: &RecordedDetection,
    number: usize,
    kind: &str,
    value: Value,
) -> Value {
    json!({
        "id": format!("object{number}"),
        "from_name": "label", "to_name": "image", "type": kind,
        "original_width": record.width, "original_height": record.height, "image_rotation": 0,
        "score": found.object.score, "value": value,
    })
}

/// The name as a part of a URL.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(byte.into());
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task_of(record: Value) -> Value {
        let record: Record = serde_json::from_value(record).unwrap();
        serde_json::to_value(task(&record, LOCAL_FILES)).unwrap()
    }

    #[test]
    fn boxes_are_in_percent() {
        let object = json!({"label": "car", "box": {"x0": 10.0, "y0": 0.0, "x1": 30.0, "y1": 25.0},
            "box_normalized": {"x0": 0.25, "y0": 0.0, "x1": 0.75, "y1": 0.5}, "score": 0.5});
        let task = task_of(
            json!({"file": "a b/c&d.jpg", "model": "demo", "prompt": "detect car",
            "width": 40, "height": 50, "objects": [object], "finish_reason": "stop"}),
        );
        let url = "/data/local-files/?d=a%20b/c%26d.jpg";
        assert_eq!(task["data"], json!({"image": url}));
        let prediction = &task["predictions"][0];
        assert_eq!(prediction["model_version"], "demo");
        assert_eq!(prediction["score"], 0.5);
        let value = &prediction["result"][0]["value"];
        let expected = json!({"x": 25.0, "y": 0.0, "width": 50.0, "height": 50.0, "rotation": 0,
            "rectanglelabels": ["car"]});
        assert_eq!(value, &expected);
    }

    #[test]
    fn masks_are_painted_and_an_object_without_one_is_left_out() {
        let object = |mask: Value| {
            json!({"label": "car", "box": {"x0": 3.0, "y0": 1.0, "x1": 7.0, "y1": 3.0},
                "box_normalized": {"x0": 0.3, "y0": 0.2, "x1": 0.7, "y1": 0.6}, "score": 0.5, "mask": mask})
        };
        // The left half of the box.
        let mask = json!({"size": [5, 10], "counts": "`0230h0"});
        let task = task_of(
            json!({"file": "a.jpg", "model": "demo", "prompt": "segment car", "width": 10, "height": 5,
            "objects": [object(Value::Null), object(mask)], "finish_reason": "stop"}),
        );
        let result = task["predictions"][0]["result"].as_array().unwrap();
        assert_eq!(result.len(), 1);
        assert_eq!(result[0]["type"], "brushlabels");
        let value = &result[0]["value"];
        assert_eq!(
            (&value["format"], &value["brushlabels"]),
            (&json!("rle"), &json!(["car"]))
        );
        // 200 values, in words of 8 bits, lengths of 3, 4, 8 and 16 bits.
        assert_eq!(value["rle"].as_array().unwrap()[..5], [0, 0, 0, 200, 57]);
    }

    #[test]
    fn an_answer_is_a_text() {
        let task = task_of(json!({"file": "a.jpg", "model": "demo", "prompt": "cap en",
            "width": 40, "height": 50, "text": "a red circle", "finish_reason": "stop"}));
        let result = &task["predictions"][0]["result"][0];
        assert_eq!(result["value"], json!({"text": ["a red circle"]}));
        assert_eq!(result["type"], "textarea");
    }
}
