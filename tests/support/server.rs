//! A real server on a real port, put together as `serve` does it, over a golden checkpoint or over
//! the toy model that a test holds in its hands.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use candle_core::Device;
use metrics_exporter_prometheus::PrometheusHandle;
use paligemma_server::api::{Admission, AppState, ImageFetcher, ModelInfo, openapi, router};
use paligemma_server::checkpoint::{Checkpoint, demo_mask_decoder};
use paligemma_server::engine::{EngineHandle, EngineOptions, State};
use paligemma_server::models::{MaskDecoder, WeightFormat};
use paligemma_server::pixels::{ImageLimits, Preprocessor};
use paligemma_server::settings::Settings;
use paligemma_server::telemetry::metrics;
use paligemma_server::tokenizer::Tokenizer;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::toy_model::{self, Control, Toy};

/// The checkpoint behind [`Server::golden`], and the tokenizer behind [`Server::toy`].
pub const CHECKPOINT: &str = "pg1-hub-bf16-sharded";

/// Another name for the model of every server.
pub const ALIAS: &str = "paligemma";

/// One recorder for the process, as all tests are threads of one.
static METRICS: LazyLock<PrometheusHandle> = LazyLock::new(|| metrics::install().unwrap());

pub struct Server {
    pub address: SocketAddr,
    pub engine: EngineHandle,
    client: reqwest::Client,
}

/// What a server is started with, beside its model.
struct Setup {
    engine: EngineHandle,
    image_size: u32,
    image_tokens: usize,
    context: usize,
    mask_decoder: Option<MaskDecoder>,
    settings: Settings,
}

impl Server {
    /// Serves a small checkpoint that transformers made; `settings` by key.
    pub async fn golden(settings: &[(&str, &str)]) -> Self {
        let checkpoint = Checkpoint::open(&folder()).unwrap();
        Self::loaded(checkpoint, WeightFormat::F32, None, settings).await
    }

    /// Serves the demo, in the format that it has on a CPU; `settings` by key.
    pub async fn demo(settings: &[(&str, &str)]) -> Self {
        let checkpoint = Checkpoint::demo().unwrap();
        let masks = demo_mask_decoder().unwrap();
        Self::loaded(checkpoint, WeightFormat::Q8_0, Some(masks), settings).await
    }

    async fn loaded(
        checkpoint: Checkpoint,
        format: WeightFormat,
        mask_decoder: Option<MaskDecoder>,
        settings: &[(&str, &str)],
    ) -> Self {
        let settings = load_settings(settings);
        let image_tokens = checkpoint.config.image_tokens();
        let context = image_tokens + 200;
        let image_size = checkpoint.config.vision.image_size as u32;
        let tokenizer = checkpoint.tokenizer.clone();
        let options = engine_options(&settings, context);
        let engine = EngineHandle::start(options, tokenizer, image_tokens, move || {
            checkpoint.load_model(&Device::Cpu, format)
        });
        let server = Self::start(Setup {
            engine,
            image_size,
            image_tokens,
            context,
            mask_decoder,
            settings,
        });
        let server = server.await;
        server.wait_until_ready().await;
        server
    }

    /// Serves a model that `control` holds; `settings` by key.
    pub async fn toy(control: &Arc<Control>, settings: &[(&str, &str)]) -> Self {
        let control = control.clone();
        let server = Self::toy_loaded_by(settings, move |vocab_size| {
            Ok(Toy {
                control,
                vocab_size,
            })
        });
        let server = server.await;
        server.wait_until_ready().await;
        server
    }

    /// Serves a model that answers these prompts with these texts.
    pub async fn scripted(lines: &[(&str, &str)]) -> Self {
        let control = Arc::new(Control::new());
        let server = Self::toy(&control, &[]).await;
        let tokenizer = Self::tokenizer();
        for (prompt, answer) in lines {
            let answer = tokenizer.encode_prompt(answer).unwrap();
            // Between the token that begins a prompt and the newline that ends it; then <eos>.
            let answer = [&answer[1..answer.len() - 1], &[1]].concat();
            control.script(tokenizer.encode_prompt(prompt).unwrap(), answer);
        }
        server
    }

