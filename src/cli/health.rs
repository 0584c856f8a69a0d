//! `health`: checks whether a running server is ready, for container health checks.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use paligemma_server::http_client;
use paligemma_server::settings::Settings;
use reqwest::redirect::Policy;
use serde::Deserialize;

use super::flags::SettingsFlags;

/// A healthy server answers sooner. Docker's default timeout for a check is 30 s.
const PATIENCE: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  # The server that `serve` starts with the same settings.
  paligemma-server health

  # Another one.
  paligemma-server health --url http://10.0.0.5:8080";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The server to check, such as http://127.0.0.1:8080. Default: the one that `serve` starts on
    /// this machine with the same --config and PALIGEMMA_* variables
    #[arg(long, value_name = "URL", value_parser = url)]
    url: Option<reqwest::Url>,

    /// A TOML file with settings
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
}

/// The body of `/health/ready`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Health { status: String },
    Problem { detail: String },
}

/// Reads the URL of a server.
pub fn url(text: &str) -> Result<reqwest::Url, String> {
    match text.parse() {
        Ok(url) if is_server(&url) => Ok(url),
        _ => Err("write it as http://HOST:PORT".to_owned()),
    }
}

/// Whether the URL has only a scheme, a host and a port.
fn is_server(url: &reqwest::Url) -> bool {
    ["http", "https"].contains(&url.scheme()) && url.path() == "/" && url.query().is_none()
}

/// Succeeds if the server is ready for requests.
pub fn run(args: Args) -> anyhow::Result<()> {
    let own = args.url.is_none();
    let url = match args.url {
        Some(url) => url,
        // `bail!` drops the error's type, so that wrong settings exit with 1 as well: Docker
        // reserves 2.
        None => match SettingsFlags::<false>::of(args.config).load() {
            Ok(settings) => local(&settings)?,
            Err(error) => bail!("{error}"),
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask(url.join("/health/ready")?, own))
}

/// Asks whether the server is ready. Its `own` certificate is seldom for the name of this machine, and
/// nothing is told that others must not hear.
async fn ask(url: reqwest::Url, own: bool) -> anyhow::Result<()> {
    // Proxies in the environment are for requests to the internet.
    let client = http_client::builder()
        .tls_danger_accept_invalid_certs(own)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(PATIENCE)
        .build()?;
    let answer = client
        .get(url.clone())
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("no answer from {url}; --url names another server"))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    match serde_json::from_str(&text) {
        Ok(Answer::Health { status }) if status == "ready" => Ok(()),
        Ok(Answer::Problem { detail }) => bail!("not ready: {detail}"),
        _ => bail!("{url} answered {status}, but it is not a paligemma-server"),
    }
}

/// Where `serve` listens, seen from this machine.
fn local(settings: &Settings) -> anyhow::Result<reqwest::Url> {
    let Settings { host, port, .. } = settings;
    if *port == 0 {
        bail!("port is 0, so the server picked a free port: pass it with --url");
    }
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.clone(),
    };
    let scheme = match settings.tls_cert.as_os_str().is_empty() {
        true => "http",
        false => "https",
    };
    Ok(format!("{scheme}://{host}:{port}").parse()?)
}
