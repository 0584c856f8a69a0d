//! Parses and tables the objects of an answer, for `ask`.

use std::fmt::Write as _;

use paligemma_server::engine::TokenInfo;
use paligemma_server::tasks::bounding_box::DetectedObject;
use paligemma_server::tasks::detection::Detection;
use paligemma_server::tasks::detection_parser::{DetectionParser, Piece, TokenProbability};

use super::drawing;

/// The objects of an answer, parsed while it streams.
pub struct Detections {
    parser: DetectionParser,
    found: Vec<Detection>,
    dropped: usize,
    min_score: f32,
    below: usize,
}

impl Detections {
    /// `None` unless the prompt's task is `detect` or `segment`; others have no objects. Objects whose
    /// score is below `min_score` are left out.
    pub fn of_prompt(prompt: &str, min_score: f32) -> Option<Self> {
        let masks = match prompt.split_whitespace().next() {
            Some("detect") => false,
            Some("segment") => true,
            _ => return None,
        };
        Some(Self {
            parser: DetectionParser::new(masks),
            found: Vec::new(),
            dropped: 0,
            min_score,
            below: 0,
        })
    }

    pub fn push(&mut self, text: &str, tokens: &[TokenInfo]) {
        let tokens: Vec<_> = tokens.iter().map(TokenProbability::from).collect();
        let pieces = self.parser.push(text, &tokens);
        self.take(pieces);
    }

    pub fn finish(&mut self) {
        let pieces = self.parser.finish();
        self.take(pieces);
    }

    fn take(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Ok(object) if object.score < self.min_score => self.below += 1,
                Ok(object) => self.found.push(object),
                Err(_) => self.dropped += 1,
            }
        }
    }

    /// The objects, in the order of the table.
    pub fn found(&self) -> &[Detection] {
        &self.found
    }

    /// One line per object: its box in pixels of a picture of this size, its score and its label.
    pub fn table(&self, size: (u32, u32)) -> String {
        let mut table = format!(
            "{:>7} {:>7} {:>7} {:>7}  {:>5}  {:<7} label\n",
            "x0", "y0", "x1", "y1", "score", "drawn"
        );
        for (index, object) in self.found.iter().enumerate() {
            let pixels = DetectedObject::new(object, size).pixels;
            // Writing to a String doesn't fail.
            let _ = writeln!(
                table,
                "{:>7.1} {:>7.1} {:>7.1} {:>7.1}  {:>5.3}  {:<7} {}",
                pixels.x0,
                pixels.y0,
                pixels.x1,
                pixels.y1,
                object.score,
                drawing::colour(index).0,
                object.label,
            );
        }
        if self.found.is_empty() {
            table = "nothing was found\n".to_owned();
        }
        if self.below > 0 {
            let objects = match self.below {
                1 => "object",
                _ => "objects",
            };
            let (below, score) = (self.below, self.min_score);
            let _ = writeln!(
                table,
                "left out {below} {objects} below --min-score {score}"
            );
        }
        if self.dropped > 0 {
            let _ = writeln!(table, "skipped {} malformed pieces", self.dropped);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_tabled_in_pixels() {
        let mut detections = Detections::of_prompt("detect cat ; dog", 0.0).unwrap();
        let output = "<loc0000><loc0000><loc1023><loc0511> cat ; <loc0001> dog";
        detections.push(output, &[]);
        detections.finish();
        let table = detections.table((200, 100));
        assert!(table.contains("    0.0     0.0    99.9   100.0"), "{table}");
        assert!(table.contains("1 malformed"), "{table}");
    }

    fn token(logprob: f32) -> TokenInfo {
        TokenInfo {
            id: 0,
            text: String::new(),
            bytes: Vec::new(),
            logprob,
            near_logprob: logprob,
            top: Vec::new(),
        }
    }

    #[test]
    fn objects_with_a_lower_score_are_left_out() {
        let mut detections = Detections::of_prompt("detect cat ; dog", 0.5).unwrap();
        detections.push(
            "<loc0000><loc0000><loc1023><loc0511> cat ; ",
            &[token(-0.1)],
        );
        detections.push("<loc0000><loc0000><loc1023><loc0511> dog", &[token(-3.0)]);
        detections.finish();
        let labels: Vec<_> = detections
            .found()
            .iter()
            .map(|found| &found.label)
            .collect();
        assert_eq!(labels, ["cat"]);
        let table = detections.table((200, 100));
        assert!(
            table.contains("left out 1 object below --min-score 0.5"),
            "{table}"
        );
    }

    #[test]
    fn only_prompts_that_ask_where_have_objects() {
        assert!(Detections::of_prompt("caption en", 0.0).is_none());
        assert!(Detections::of_prompt("segment cat", 0.0).is_some());
    }
}
