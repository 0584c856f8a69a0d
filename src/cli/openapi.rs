//! `openapi`: the contract, as `openapi.yaml` holds it.

use std::io::Write;

/// Prints the document; the file is written with `paligemma-server openapi > openapi.yaml`.
pub fn run() -> anyhow::Result<()> {
    let document = paligemma_server::api::document();
    std::io::stdout().write_all(document.as_bytes())?;
    Ok(())
}
