//! `--batch`: the requests of a file in the form of OpenAI's batches, answered by running servers.

mod answers;
mod requests;

use std::path::Path;

use anyhow::{Context as _, bail};
use futures::{StreamExt, stream};
use paligemma_server::server::Shutdown;
use paligemma_server::settings::Settings;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;

use super::super::exit::UsageError;
use super::progress::{Outcome, Progress};
use super::replicas::Replicas;
use super::{Args, report_failures};
use answers::{Answer, Answers};
use requests::{Request, requests};

/// Answers the requests that have no answer yet.
///
/// # Errors
/// When a file can't be read or written, a request can't be sent, or no server is left.
pub async fn run(args: &Args, settings: &Settings, input: &Path) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::on_signals()?;
    let Some(options) = args.replicas(settings)? else {
        let message = "--batch needs a running server: name it with --server URL".to_owned();
        return Err(UsageError(message).into());
    };
    let mut requests = requests(input).with_context(|| format!("--batch {}", input.display()))?;
    if let Some(shard) = args.shard {
        requests.retain(|request| shard.has(&request.custom_id));
    }
    let mut answers = Answers::open(&args.output)?;
    let all = requests.len();
    let (done, left): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .partition(|request| answers.has(&request.custom_id));
    let failed = done
        .iter()
        .filter(|request| answers.has_error(&request.custom_id))
        .count();
    let mut progress = Progress::new(all, done.len(), failed);
    if !left.is_empty() {
        let answering = async {
            let replicas = Replicas::connect(options).await?;
            let mut answered = stream::iter(left)
                .map(|request| answer(&replicas, request))
                .buffer_unordered(replicas.in_flight());
            while let Some(answer) = answered.next().await {
                let outcome = match answer? {
                    None => Outcome::Unread,
                    Some(answer) => {
                        answers.write(&answer)?;
                        answer.outcome()
                    }
                };
                progress.advance(outcome);
            }
            anyhow::Ok(())
        };
        let stopped = tokio::select! {
            outcome = answering => outcome.err().map(|error| format!("{error:#}")),
            name = shutdown.next() => Some(name.to_owned()),
        };
        if let Some(reason) = stopped {
            progress.finish();
            let done = progress.done();
            bail!(
                "{reason}: {done} of {all} requests are answered; run the same command to resume"
            );
        }
    }
    progress.finish();
    report_failures(&progress, "requests", &args.output, args.keep_going)
}

/// Asks one request. `None` if it gets no answer.
async fn answer(replicas: &Replicas, request: Request) -> anyhow::Result<Option<Answer>> {
    let body = request.body().context("--batch")?;
    let post = |post: reqwest::RequestBuilder| {
        post.header(CONTENT_TYPE, "application/json")
            .body(body.clone())
    };
    let Request { custom_id, url, .. } = &request;
    match replicas.send(url, post).await? {
        Ok(reply) if reply.status == StatusCode::UNAUTHORIZED => {
            bail!("a server refuses the key: {}", reply.reason())
        }
        Ok(reply) => Ok(Some(Answer::new(custom_id, &reply))),
        Err(reason) => {
            tracing::warn!(custom_id, "got no answer: {reason}");
            Ok(None)
        }
    }
}
