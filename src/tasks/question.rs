//! Questions that an answer answers.

use super::one_line;

/// The prompt for a question in `language` that `answer` answers.
pub fn prompt(answer: &str, language: &str) -> String {
    format!("question {language} {}", one_line(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_follows_the_language() {
        assert_eq!(prompt("two\ncows ", "de"), "question de two cows");
    }
}
