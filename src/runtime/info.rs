//! What clients may know about the model.

use std::path::Path;
use std::time::SystemTime;

use clap::ValueEnum;

use super::source::DEMO;
use crate::kernels::{Instructions, Placement};
use crate::models::ModelConfig;
use crate::settings::{Settings, TaskName};

/// What clients may know about the model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The name under which it is served, and which answers bear.
    pub name: String,
    /// Further names under which it may be asked for.
    pub aliases: Vec<String>,
    /// The name of the adapter that was merged into its weights, if one was.
    pub merged_adapter: Option<String>,
    /// What to know before using it, if there is something.
    pub description: Option<&'static str>,
    /// What it is good at.
    pub tasks: Vec<TaskName>,
    /// Width and height, in pixels, to which every image is resized.
    pub image_size: u32,
    /// Tokens that stand for one image.
    pub image_tokens: usize,
    /// Tokens that image, prompt and answer may have together.
    pub context: usize,
    /// Sequences generated at the same time.
    pub slots: usize,
    /// The format of the weights, such as `bf16`.
    pub dtype: String,
    /// Where the model runs, such as `cpu` or `cuda:0`.
    pub device: String,
    /// The processor's instructions that multiply, such as `avx2`; `None` where our own kernels don't
    /// run.
    pub instructions: Option<String>,
    /// When the server started: seconds since 1970-01-01 00:00 UTC.
    pub created: u64,
}

impl ModelInfo {
    pub(super) fn new(
        settings: &Settings,
        config: &ModelConfig,
        placement: Placement,
        instructions: Option<Instructions>,
        context: usize,
        slots: usize,
        masks: bool,
    ) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (name, aliases) = served_names(settings);
        Self {
            name,
            aliases,
            merged_adapter: match settings.merge_adapter.as_str() {
                "" => None,
                adapter => Some(own_name(adapter)),
            },
            description: (settings.model == DEMO).then_some(
                "the built-in demo: a tiny PaliGemma that was trained on drawn, coloured shapes and knows nothing of photos",
            ),
            tasks: tasks(settings, masks),
            image_size: config.vision.image_size as u32,
            image_tokens: config.image_tokens(),
            context,
            slots,
            dtype: placement.format.to_string(),
            device: match placement.gpu {
                Some(gpu) => format!("cuda:{gpu}"),
                None => "cpu".to_owned(),
            },
            instructions: instructions.map(|it| it.to_string()),
            created: now.map_or(0, |since| since.as_secs()),
        }
    }

    /// Every name of the model, the first being the one that answers bear.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = std::iter::once(&self.name).chain(&self.aliases);
        names.map(String::as_str)
    }
}

/// Those that the settings name, or else those that are possible and, of the demo, that it learnt.
fn tasks(settings: &Settings, masks: bool) -> Vec<TaskName> {
    if !settings.known_tasks.is_empty() {
        return settings.known_tasks.clone();
    }
    let demo = settings.model == DEMO;
    let good = |task: &TaskName| match task {
        TaskName::Segment => masks,
        TaskName::Ocr => !demo,
        TaskName::Caption | TaskName::Vqa | TaskName::Detect => true,
    };
    let all = TaskName::value_variants().iter().copied();
    all.filter(good).collect()
}

/// The model's name in answers, and further names for it.
pub fn served_names(settings: &Settings) -> (String, Vec<String>) {
    match settings.served_model_name.split_first() {
        Some((name, aliases)) => (name.clone(), aliases.to_vec()),
        None => (own_name(&settings.model), Vec::new()),
    }
}

/// `demo`, a folder's name, or a hub id, of a model or an adapter.
fn own_name(model: &str) -> String {
    if model == DEMO {
        return DEMO.to_owned();
    }
    let folder = Path::new(model).canonicalize().ok();
    let name = folder.as_deref().and_then(Path::file_name);
    name.map_or_else(
        || model.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
