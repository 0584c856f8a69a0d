//! Questions about a picture.

/// The prompt that asks `question` and wants the answer in `language`.
///
/// Line breaks become spaces: a newline ends PaliGemma's prefix, so one inside it would be read as
/// the end of the question.
pub fn prompt(question: &str, language: &str) -> String {
    let question = question
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    format!("answer {language} {question}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_follows_the_language() {
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
