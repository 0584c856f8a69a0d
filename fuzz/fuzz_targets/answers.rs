//! What the model writes for `detect` and `segment`.
//!
//! - The pieces are the same however the text arrives: the first byte says where it is cut.
//! - A detection has a box that is not empty and lies inside the image, and codes of masks that exist.
//! - Written anew, the detections are read as what they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use paligemma_server::tasks::bounding_box::DetectedObject;
use paligemma_server::tasks::detection::{Detection, LAST_BIN};
use paligemma_server::tasks::detection_parser::{DetectionParser, Piece};

const SIZE: (u32, u32) = (640, 480);

fn parse<'a>(masks: bool, parts: impl IntoIterator<Item = &'a str>) -> Vec<Piece> {
    let mut parser = DetectionParser::new(masks);
    let mut pieces: Vec<Piece> = Vec::new();
    for part in parts {
        pieces.extend(parser.push(part, &[]));
    }
    pieces.extend(parser.finish());
    pieces
}

fn write(object: &Detection) -> String {
    let bins = object.bins.map(|bin| format!("<loc{bin:04}>")).concat();
    let codes = object.codes.iter().flatten();
    let codes: String = codes.map(|code| format!("<seg{code:03}>")).collect();
    format!("{bins}{codes} {}", object.label)
}

fn check(object: &Detection) {
    let [y0, x0, y1, x1] = object.bins;
    assert!(y0 < y1 && x0 < x1 && y1 <= LAST_BIN && x1 <= LAST_BIN);
    assert!(object.codes.iter().flatten().all(|&code| code < 128));
    assert_eq!(object.label, object.label.trim());
    let found = DetectedObject::new(object, SIZE);
    assert_eq!(found.pixels.bins(SIZE), Some(object.bins));
}

fuzz_target!(|input: (u8, bool, &str)| {
    let (length, masks, text) = input;
    let pieces = parse(masks, [text]);
    let length = usize::from(length).max(1);
    let cut = text.split_inclusive(|c: char| c as usize % length == 0);
    assert_eq!(parse(masks, cut), pieces);

    let objects: Vec<Detection> = pieces.into_iter().flatten().collect();
    objects.iter().for_each(check);
    let written: Vec<String> = objects.iter().map(write).collect();
    let again = parse(masks, [written.join(" ; ").as_str()]);
    assert_eq!(again, objects.into_iter().map(Ok).collect::<Vec<_>>());
});
