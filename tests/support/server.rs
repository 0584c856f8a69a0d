//! A real server on a real port, put together as `serve` does it, over a golden checkpoint or over
//! the toy model that a test holds in its hands.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use candle_core::Device;
use paligemma_server::api::{self, AppState};
use paligemma_server::checkpoint::CheckpointError;
use paligemma_server::engine::{EngineHandle, State};
use paligemma_server::http_client;
use paligemma_server::models::{Model, PaliGemma, Pretrained, WeightFormat};
use paligemma_server::pixels::Preprocessor;
use paligemma_server::runtime::Runtime;
use paligemma_server::server::{self, ServerError, Shutdown, Trigger};
use paligemma_server::settings::Settings;
use paligemma_server::tokenizer::Tokenizer;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::toy_model::{self, Control, Toy};

/// The checkpoint behind [`Server::golden`], and the tokenizer behind [`Server::toy`].
pub const CHECKPOINT: &str = "pg1-hub-bf16-sharded";

/// Another name for the model of every server.
pub const ALIAS: &str = "paligemma";

pub struct Server {
    pub address: SocketAddr,
    pub engine: EngineHandle,
    /// What decodes its images.
    pub preprocessor: Preprocessor,
    client: reqwest::Client,
    serving: JoinHandle<Result<(), ServerError>>,
    /// The server runs for as long as this is there.
    trigger: Trigger,
}

impl Server {
    /// Serves a small checkpoint that transformers made; `settings` by key.
    pub async fn golden(settings: &[(&str, &str)]) -> Self {
        let runtime = Runtime::load(&golden_settings(settings)).await.unwrap();
        let server = Self::start(runtime).await;
        server.wait_until_ready().await;
        server
    }

    /// Serves the demo, in the format that it has on a CPU; `settings` by key.
    pub async fn demo(settings: &[(&str, &str)]) -> Self {
        let names = format!("{CHECKPOINT},{ALIAS}");
        let own = [("served_model_name", names.as_str())];
        let settings = load_settings(&[&own, settings].concat());
        let server = Self::start(Runtime::load(&settings).await.unwrap()).await;
        server.wait_until_ready().await;
        server
    }

    /// Serves the demo in f32 as `wrap` makes it, each time that it is loaded; `settings` by key.
    pub async fn demo_as<M: Model>(
        settings: &[(&str, &str)],
        wrap: impl Fn(PaliGemma) -> M + Send + 'static,
    ) -> Self {
        let runtime = Runtime::load(&load_settings(settings)).await.unwrap();
        let image_tokens = runtime.info.image_tokens;
        let load = move || {
            let demo = Pretrained::demo()?;
            // What is computed again as part of a prefix comes out the same in f32 only.
            let model = demo.load(&Device::Cpu, WeightFormat::F32)?;
            Ok::<_, CheckpointError>(wrap(model))
        };
        let server = Self::start(runtime.with_factory(image_tokens, load)).await;
        server.wait_until_ready().await;
        server
    }

    /// Serves a model that `control` holds; `settings` by key.
    pub async fn toy(control: &Arc<Control>, settings: &[(&str, &str)]) -> Self {
        let control = control.clone();
        let build = move |vocab_size| control.build(vocab_size);
        let server = Self::toy_built_by(settings, build).await;
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

    /// Serves a toy as soon as `build` gives one for a vocabulary of that size.
    pub async fn toy_built_by<F>(settings: &[(&str, &str)], build: F) -> Self
    where
        F: Fn(usize) -> Result<Toy, String> + Send + 'static,
    {
        let own = [("context", "4096"), ("model_restarts", "0")];
        let settings = golden_settings(&[&own, settings].concat());
        let runtime = Runtime::load(&settings).await.unwrap();
        let vocab_size = runtime.tokenizer.vocab_size();
        let runtime = runtime.with_factory(toy_model::IMAGE_TOKENS, move || build(vocab_size));
        Self::start(runtime).await
    }

    /// The tokenizer of the golden checkpoint, which the toy has as well.
    pub fn tokenizer() -> Arc<Tokenizer> {
        Pretrained::open(&folder()).unwrap().tokenizer
    }

    async fn start<F, M, E>(runtime: Runtime<F>) -> Self
    where
        M: Model,
        E: Display,
        F: Fn() -> Result<M, E> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = AppState::start(runtime).unwrap();
        let engine = state.engine.clone();
        let preprocessor = state.preprocessor.clone();
        let (trigger, mut shutdown) = Shutdown::on_trigger();
        let serving =
            tokio::spawn(async move { server::serve(listener, state, &mut shutdown).await });
        Self {
            address,
            engine,
            preprocessor,
            serving,
            client: http_client::builder().no_proxy().build().unwrap(),
            trigger,
        }
    }

    async fn wait_until_ready(&self) {
        let mut states = self.engine.watch_state();
        let state = states.wait_for(|state| *state != State::Loading).await;
        assert_eq!(*state.unwrap(), State::Ready);
    }

    /// How the server ends by itself.
    pub async fn end(self) -> Result<(), ServerError> {
        self.serving.await.unwrap()
    }

    /// Ends the server in good order.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.trigger.pull();
        self.end().await
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
        LazyLock::new(|| serde_yaml_ng::from_str(api::document()).unwrap());
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

/// Settings of a server of the golden checkpoint.
fn golden_settings(settings: &[(&str, &str)]) -> Settings {
    let names = format!("{CHECKPOINT},{ALIAS}");
    let folder = folder();
    let own = [
        ("model", folder.to_str().unwrap()),
        ("served_model_name", names.as_str()),
        ("dtype", "f32"),
        ("device", "cpu"),
    ];
    load_settings(&[&own, settings].concat())
}

fn load_settings(settings: &[(&str, &str)]) -> Settings {
    let flags = settings
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    Settings::load(None, [], flags.collect::<BTreeMap<_, _>>()).unwrap()
}
