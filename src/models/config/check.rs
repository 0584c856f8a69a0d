//! Refusals that name the file, the field, its value and what is allowed.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;

/// More layers than any model has.
pub const MOST_LAYERS: usize = 512;
/// Wider than any model: no product of a model's sizes overflows.
pub const MOST_WIDTH: usize = 1 << 20;
/// More than any vocabulary has.
pub const MOST_TOKENS: usize = 1 << 24;

/// Makes errors that name the file.
pub struct Check {
    pub path: PathBuf,
}

impl Check {
    pub fn fail(
        &self,
        field: &'static str,
        value: impl Into<String>,
        allowed: &str,
    ) -> CheckpointError {
        CheckpointError::Config {
            path: self.path.clone(),
            field,
            value: value.into(),
            allowed: allowed.to_owned(),
        }
    }

    /// At least 1, and no wider than any model.
    pub fn width(&self, field: &'static str, value: usize) -> Result<(), CheckpointError> {
        self.at_most(field, value, MOST_WIDTH)
    }

    /// At least 1.
    pub fn at_most(
        &self,
        field: &'static str,
        value: usize,
        most: usize,
    ) -> Result<(), CheckpointError> {
        match value {
            0 => Err(self.fail(field, "0", "it must be at least 1")),
            value if value > most => {
                let allowed = format!("it must be at most {most}");
                Err(self.fail(field, value.to_string(), &allowed))
            }
            _ => Ok(()),
        }
    }

    pub fn above_zero(
        &self,
        field: &'static str,
        value: Option<f64>,
    ) -> Result<(), CheckpointError> {
        match value {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(self.fail(field, value.to_string(), "it must be more than 0"))
            }
            _ => Ok(()),
        }
    }

    pub fn divides(
        &self,
        field: &'static str,
        value: usize,
        by: usize,
        name: &str,
    ) -> Result<(), CheckpointError> {
        match value % by {
            0 => Ok(()),
            _ => {
                let allowed = format!("it must be a multiple of {name} ({by})");
                Err(self.fail(field, value.to_string(), &allowed))
            }
        }
    }

    pub fn activation(
        &self,
        field: &'static str,
        name: Option<&str>,
    ) -> Result<(), CheckpointError> {
        match name {
            None | Some("gelu_pytorch_tanh") => Ok(()),
            Some(other) => Err(self.fail(
                field,
                format!("{other:?}"),
                "it must be \"gelu_pytorch_tanh\"",
            )),
        }
    }
}
