//! `openapi`: the HTTP contract, identical to `openapi.yaml`.

use std::io::Write;

pub const EXAMPLES: &str = "\
Examples:
  # What a generator of clients reads.
  paligemma-server openapi > openapi.yaml";

/// Prints the document. `paligemma-server openapi > openapi.yaml` updates the file.
pub fn run() -> anyhow::Result<()> {
    let document = paligemma_server::api::document();
    std::io::stdout().write_all(document.as_bytes())?;
    Ok(())
}
