//! From a request to checked values: what makes a [`body::Submission`].
//!
//! [`json_body`] and [`form_body`] read the two kinds of bodies into the same [`fields`], which any
//! task's struct is deserialized from. [`image_source`] decodes images, or has them fetched.

pub mod body;
pub mod field_error;
pub mod field_names;
pub mod fields;
mod form_body;
mod form_value;
pub mod image_source;
pub mod json;
pub mod json_body;
mod json_value;
pub mod language;
pub mod min_score;
pub mod object_names;
pub mod one_or_many;
pub mod options;
pub mod region;
pub mod task_fields;
