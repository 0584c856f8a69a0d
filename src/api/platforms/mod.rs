//! Routes that serving platforms expect, each platform's off unless a setting turns it on.
//!
//! [`predict`] answers instances with predictions, as KServe's first protocol and Vertex AI do;
//! [`label_studio`] labels the tasks of a labelling tool.

pub mod kserve;
pub mod label_studio;
pub mod predict;
pub mod sagemaker;
pub mod vertex;
