//! What an operator can set: defaults < config file < `PALIGEMMA_*` variables < flags.
//!
//! A key is declared in two places, and a test checks that they match. `config/default.toml` holds
//! its default and documentation, from which flags, help and the table in `docs/settings.md` are generated
//! ([`key`]). [`Settings`] holds its type, which determines how it is checked ([`value`]).

mod error;
mod key;
mod layer;
mod value;
mod vertex;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

use crate::kernels::{DeviceChoice, FormatChoice, GraphChoice, InstructionsChoice};

pub use error::SettingsError;
pub use key::{KEYS, Key, table};
pub use value::{ApiKey, KeyedPage, LogFormat, TaskName};
pub use vertex::Vertex;

use layer::TextLayer;

const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Every setting, checked. `config/default.toml` says what each is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `demo`, a folder or a hub id.
    #[serde(deserialize_with = "value::filled")]
    pub model: String,
    #[serde(deserialize_with = "value::filled")]
    pub revision: String,
    #[serde(deserialize_with = "value::dtype")]
    pub dtype: FormatChoice,
    #[serde(deserialize_with = "value::device")]
    pub device: DeviceChoice,
    #[serde(deserialize_with = "value::cpu_instructions")]
    pub cpu_instructions: InstructionsChoice,
    #[serde(deserialize_with = "value::cuda_graphs")]
    pub cuda_graphs: GraphChoice,
    /// Empty: none.
    pub weights_cache: PathBuf,
    /// `None`: one per usable core.
    #[serde(deserialize_with = "value::auto_or_whole::<_, 1, 1_024>")]
    pub threads: Option<usize>,
    /// A folder or a hub id. Empty: none.
    pub merge_adapter: String,
    /// Names, and folders or hub ids.
    #[serde(deserialize_with = "value::adapters")]
    pub adapter: Vec<(String, String)>,
    #[serde(deserialize_with = "value::whole::<_, _, 1, 1_024>")]
    pub max_lora_rank: usize,
    #[serde(deserialize_with = "value::whole::<_, _, 1, 1_000>")]
    pub max_adapters: usize,
    #[serde(deserialize_with = "value::boolean")]
    pub adapter_admin: bool,
    /// Empty: none.
    pub adapter_dir: PathBuf,
    #[serde(deserialize_with = "value::api_keys")]
    pub adapter_admin_keys: Vec<ApiKey>,
    /// Empty: derived from `model`.
    #[serde(deserialize_with = "value::names")]
    pub served_model_name: Vec<String>,
    /// Empty: what the model and this server can do.
    #[serde(deserialize_with = "value::tasks")]
    pub known_tasks: Vec<TaskName>,
    /// Empty: the one in the model's folder, if any.
    pub mask_decoder: String,
    #[serde(deserialize_with = "value::host")]
    pub host: String,
    /// 0: any free port.
    #[serde(deserialize_with = "value::whole::<_, _, 0, 65_535>")]
    pub port: u16,
    /// Empty: no key is needed.
    #[serde(deserialize_with = "value::api_keys")]
    pub api_keys: Vec<ApiKey>,
    /// Empty: none.
    pub api_key_file: PathBuf,
    #[serde(deserialize_with = "value::keyed_pages")]
    pub keyed_pages: Vec<KeyedPage>,
    /// Empty: HTTP.
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    /// Requests a minute; 0: any number.
    #[serde(deserialize_with = "value::whole::<_, _, 0, 1_000_000_000>")]
    pub key_rate: u32,
    /// 0: any number.
    #[serde(deserialize_with = "value::whole::<_, _, 0, 1_000_000>")]
    pub key_concurrency: u32,
    /// `*` or serialised origins (`https://host[:port]`).
    #[serde(deserialize_with = "value::origins")]
    pub cors_origins: Vec<String>,
    /// `None`: as many as there are file descriptors for.
    #[serde(deserialize_with = "value::auto_or_whole::<_, 1, 1_000_000>")]
    pub max_connections: Option<usize>,
    #[serde(deserialize_with = "value::duration::<_, 100>")]
    pub idle_timeout: Duration,
    #[serde(deserialize_with = "value::duration::<_, 100>")]
    pub write_timeout: Duration,
    /// `None`: as the device suggests.
    #[serde(deserialize_with = "value::auto_or_whole::<_, 1, 1_024>")]
    pub slots: Option<usize>,
    #[serde(deserialize_with = "value::whole::<_, _, 1, 1_000_000>")]
    pub queue: usize,
    /// In tokens. `None`: the image's tokens plus a fixed number.
    #[serde(deserialize_with = "value::auto_or_whole::<_, 2, 1_000_000>")]
    pub context: Option<usize>,
    #[serde(deserialize_with = "value::whole::<_, _, 1, 1_000_000>")]
    pub max_tokens_default: usize,
    /// `None`: as the device suggests.
    #[serde(deserialize_with = "value::auto_or_duration::<_, 1>")]
    pub max_token_gap: Option<Duration>,
    /// `None`: as the device suggests.
    #[serde(deserialize_with = "value::auto_or_whole::<_, 1, 1_000_000>")]
    pub prefill_batch_tokens: Option<usize>,
    /// 0: off.
    #[serde(deserialize_with = "value::size::<_, 0>")]
    pub image_cache: ByteSize,
    /// 0: off.
    #[serde(deserialize_with = "value::size::<_, 0>")]
    pub kept_images: ByteSize,
    #[serde(deserialize_with = "value::whole::<_, _, 0, 1_000>")]
    pub model_restarts: usize,
    #[serde(deserialize_with = "value::duration::<_, 100>")]
    pub step_timeout: Duration,
    #[serde(deserialize_with = "value::boolean")]
    pub kserve_routes: bool,
    #[serde(deserialize_with = "value::boolean")]
    pub sagemaker_routes: bool,
    #[serde(deserialize_with = "value::boolean")]
    pub vertex_routes: bool,
    #[serde(deserialize_with = "value::boolean")]
    pub label_studio_routes: bool,
    /// Without a slash at its end. Empty: none.
    #[serde(deserialize_with = "value::endpoint")]
    pub label_studio_url: String,
    /// `None`: empty.
    #[serde(deserialize_with = "value::api_key")]
    pub label_studio_api_key: Option<ApiKey>,
    /// What Vertex AI's variables say, if `vertex_routes` is on.
    #[serde(skip)]
    pub vertex: Option<Vertex>,
    #[serde(deserialize_with = "value::size::<_, 1_000>")]
    pub max_body: ByteSize,
    #[serde(deserialize_with = "value::whole::<_, _, 1, 10_000>")]
    pub max_images: usize,
    #[serde(deserialize_with = "value::duration::<_, 10>")]
    pub upload_timeout: Duration,
    /// A second; 0: any.
    #[serde(deserialize_with = "value::size::<_, 0>")]
    pub min_upload_rate: ByteSize,
    #[serde(deserialize_with = "value::whole::<_, _, 1, 1_000_000>")]
    pub uploads_per_client: usize,
    #[serde(deserialize_with = "value::size::<_, 1>")]
    pub upload_memory: ByteSize,
    /// In pixels.
    #[serde(deserialize_with = "value::whole::<_, _, 1, 1_000_000>")]
    pub max_image_side: u32,
    /// Width times height.
    #[serde(deserialize_with = "value::whole::<_, _, 1, 10_000_000_000>")]
    pub max_image_pixels: u64,
    #[serde(deserialize_with = "value::size::<_, 1_000_000>")]
    pub decode_memory: ByteSize,
    #[serde(deserialize_with = "value::whole::<_, _, 1, 100_000_000>")]
    pub max_prompt_bytes: usize,
    /// Host names and addresses, in lower case.
    #[serde(deserialize_with = "value::hosts")]
    pub image_hosts: Vec<String>,
    #[serde(deserialize_with = "value::ports")]
    pub image_ports: Vec<u16>,
    #[serde(deserialize_with = "value::duration::<_, 1>")]
    pub image_fetch_timeout: Duration,
    /// `None`: as the device suggests.
    #[serde(deserialize_with = "value::auto_or_whole::<_, 1, 1_024>")]
    pub decode_threads: Option<usize>,
    #[serde(deserialize_with = "value::duration::<_, 1>")]
    pub request_timeout: Duration,
    #[serde(deserialize_with = "value::duration::<_, 1>")]
    pub keep_alive: Duration,
    /// 0: end everything at once.
    #[serde(deserialize_with = "value::duration::<_, 0>")]
    pub shutdown_grace: Duration,
    #[serde(deserialize_with = "value::duration::<_, 0>")]
    pub shutdown_delay: Duration,
    #[serde(deserialize_with = "value::log_format")]
    pub log_format: LogFormat,
    /// A directive list of `tracing_subscriber::EnvFilter`.
    #[serde(deserialize_with = "value::log_level")]
    pub log_level: String,
    /// Without a slash at its end. Empty: what OpenTelemetry's variables say.
    #[serde(deserialize_with = "value::endpoint")]
    pub otlp_endpoint: String,
}

