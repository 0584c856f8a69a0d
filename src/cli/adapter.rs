//! Which adapter answers on the command line.

use anyhow::bail;
use paligemma_server::engine::Answerer;
use paligemma_server::models::Adapters;
use paligemma_server::settings::Settings;

/// What adapts the model: the source of the adapter that is merged into it, and the name of the one that
/// answers beside it.
///
/// # Errors
/// When several are named to answer: nobody could say here which of them is meant.
pub fn name(settings: &Settings) -> anyhow::Result<Option<String>> {
    let names: Vec<&str> = settings.adapter.iter().map(|(it, _)| it.as_str()).collect();
    if names.len() > 1 {
        bail!(
            "--adapter names {} adapters ({}); here one answers, so name one",
            names.len(),
            names.join(", ")
        )
    }
    let merged = Some(settings.merge_adapter.as_str()).filter(|it| !it.is_empty());
    let all: Vec<&str> = merged.into_iter().chain(names).collect();
    Ok((!all.is_empty()).then(|| all.join(" + ")))
}

/// The only adapter, if there is one; [`name`] has refused several.
pub fn answerer(adapters: &Adapters) -> Option<Answerer> {
    adapters.all().first().map(Answerer::from)
}