    /// Serves a toy as soon as `load` gives one for a vocabulary of that size.
    pub async fn toy_loaded_by<F>(settings: &[(&str, &str)], load: F) -> Self
    where
        F: FnOnce(usize) -> Result<Toy, String> + Send + 'static,
    {
        let settings = load_settings(settings);
        let tokenizer = Self::tokenizer();
        let vocab_size = tokenizer.vocab_size();
        let context = 4096;
        let options = engine_options(&settings, context);
        let engine = EngineHandle::start(options, tokenizer, toy_model::IMAGE_TOKENS, move || {
            load(vocab_size)
        });
        Self::start(Setup {
            engine,
            image_size: 28,
            image_tokens: toy_model::IMAGE_TOKENS,
            context,
            mask_decoder: None,
            settings,
        })
        .await
    }

    /// The tokenizer of the golden checkpoint, which the toy has as well.
    pub fn tokenizer() -> Arc<Tokenizer> {
        Checkpoint::open(&folder()).unwrap().tokenizer
    }

    async fn start(setup: Setup) -> Self {
        let settings = setup.settings;
        let limits = ImageLimits {
            max_side: settings.max_image_side,
            max_pixels: settings.max_image_pixels,
        };
        let info = ModelInfo {
            name: CHECKPOINT.to_owned(),
            aliases: vec![ALIAS.to_owned()],
            description: None,
            image_size: setup.image_size,
            image_tokens: setup.image_tokens,
            context: setup.context,
            dtype: "f32".to_owned(),
            device: "cpu".to_owned(),
            created: 1_767_225_600,
        };
        let state = AppState {
            engine: setup.engine.clone(),
            preprocessor: Preprocessor::new(setup.image_size, limits, settings.decode_threads),
            fetcher: ImageFetcher::new(&settings),
            mask_decoder: setup.mask_decoder.map(Arc::new),
            admission: Admission::new(&settings),
            model: Arc::new(info),
            settings: Arc::new(settings),
            metrics: METRICS.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(state)).await.unwrap() });
        Self {
            address,
            engine: setup.engine,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn wait_until_ready(&self) {
        let mut states = self.engine.watch_state();
        let state = states.wait_for(|state| *state != State::Loading).await;
        assert_eq!(*state.unwrap(), State::Ready);
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address))
    }

    /// Sends a request and checks that the contract knows of the answer's status.
    pub async fn send(&self, request: RequestBuilder) -> Response {
        let request = request.build().unwrap();
        let method = request.method().as_str().to_ascii_lowercase();
        let path = request.url().path().to_owned();
        let response = self.client.execute(request).await.unwrap();
        assert_documented(&method, &path, response.status());
        response
    }

    /// Posts JSON; the answer is returned as status and JSON.
    pub async fn json(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.send(self.post(path).json(body)).await).await
    }
}

/// Status and JSON body; the body of an error has to be a problem document.
pub async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let content_type = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let id = response.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let body: Value = response.json().await.unwrap();
    if status.is_success() {
        assert_eq!(content_type, "application/json");
    } else {
        assert_eq!(content_type, "application/problem+json");
        assert_eq!(body["status"], status.as_u16());
        assert_eq!(body["request_id"], id);
        assert!(!body["title"].as_str().unwrap().is_empty());
        assert!(!body["detail"].as_str().unwrap().is_empty());
    }
    (status, body)
}

/// The answer is a problem document with this status and code, whose detail holds `words`.
#[track_caller]
pub fn assert_problem(answer: &(StatusCode, Value), status: u16, code: &str, words: &str) {
    let (found, problem) = answer;
    assert_eq!(
        (found.as_u16(), problem["code"].as_str()),
        (status, Some(code)),
        "{problem}"
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{detail}");
}

fn assert_documented(method: &str, path: &str, status: StatusCode) {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_yaml_ng::from_str(&openapi::document()).unwrap());
    let operation = &DOCUMENT["paths"][path][method];
    // What is no operation answers 404 or 405, which no operation can document.
    if operation.is_object() {
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.contains_key(status.as_str()),
            "{method} {path} answers {status}, which is not in the contract"
        );
    }
}

fn folder() -> PathBuf {
    let root = crate::root().to_owned();
    root.join("tests/goldens/model").join(CHECKPOINT)
}

fn load_settings(settings: &[(&str, &str)]) -> Settings {
    let flags = settings
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    Settings::load(None, [], flags.collect::<BTreeMap<_, _>>()).unwrap()
}

fn engine_options(settings: &Settings, context: usize) -> EngineOptions {
    EngineOptions {
        slots: settings.slots,
        queue: settings.queue,
        context,
        prefill_tokens_per_step: settings.prefill_tokens_per_step,
        image_cache_bytes: settings.image_cache.as_u64() as usize,
    }
}
