//! Routes that serving platforms expect, each platform's off unless a setting turns it on.
//!
//! [`predict`] answers instances with predictions, as KServe's first protocol and Vertex AI do.

pub mod kserve;
pub mod predict;
pub mod sagemaker;
pub mod vertex;
