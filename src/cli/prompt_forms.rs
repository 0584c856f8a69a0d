//! Recognises prompts that have one of the forms that PaliGemma was trained on.

use paligemma_server::tasks::is_language_code;

/// What to tell whoever wrote a prompt that has none of these forms.
pub const HINT: &str = "\
hint: PaliGemma was trained on prompts of these forms, and this one has none of them:
  cap en, caption en, describe en     a short, normal or detailed caption; en is the language
  answer en where is the cow?         an answer
  question en on the beach            a question that has this answer
  detect cat ; red car                boxes
  segment cat ; red car               boxes and masks
  ocr                                 the text in the picture
  caption <loc0276><loc0307><loc0687><loc0716>    a caption of a part of the picture
--task writes them for you, such as --task vqa --question \"where is the cow?\"";

/// Whether the prompt has a form from the training: a task's word, and what belongs to it. The empty
/// prompt is one as well: checkpoints before fine-tuning answer it with a caption.
pub fn is_known(prompt: &str) -> bool {
    let (verb, rest) = prompt.trim().split_once(' ').unwrap_or((prompt.trim(), ""));
    let rest = rest.trim_start();
    match verb {
        "" => true,
        "ocr" => rest.is_empty(),
        "caption" if is_region(rest) => true,
        "cap" | "caption" | "describe" => is_language_code(rest),
        "answer" | "question" => rest
            .split_once(' ')
            .is_some_and(|(language, text)| is_language_code(language) && !text.trim().is_empty()),
        "detect" | "segment" => rest.split(';').all(|name| !name.trim().is_empty()),
        _ => false,
    }
}

/// Whether `text` is a box: four of `<loc0000>` to `<loc1023>`.
fn is_region(text: &str) -> bool {
    let is_bin = |bin: &str| {
        let digits = bin.strip_prefix("<loc").unwrap_or_default();
        digits.len() == 4 && digits.parse::<u16>().is_ok_and(|bin| bin <= 1023)
    };
    let bins: Vec<_> = text.split_terminator('>').collect();
    text.ends_with('>') && bins.len() == 4 && bins.into_iter().all(is_bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_training_are_known() {
        for prompt in [
            "",
            "cap en",
            "caption de",
            "describe zh-Hant",
            "caption <loc0276><loc0307><loc0687><loc1023>",
            "answer en where is the cow?",
            "question en on the beach",
            "detect cat",
            "detect red car ; cat",
            "segment cat ; dog\n",
            "ocr",
        ] {
            assert!(is_known(prompt), "{prompt:?}");
        }
    }

    #[test]
    fn the_hint_shows_forms_that_are_known() {
        let forms = HINT.lines().filter_map(|line| line.strip_prefix("  "));
        let forms = forms.filter_map(|line| line.split("  ").next());
        let forms: Vec<_> = forms.flat_map(|forms| forms.split(", ")).collect();
        assert_eq!(forms.len(), 9);
        for form in forms {
            assert!(is_known(form), "{form:?}");
        }
    }

    #[test]
    fn other_prompts_are_not() {
        for prompt in [
            "What is this?",
            "Detect cat",
            "OCR",
            "ocr the sign",
            "caption",
            "caption this image",
            "describe the picture",
            "caption <loc0276><loc0307><loc0687>",
            "caption <loc0276><loc0307><loc0687><loc1024>",
            "answer where is the cow?",
            "answer en",
            "detect",
            "detect cat ;",
            "segment ; cat",
        ] {
            assert!(!is_known(prompt), "{prompt:?}");
        }
    }
}
