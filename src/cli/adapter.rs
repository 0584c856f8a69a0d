//! Which adapter answers on the command line.

use anyhow::bail;
use paligemma_server::engine::Answerer;
use paligemma_server::models::Adapters;

/// The adapter that was named, if there is one: nobody could say there which of several is meant.
///
/// # Errors
/// When there are several.
pub fn answerer(adapters: &Adapters) -> anyhow::Result<Option<Answerer>> {
    match adapters.all().as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(Answerer::from(one))),
        several => {
            let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
            bail!(
                "--adapter names {} adapters ({}); here one answers, so name one",
                names.len(),
                names.join(", ")
            )
        }
    }
}
