//! Questions about a picture.

use super::one_line;

/// The prompt that asks `question` and wants the answer in `language`.
pub fn prompt(question: &str, language: &str) -> String {
    format!("answer {language} {}", one_line(question))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_has_the_language_then_the_question() {
        assert_eq!(
            prompt("Where is the cow?", "en"),
            "answer en Where is the cow?"
        );
    }

    #[test]
    fn a_question_of_several_lines_becomes_one() {
        assert_eq!(
            prompt(" What is this?\r\n\n Be brief.\n", "en"),
            "answer en What is this? Be brief."
        );
    }
}
