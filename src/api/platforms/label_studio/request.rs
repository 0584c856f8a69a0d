//! A request for predictions: tasks and the label config. What else Label Studio sends (annotations,
//! earlier predictions) is passed over without being kept.

use std::borrow::Cow;
use std::fmt;

use axum::body::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::api::error::{ApiError, ErrorCode};

/// It bounds what a hostile request costs.
const MOST_TASKS: usize = 10_000;
/// Texts in a task's data; it bounds what a hostile one costs.
const MOST_TEXTS: usize = 64;

/// What is asked for.
#[derive(Debug, Default)]
pub struct PredictBody<'a> {
    pub tasks: Option<Vec<TaskBody<'a>>>,
    pub label_config: Option<Text<'a>>,
}

/// A task.
#[derive(Debug, Default)]
pub struct TaskBody<'a> {
    data: Vec<(Text<'a>, Text<'a>)>,
}

/// A text, borrowed from the body unless it has escapes; `None` for any other value.
#[derive(Debug, Default)]
pub struct Text<'a>(pub Option<Cow<'a, str>>);

impl<'a> PredictBody<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// What is no JSON, and what has another shape.
    pub fn read(body: &'a Bytes) -> Result<Self, ApiError> {
        serde_json::from_slice(body).map_err(|error| {
            let code = match error.is_data() {
                true => ErrorCode::InvalidField,
                false => ErrorCode::InvalidJson,
            };
            ApiError::new(code, error.to_string())
        })
    }
}

impl TaskBody<'_> {
    /// The text in that field of its data; `body` is what it was read from.
    pub fn text(&self, field: &str, body: &Bytes) -> Option<Bytes> {
        let of_field = |(name, _): &&(Text<'_>, Text<'_>)| name.0.as_deref() == Some(field);
        match &self.data.iter().find(of_field)?.1.0 {
            Some(Cow::Borrowed(text)) => Some(body.slice_ref(text.as_bytes())),
            Some(Cow::Owned(text)) => Some(Bytes::copy_from_slice(text.as_bytes())),
            None => None,
        }
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(text.into())))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(text.to_owned().into())))
            }

            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text<'de>, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

/// Reads an object field by field, and nothing but an object.
struct Object<T>(&'static str, T);

/// What takes an object's fields.
trait Fields<'de>: Sized {
    /// Takes the value of that field out of `map`.
    fn take<A: MapAccess<'de>>(&mut self, field: &Text<'de>, map: &mut A) -> Result<(), A::Error>;
}

impl<'de, T: Fields<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(field) = map.next_key::<Text<'de>>()? {
            self.1.take(&field, &mut map)?;
        }
        Ok(self.1)
    }
}

impl<'de> Fields<'de> for PredictBody<'de> {
    fn take<A: MapAccess<'de>>(&mut self, field: &Text<'de>, map: &mut A) -> Result<(), A::Error> {
        match field.0.as_deref() {
            Some("tasks") => self.tasks = Some(map.next_value::<Tasks<'de>>()?.0),
            Some("label_config") => self.label_config = Some(map.next_value()?),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Fields<'de> for TaskBody<'de> {
    fn take<A: MapAccess<'de>>(&mut self, field: &Text<'de>, map: &mut A) -> Result<(), A::Error> {
        match field.0.as_deref() {
            Some("data") => self.data = map.next_value::<Data<'de>>()?.0,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// The texts of a task's data, by field.
#[derive(Default)]
struct Data<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'de> Fields<'de> for Data<'de> {
    fn take<A: MapAccess<'de>>(&mut self, field: &Text<'de>, map: &mut A) -> Result<(), A::Error> {
        let value: Text<'de> = map.next_value()?;
        if value.0.is_none() {
            return Ok(());
        }
        if self.0.len() == MOST_TEXTS {
            let many = format_args!("a task's data has more than {MOST_TEXTS} texts");
            return Err(A::Error::custom(many));
        }
        let name = field.0.clone();
        self.0.push((Text(name), value));
        Ok(())
    }
}

struct Tasks<'a>(Vec<TaskBody<'a>>);

impl<'de> Deserialize<'de> for Tasks<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TasksVisitor;

        impl<'de> Visitor<'de> for TasksVisitor {
            type Value = Tasks<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tasks")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tasks<'de>, A::Error> {
                let mut tasks = Vec::new();
                while let Some(task) = items.next_element()? {
                    if tasks.len() == MOST_TASKS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MOST_TASKS} tasks"
                        )));
                    }
                    tasks.push(task);
                }
                Ok(Tasks(tasks))
            }
        }

        deserializer.deserialize_seq(TasksVisitor)
    }
}

impl<'de> Deserialize<'de> for PredictBody<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object("an object", Self::default()))
    }
}

impl<'de> Deserialize<'de> for TaskBody<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object("a task: an object with `data`", Self::default()))
    }
}

impl<'de> Deserialize<'de> for Data<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object("an object of a task's data", Self::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_and_all_else_is_passed_over() {
        let body = Bytes::from_static(
            br#"{"project": "1.2", "tasks": [
                {"id": 1, "data": {"n": [1, {"a": null}], "image": "a\/b", "other": "xyz"},
                 "annotations": [{"result": [{"value": {"rle": [1, 2]}}]}]},
                {"id": 2}],
               "label_config": "<View/>", "params": {"context": null}}"#,
        );
        let read = PredictBody::read(&body).unwrap();
        assert_eq!(read.label_config.unwrap().0.unwrap(), "<View/>");
        let tasks = read.tasks.unwrap();
        assert_eq!(tasks.len(), 2);
        assert_eq!(tasks[0].text("image", &body).unwrap(), "a/b");
        let borrowed = tasks[0].text("other", &body).unwrap();
        assert!(body.as_ptr_range().contains(&borrowed.as_ptr()));
        assert_eq!(tasks[0].text("n", &body), None);
        assert_eq!(tasks[1].text("image", &body), None);
    }

    #[test]
    fn other_shapes_are_refused() {
        let many = (0..65).map(|n| format!("\"{n}\":\"\"")).collect::<Vec<_>>();
        let many = format!(r#"{{"tasks": [{{"data": {{{}}}}}]}}"#, many.join(","));
        let tasks = format!(r#"{{"tasks": [{}]}}"#, vec!["{}"; 10_001].join(","));
        for (body, code) in [
            ("[]", ErrorCode::InvalidField),
            (r#"{"tasks": {}}"#, ErrorCode::InvalidField),
            (r#"{"tasks": [[]]}"#, ErrorCode::InvalidField),
            (r#"{"tasks": [{"data": []}]}"#, ErrorCode::InvalidField),
            (&many, ErrorCode::InvalidField),
            (&tasks, ErrorCode::InvalidField),
            ("{", ErrorCode::InvalidJson),
        ] {
            let body = Bytes::copy_from_slice(body.as_bytes());
            assert_eq!(PredictBody::read(&body).unwrap_err().code, code);
        }
    }
}
