//! Whether a server is ready, and what it serves.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;

use super::{Reply, Shared, shown};

/// A healthy server answers sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server serves.
pub struct Served {
    pub model: String,
    pub adapters: Vec<String>,
}

/// Why a server can't be used.
pub enum Failure {
    /// For now.
    Later(String),
    /// Until somebody changes something.
    Never(String),
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// What it is an adapter of.
    parent: Option<String>,
}

impl Shared {
    /// Fails when the server does not answer.
    pub(super) async fn is_alive(&self, index: usize) -> reqwest::Result<()> {
        let mut url = self.options.servers[index].clone();
        url.set_path("/health/live");
        let live = self.client.get(url).timeout(PATIENCE);
        live.send().await.map(drop)
    }

    /// Asks a server whether it is ready, and for its model.
    pub(super) async fn probe(&self, index: usize) -> Result<Served, Failure> {
        let url = &self.options.servers[index];
        let get = |path: &str| match url.join(path) {
            Ok(url) => Ok(self.client.get(url)),
            Err(error) => Err(Failure::Never(error.to_string())),
        };
        let health = asked(get("/health/ready")?).await?;
        if health.status != StatusCode::OK {
            return Err(Failure::Later(health.reason()));
        }
        let models = asked(self.with_key(get("/v1/models")?)).await?;
        if models.status == StatusCode::UNAUTHORIZED {
            let reason = match &self.options.key {
                Some(_) => "does not know the first key of PALIGEMMA_API_KEYS",
                None => "needs an API key; set PALIGEMMA_API_KEYS to it",
            };
            return Err(Failure::Never(format!("{} {reason}", shown(url))));
        }
        if models.status != StatusCode::OK {
            return Err(Failure::Later(models.reason()));
        }
        match served(&models.body) {
            Some(served) => Ok(served),
            None => Err(Failure::Never(format!(
                "{} is not a paligemma-server",
                shown(url)
            ))),
        }
    }
}

fn served(body: &[u8]) -> Option<Served> {
    let Models { data } = serde_json::from_slice(body).ok()?;
    let (adapters, models): (Vec<_>, Vec<_>) =
        data.into_iter().partition(|model| model.parent.is_some());
    Some(Served {
        model: models.into_iter().next()?.id,
        adapters: adapters.into_iter().map(|adapter| adapter.id).collect(),
    })
}

async fn asked(request: RequestBuilder) -> Result<Reply, Failure> {
    let answer = match request.timeout(PATIENCE).send().await {
        Ok(response) => Reply::read(response).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| Failure::Later(reason(error)))
}

/// The innermost cause of a failure, without the URL, which is named beside it.
pub fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match error.is_timeout() {
        true => "no answer in time".to_owned(),
        false => cause.to_string(),
    }
}