impl Settings {
    /// Checks that whoever may load adapters has a folder and keys for it.
    ///
    /// # Errors
    /// When one is missing.
    pub fn check_admin(&self) -> Result<(), SettingsError> {
        let missing = |missing| Err(SettingsError::AdapterAdmin { missing });
        match self.adapter_admin {
            true if self.adapter_dir.as_os_str().is_empty() => missing("adapter_dir"),
            true if self.adapter_admin_keys.is_empty() => missing("adapter_admin_keys"),
            _ => Ok(()),
        }
    }

    /// Layers the defaults, `config` (TOML), the `environment` variables that begin with
    /// `PALIGEMMA_`, and `flags` (key to value as typed), and checks the result. With `vertex_routes`,
    /// the port is the one that Vertex AI's variables name.
    ///
    /// # Errors
    /// The first unknown key or invalid value, with its origin; a file that can't be read or isn't
    /// TOML.
    pub fn load(
        config: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: BTreeMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = config {
            figment = figment.merge(Toml::file_exact(path));
        }
        let environment: BTreeMap<_, _> = environment.into_iter().collect();
        let figment = figment
            .merge(TextLayer::environment(environment.clone()))
            .merge(TextLayer::flags(flags));
        let mut settings: Self = figment
            .extract()
            .map_err(|error| SettingsError::new(&error, &figment))?;
        if settings.vertex_routes {
            let vertex = Vertex::read(&environment)?;
            settings.port = vertex.port;
            settings.vertex = Some(vertex);
        }
        Ok(settings)
    }
}
