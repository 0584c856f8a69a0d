//! What people have that is no PaliGemma in the Hugging Face layout, or none that can be read: told by its
//! configuration, its tensors and its files, and answered with what to use instead.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::files::Checkpoint;

/// What holds a checkpoint's weights here.
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

/// Endings of files of other formats, what they are, and what to use instead.
const FORMATS: [(&str, &str, &str); 7] = [
    (".gguf", "GGUF", "use the safetensors that it was made from"),
    (".npz", "a JAX checkpoint", HUGGING_FACE),
    (".msgpack", "a JAX checkpoint", HUGGING_FACE),
    (".h5", "a Keras checkpoint", HUGGING_FACE),
    (".keras", "a Keras checkpoint", HUGGING_FACE),
    ("pytorch_model.bin", PICKLED, SAFE),
    ("pytorch_model.bin.index.json", PICKLED, SAFE),
];

const HUGGING_FACE: &str = "use the same model in the Hugging Face layout, such as google/paligemma2-3b-pt-224 or google/paligemma2-3b-mix-224";
const PICKLED: &str = "pickled, and reading them can run code";
const SAFE: &str = "save the model again with save_pretrained(…, safe_serialization=True)";

const COMPRESSED: &str = "in compressed-tensors' layout";
const QUANTIZED: &str = "which is not read here; use the checkpoint that it was made from, in bf16, f16 or f32, and --dtype q8_0 or q4k for small weights";

/// Another kind of model.
struct Model {
    name: &'static str,
    what: &'static str,
    advice: &'static str,
}

const PI0: Model = Model {
    name: "π0",
    what: "a robot's policy around a PaliGemma, which gives actions and no text",
    advice: "run it with openpi or LeRobot",
};
const COLPALI: Model = Model {
    name: "ColPali or one of its kin",
    what: "which gives embeddings of pages and no text",
    advice: "run it with colpali-engine",
};
const GEMMA3: Model = Model {
    name: "Gemma 3",
    what: "another model than PaliGemma",
    advice: "use a PaliGemma such as google/paligemma2-3b-mix-224, or another server",
};
const KERAS: Model = Model {
    name: "a Keras checkpoint",
    what: "which is not read here",
    advice: HUGGING_FACE,
};

impl Model {
    /// The refusal of what is known for it by some trait.
    fn refusal(&self, known_by: &str) -> String {
        let Self { name, what, advice } = self;
        format!("is {name} ({known_by}), {what}; {advice}")
    }
}

/// A mask decoder is no model, though it is an `.npz`.
const MASK_DECODER: &str = "vae-oid.npz";

/// Why the checkpoint in a folder can't be served, as far as that is known before its weights are
/// there. `files` are all that there are, whether they have been fetched or not; none if that is not known.
/// `name` is what the user calls it.
pub fn reason_against(folder: &Path, name: &str, files: &[String]) -> Option<String> {
    let checkpoint = Checkpoint::Folder(folder.to_owned());
    let config = checkpoint.json::<Value>("config.json").ok().flatten();
    let by_config = config.as_ref().and_then(reason_in_config);
    let weights = || files.iter().any(|file| WEIGHTS.contains(&file.as_str()));
    match by_config {
        None if !weights() => only_adapter(&checkpoint, name).or_else(|| reason_in_files(files)),
        reason => reason,
    }
}

/// The same by the names of all files alone.
pub fn reason_in_files(files: &[String]) -> Option<String> {
    let of_format = |(ending, format, advice): (&str, &str, &str)| {
        let mut files = files.iter();
        let found = files.find(|file| file.ends_with(ending) && *file != MASK_DECODER)?;
        Some(format!("has its weights in {found:?}, {format}; {advice}"))
    };
    FORMATS.into_iter().find_map(of_format)
}

/// The same by the names of its tensors.
pub fn reason_in_tensors<'a>(names: impl Iterator<Item = &'a String> + Clone) -> Option<String> {
    let find = |part: &str| names.clone().find(|name| name.contains(part));
    if let Some(name) = find(".qweight") {
        let method = find(".g_idx").map_or("AWQ", |_| "GPTQ");
        return Some(format!(
            "is quantised by {method} (tensor {name:?}), {QUANTIZED}"
        ));
    }
    if let Some(name) = find(".weight_packed").or(find(".weight_scale")) {
        return Some(format!(
            "is quantised {COMPRESSED} (tensor {name:?}), {QUANTIZED}"
        ));
    }
    let models = [
        ("paligemma_with_expert.", PI0),
        ("custom_text_proj", COLPALI),
        ("embedding_proj_layer", COLPALI),
        ("mm_input_projection_weight", GEMMA3),
    ];
    models.into_iter().find_map(|(part, model)| {
        let name = find(part)?;
        Some(model.refusal(&format!("tensor {name:?}")))
    })
}

/// The files of a folder, by name.
pub fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn reason_in_config(config: &Value) -> Option<String> {
    let text = |field: &str| {
        config
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let architectures = config.get("architectures").and_then(Value::as_array);
    let architecture = architectures.and_then(|all| all.first()?.as_str());
    let architecture = architecture.unwrap_or_default();
    let kin = ["ColPali", "ColQwen", "ColIdefics", "ColSmol", "BiPali"];
    for (field, beginning, model) in [
        ("model_type", "gemma3", GEMMA3),
        ("model_type", "pi0", PI0),
        ("type", "pi0", PI0),
        ("model_type", "col", COLPALI),
        ("registered_name", "keras", KERAS),
        ("module", "keras", KERAS),
    ] {
        let value = text(field);
        if value.starts_with(beginning) {
            return Some(model.refusal(&format!("config.json: {field} is {value:?}")));
        }
    }
    if kin.iter().any(|kin| architecture.starts_with(kin)) {
        let known_by = format!("config.json: architectures is [{architecture:?}]");
        return Some(COLPALI.refusal(&known_by));
    }
    reason_in_quantization(config)
}

/// What lies in the files decides how bitsandbytes' weights are read; of the others, none are.
fn reason_in_quantization(config: &Value) -> Option<String> {
    let fields = ["quantization_config", "compression_config"];
    let is_set = |field: &&str| config.get(*field).is_some_and(|value| !value.is_null());
    let field = fields.into_iter().find(is_set)?;
    let quantization = &config[field];
    let loads = |field: &str| quantization.get(field) == Some(&Value::Bool(true));
    let method = match quantization.get("quant_method").and_then(Value::as_str) {
        Some("bitsandbytes") => return None,
        // As transformers reads files that are older than that field.
        None if loads("load_in_4bit") || loads("load_in_8bit") => return None,
        Some("gptq") => "by GPTQ".to_owned(),
        Some("awq") => "by AWQ".to_owned(),
        Some("compressed-tensors") => COMPRESSED.to_owned(),
        None if field == "compression_config" => COMPRESSED.to_owned(),
        Some(other) => format!("by {other:?}"),
        None => "in a way that it does not name".to_owned(),
    };
    Some(format!(
        "is quantised {method} (config.json: {field}), {QUANTIZED}"
    ))
}

fn only_adapter(checkpoint: &Checkpoint, name: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Adapter {
        base_model_name_or_path: Option<String>,
    }
    let adapter: Adapter = checkpoint.json("adapter_config.json").ok().flatten()?;
    let base = match adapter.base_model_name_or_path {
        Some(base) => format!("{base:?}"),
        None => "BASE".to_owned(),
    };
    Some(format!(
        "holds an adapter and no model; name its base as the model: --model {base} with --merge-adapter {name} or --adapter NAME={name}"
    ))
}
