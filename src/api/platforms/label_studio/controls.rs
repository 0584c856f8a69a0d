//! What the model is asked for a project, and what its answers mean.

use crate::tasks::{self, detection};

/// A control that the model can answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    pub name: String,
    /// The name of its `Image`.
    pub to_name: String,
    /// Where the image is in a task's data.
    pub field: String,
    pub ask: Ask,
}

/// What is asked, and how the answer becomes a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Boxes(Objects),
    Masks(Objects),
    Text { prompt: String },
    Choice { prompt: String, choices: Vec<Label> },
}

/// What to look for.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    pub labels: Vec<Label>,
    /// Leave out objects with a lower score.
    pub min_score: f32,
}

/// A label or a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// How results call it.
    pub value: String,
    /// How the model calls it.
    pub names: Vec<String>,
}

impl Control {
    /// The prompt as PaliGemma sees it.
    pub fn prompt(&self) -> String {
        let of_objects = |verb, objects: &Objects| {
            let names = objects.labels.iter().flat_map(|label| label.names.clone());
            detection::prompt(verb, &names.collect::<Vec<_>>())
        };
        match &self.ask {
            Ask::Boxes(objects) => of_objects("detect", objects),
            Ask::Masks(objects) => of_objects("segment", objects),
            Ask::Text { prompt } | Ask::Choice { prompt, .. } => prompt.clone(),
        }
    }
}

/// The label that the model's `answer` means. Without a text, it means the only one if there is one.
pub fn meant<'a>(labels: &'a [Label], answer: &str) -> Option<&'a Label> {
    let answer = tasks::one_line(answer);
    match labels {
        [only] if answer.is_empty() => Some(only),
        _ => labels.iter().find(|label| {
            let names = label.names.iter().chain([&label.value]);
            names.into_iter().any(|name| same(name, &answer))
        }),
    }
}

/// Whether two texts differ in the case of letters at most.
pub fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_without_a_text_is_the_only_label() {
        let only = [Label {
            value: "Car".to_owned(),
            names: vec!["car".to_owned()],
        }];
        assert_eq!(meant(&only, ""), Some(&only[0]));
        assert_eq!(meant(&only, "dog"), None);
    }
}
