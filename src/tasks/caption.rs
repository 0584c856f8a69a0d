//! Captions in three lengths.

use serde::Deserialize;
use utoipa::ToSchema;

/// How much a caption says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// A short phrase, as in the captions of web pages: `cap en`.
    Short,
    /// One sentence, as in COCO: `caption en`.
    #[default]
    Normal,
    /// Several sentences: `describe en`.
    Detailed,
}

/// The prompt for a caption in `language`.
pub fn prompt(length: Length, language: &str) -> String {
    let verb = match length {
        Length::Short => "cap",
        Length::Normal => "caption",
        Length::Detailed => "describe",
    };
    format!("{verb} {language}")
}

/// The prompt for a caption of a part of the picture, given by the bins of its upper, left, lower
/// and right edge. The checkpoints know it in English alone, and in one length.
pub fn region_prompt(bins: [u16; 4]) -> String {
    format!(
        "caption {}",
        bins.map(|bin| format!("<loc{bin:04}>")).concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_has_its_own_verb() {
        assert_eq!(prompt(Length::Short, "en"), "cap en");
        assert_eq!(prompt(Length::Normal, "en"), "caption en");
        assert_eq!(prompt(Length::Detailed, "de"), "describe de");
    }

    #[test]
    fn a_region_is_written_like_a_detected_box() {
        assert_eq!(
            region_prompt([0, 7, 512, 1023]),
            "caption <loc0000><loc0007><loc0512><loc1023>"
        );
    }
}
