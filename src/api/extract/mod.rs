//! From a request to checked values: what makes a [`body::Submission`].
//!
//! [`json_body`] and [`form_body`] read the two kinds of bodies into the same [`fields`], which any
//! task's struct is deserialized from. [`image_source`] decodes or fetches images.

pub mod body;
pub mod field_error;
pub mod field_names;
pub mod fields;
mod form_body;
mod form_value;
pub mod image_source;
pub mod image_url;
pub mod json;
pub mod json_body;
mod json_value;
pub mod object_names;
pub mod one_or_many;
pub mod options;
mod public_dns;
pub mod region;
pub mod task_fields;
