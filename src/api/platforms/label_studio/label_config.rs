//! What a project's label config asks for: Label Studio's XML, read into controls.

use roxmltree::{Document, Node, ParsingOptions};

use super::controls::{Ask, Control, Label, Objects, same};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::object_names::MAX_OBJECTS;
use crate::tasks::{DEFAULT_LANGUAGE, caption, detection, vqa};

/// No label config is as large; it bounds what a hostile one costs.
const MOST_BYTES: usize = 200_000;
const MOST_NODES: u32 = 20_000;

const UNDERSTOOD: &str = "understood are `RectangleLabels` and `BrushLabels` with `Label`s, `TextArea`, and `Choices` with `model_prompt`, each of an `Image` whose value is a field such as `$image`";

/// The controls of a label config that the model can answer; none if it has no controls at all.
///
/// # Errors
/// What is no XML or too large, names no object can have, and only controls that are not understood.
pub fn controls(xml: &str) -> Result<Vec<Control>, ApiError> {
    if xml.len() > MOST_BYTES {
        let detail = format!(
            "the label config is {} bytes long; at most {MOST_BYTES} are read",
            xml.len()
        );
        return Err(ApiError::new(ErrorCode::OutOfRange, detail));
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MOST_NODES,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(xml, options).map_err(|error| {
        let detail = format!("the label config is not XML: {error}");
        ApiError::new(ErrorCode::InvalidField, detail)
    })?;
    let images: Vec<_> = elements(&document).filter_map(image).collect();
    let (mut controls, mut others) = (Vec::new(), Vec::new());
    for element in elements(&document) {
        let Some(to_name) = attribute(element, "toName") else {
            continue;
        };
        let image = images.iter().find(|(name, _)| *name == to_name);
        match (image, ask(element)?) {
            (Some((_, field)), Some(ask)) => controls.push(Control {
                name: attribute(element, "name").unwrap_or_default().to_owned(),
                to_name: to_name.to_owned(),
                field: (*field).to_owned(),
                ask,
            }),
            _ => others.push(format!("`{}`", element.tag_name().name())),
        }
    }
    if controls.is_empty() && !others.is_empty() {
        others.truncate(10);
        let others = others.join(", ");
        let detail = format!(
            "the label config has no control that this server understands, but {others}; {UNDERSTOOD}"
        );
        return Err(ApiError::new(ErrorCode::OutOfRange, detail));
    }
    Ok(controls)
}

/// That a label config has no controls.
pub fn no_controls() -> ApiError {
    let detail = format!("the label config has no controls; {UNDERSTOOD}");
    ApiError::new(ErrorCode::OutOfRange, detail)
}

fn elements<'a, 'i>(document: &'a Document<'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    document.descendants().filter(Node::is_element)
}

fn is(element: Node<'_, '_>, tag: &str) -> bool {
    element.tag_name().name().eq_ignore_ascii_case(tag)
}

/// The attribute of that name in any case of letters, unless it is empty.
fn attribute<'a>(element: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut attributes = element.attributes();
    let found = attributes.find(|attribute| attribute.name().eq_ignore_ascii_case(name))?;
    Some(found.value().trim()).filter(|value| !value.is_empty())
}

/// The name of an image, and where it is in a task's data.
fn image<'a>(element: Node<'a, '_>) -> Option<(&'a str, &'a str)> {
    if !is(element, "Image") {
        return None;
    }
    let field = attribute(element, "value")?.strip_prefix('$')?;
    Some((attribute(element, "name")?, field))
}

/// What a control asks, if the model can answer it.
fn ask(element: Node<'_, '_>) -> Result<Option<Ask>, ApiError> {
    let model_prompt = attribute(element, "model_prompt").map(str::to_owned);
    // Such a control is about a region that a person has drawn.
    if attribute(element, "perRegion").is_some_and(|value| same(value, "true")) {
        return Ok(None);
    }
    if is(element, "RectangleLabels") {
        return Ok(objects(element)?.map(Ask::Boxes));
    }
    if is(element, "BrushLabels") {
        return Ok(objects(element)?.map(Ask::Masks));
    }
    if is(element, "TextArea") {
        let question = attribute(element, "placeholder").filter(|text| text.ends_with('?'));
        let prompt = match (model_prompt, question) {
            (Some(prompt), _) => prompt,
            (None, Some(question)) => vqa::prompt(question, DEFAULT_LANGUAGE),
            (None, None) => caption::prompt(caption::Length::Normal, DEFAULT_LANGUAGE),
        };
        return Ok(Some(Ask::Text { prompt }));
    }
    if is(element, "Choices") {
        let choices = labels(element, "Choice");
        let ask = |prompt| Ask::Choice { prompt, choices };
        return Ok(model_prompt.map(ask));
    }
    Ok(None)
}

/// What the labels of a control look for; `None` if it has none, as when a task's data holds them.
fn objects(element: Node<'_, '_>) -> Result<Option<Objects>, ApiError> {
    let mut labels = labels(element, "Label");
    let names = labels.iter_mut().flat_map(|label| &mut label.names);
    let mut count = 0;
    for name in names {
        count += 1;
        *name = detection::name(name).map_err(|reason| {
            let detail = format!("the label `{name}` {reason}");
            ApiError::new(ErrorCode::OutOfRange, detail)
        })?;
    }
    if count > MAX_OBJECTS {
        let detail = format!(
            "a control has labels for {count} objects; at most {MAX_OBJECTS} are looked for"
        );
        return Err(ApiError::new(ErrorCode::OutOfRange, detail));
    }
    let threshold = attribute(element, "model_score_threshold");
    let min_score = threshold.map_or(Ok(0.0), |text| match text.parse() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err(ApiError::new(
            ErrorCode::OutOfRange,
            format!("`model_score_threshold` is `{text}`; allowed is a number from 0 to 1"),
        )),
    })?;
    Ok((count > 0).then_some(Objects { labels, min_score }))
}

