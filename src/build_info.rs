//! What this binary was built from.

use serde::Serialize;
use utoipa::ToSchema;

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, if the variable `BUILD_REVISION` held it while this was compiled: releases and images have it.
/// A build script that asked git would compile everything anew after each commit.
pub const REVISION: Option<&str> = option_env!("BUILD_REVISION");

/// Whether it can use NVIDIA's GPUs.
pub const CUDA: bool = cfg!(feature = "cuda");

/// The same, to be shown.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Build {
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The commit, if the build recorded it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0123456789abcdef0123456789abcdef01234567")]
    revision: Option<&'static str>,
    /// Whether it can use NVIDIA's GPUs.
    cuda: bool,
}

impl Build {
    /// This binary's.
    pub const THIS: Self = Self {
        version: VERSION,
        revision: REVISION,
        cuda: CUDA,
    };
}
