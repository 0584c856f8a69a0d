//! What `--version` says: the release, and what it can compute with here.

use std::sync::LazyLock;

use paligemma_server::build_info::{CUDA, REVISION, VERSION};
use paligemma_server::kernels::Instructions;

/// For a bug report: the release and its commit, whether it was built for GPUs, and the processor's
/// instructions.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(text);
    &TEXT
}

fn text() -> String {
    let revision = REVISION.unwrap_or("not recorded");
    let cuda = if CUDA { "yes" } else { "no" };
    let instructions = match cfg!(target_arch = "x86_64") {
        true => {
            let sets: Vec<_> = Instructions::supported()
                .map(|set| set.to_string())
                .collect();
            format!(
                "{}; the first that computes rightly is used",
                sets.join(", ")
            )
        }
        false => "candle's kernels".to_owned(),
    };
    format!(
        "{VERSION}\ncommit: {revision}\nbuilt with CUDA: {cuda}\nCPU instructions: {instructions}"
    )
}