fn labels(element: Node<'_, '_>, tag: &str) -> Vec<Label> {
    let children = element.descendants().filter(|child| is(*child, tag));
    let label = |child| {
        let value = attribute(child, "value")?;
        let names = attribute(child, "predicted_values").map_or_else(
            || vec![value.to_owned()],
            |names| {
                let names = names.split(',').map(str::trim);
                names
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect()
            },
        );
        let value = attribute(child, "alias").unwrap_or(value).to_owned();
        Some(Label { value, names })
    };
    children.filter_map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::platforms::label_studio::controls::meant;

    fn read(inside: &str) -> Result<Vec<Control>, ApiError> {
        controls(&format!(
            r#"<View><Image name="img" value="$photo"/>{inside}</View>"#
        ))
    }

    fn prompts(inside: &str) -> Vec<String> {
        let controls = read(inside).unwrap();
        controls.iter().map(Control::prompt).collect()
    }

    #[test]
    fn labels_are_looked_for_under_the_names_that_the_model_knows() {
        let inside = r#"
            <RectangleLabels name="boxes" toName="img" model_score_threshold="0.5">
              <View><Label value="Car" predicted_values="car, red  truck"/></View>
              <Label value="dog" alias="d" background="red"/>
            </RectangleLabels>"#;
        let [control] = &read(inside).unwrap()[..] else {
            panic!()
        };
        assert_eq!(control.prompt(), "detect car ; red truck ; dog");
        assert_eq!((&*control.name, &*control.to_name), ("boxes", "img"));
        assert_eq!(control.field, "photo");
        let Ask::Boxes(objects) = &control.ask else {
            panic!()
        };
        assert!((objects.min_score - 0.5).abs() < 1e-6);
        let meant = |answer| meant(&objects.labels, answer).map(|label| &*label.value);
        assert_eq!(meant("Red truck"), Some("Car"));
        assert_eq!(meant(" DOG"), Some("d"));
        assert_eq!(meant("cat"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn texts_are_captions_unless_there_is_a_question_or_a_prompt() {
        for (attributes, prompt) in [
            ("", "caption en"),
            (r#"placeholder="Describe it""#, "caption en"),
            (r#"placeholder="Is it wet?""#, "answer en Is it wet?"),
            (r#"placeholder="Is it wet?" model_prompt="ocr""#, "ocr"),
        ] {
            let inside = format!(r#"<TextArea name="t" toName="img" {attributes}/>"#);
            assert_eq!(prompts(&inside), [prompt]);
        }
        let choices = r#"<Choices name="c" toName="img" model_prompt="answer en wet?">
            <Choice value="yes"/><Choice value="no"/></Choices>"#;
        assert_eq!(prompts(choices), ["answer en wet?"]);
    }

    #[test]
    fn what_is_not_understood_is_passed_over_beside_what_is() {
        let inside = r#"<KeyPointLabels name="k" toName="img"><Label value="nose"/></KeyPointLabels>
            <TextArea name="r" toName="img" perRegion="true"/>
            <TextArea name="other" toName="sound"/>
            <BrushLabels name="b" toName="img"><Label value="cat"/></BrushLabels>"#;
        assert_eq!(prompts(inside), ["segment cat"]);
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn configs_that_ask_for_nothing_possible_are_refused() {
        let deep = "<a>".repeat(10_000);
        let many = r#"<Label value="cat"/>"#.repeat(65);
        let long = " ".repeat(MOST_BYTES);
        let boxes = |labels: &str| {
            format!(r#"<RectangleLabels name="b" toName="img">{labels}</RectangleLabels>"#)
        };
        for (inside, code, words) in [
            ("<Label", ErrorCode::InvalidField, "not XML"),
            (&deep, ErrorCode::InvalidField, "not XML"),
            ("&unknown;", ErrorCode::InvalidField, "not XML"),
            (&long, ErrorCode::OutOfRange, "200000"),
            (&boxes(""), ErrorCode::OutOfRange, "`RectangleLabels`"),
            (
                &boxes(r#"<Label value="a;b"/>"#),
                ErrorCode::OutOfRange,
                "`a;b`",
            ),
            (&boxes(&many), ErrorCode::OutOfRange, "65 objects"),
            (
                r#"<Choices name="c" toName="img"><Choice value="a"/></Choices>"#,
                ErrorCode::OutOfRange,
                "model_prompt",
            ),
            (
                r#"<RectangleLabels name="b" toName="img" model_score_threshold="2"><Label value="a"/></RectangleLabels>"#,
                ErrorCode::OutOfRange,
                "from 0 to 1",
            ),
        ] {
            let error = read(inside).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.detail.contains(words), "{error}");
        }
        let entity = r#"<!DOCTYPE View [<!ENTITY a "aaaa">]><View>&a;</View>"#;
        assert_eq!(controls(entity).unwrap_err().code, ErrorCode::InvalidField);
        let nodes = format!("<View>{}</View>", "<a/>".repeat(30_000));
        assert_eq!(controls(&nodes).unwrap_err().code, ErrorCode::InvalidField);
    }
}
