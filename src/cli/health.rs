//! `health`: asks a running server whether it takes requests, for whoever watches its container.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use paligemma_server::settings::Settings;
use serde::Deserialize;

use super::flags::SettingsFlags;

/// A server that takes longer is not well; Docker's own default for a check is 30 s.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Args {
    /// The server to ask, such as http://127.0.0.1:8080. Without it, the one that `serve` starts on
    /// this machine with the same --config and the same PALIGEMMA_* variables
    #[arg(long, value_name = "URL", value_parser = url)]
    url: Option<reqwest::Url>,

    /// A TOML file with settings
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
}

/// What a server that takes no requests says about it.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

fn url(text: &str) -> Result<reqwest::Url, String> {
    match text.parse() {
        Ok(url) if reqwest::Url::has_host(&url) => Ok(url),
        _ => Err("write it as http://HOST:PORT".to_owned()),
    }
}

/// Succeeds when the server takes requests.
pub fn run(args: Args) -> anyhow::Result<()> {
    let url = match args.url {
        Some(url) => url,
        None => local(&SettingsFlags::<false>::of(args.config).load()?)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask(url.join("/health/ready")?))
}

async fn ask(url: reqwest::Url) -> anyhow::Result<()> {
    // A proxy that the environment names is for the world outside.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()?;
    let answer = client
        .get(url.clone())
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("no answer from {url}"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.text().await.unwrap_or_default();
    match serde_json::from_str(&text) {
        Ok(Problem { detail }) => bail!("not ready: {detail}"),
        Err(_) => bail!("{url} answered {status}, as no paligemma-server does"),
    }
}

/// Where `serve` listens, seen from this machine.
fn local(settings: &Settings) -> anyhow::Result<reqwest::Url> {
    let Settings { host, port, .. } = settings;
    if *port == 0 {
        bail!("port is 0, so that the server has taken any free one: name it with --url");
    }
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.clone(),
    };
    Ok(format!("http://{host}:{port}").parse()?)
}
