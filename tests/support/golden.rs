//! Reads the checkpoints and answers that the reference made; see tests/goldens/README.md.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use serde::Deserialize;

/// What the reference answered on one checkpoint.
pub struct Golden {
    pub folder: PathBuf,
    pub cases: Vec<Case>,
    /// The name of an adapter's base, or of what was quantised.
    pub base: String,
    /// The name of the adapter that is on top of a quantised checkpoint.
    pub with_adapter: Option<String>,
    tensors: HashMap<String, Tensor>,
}

/// One image and prompt.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub image: usize,
    pub prompt: String,
    /// The ids after the image tokens, `<bos>` to newline.
    pub prompt_ids: Vec<u32>,
    logits: String,
    /// Greedy tokens; `<eos>` did not end them.
    pub tokens: Vec<u32>,
    /// By how much each token's logit was above the next one's.
    pub margins: Vec<f32>,
    pub text: String,
}

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
    /// Of an adapter: the folder's name of what it was trained on. Of a quantised checkpoint: of what it was.
    base: Option<String>,
    with_adapter: Option<String>,
}

impl Golden {
    /// Every checkpoint there is, in the order of their names.
    pub fn all() -> Vec<Self> {
        Self::in_folder("tests/goldens/model", 8)
    }

    /// Every adapter there is, in the order of their names. Images are those of the adapter's base.
    pub fn adapters() -> Vec<Self> {
        Self::in_folder("tests/goldens/adapters", 10)
    }

    /// Every quantised checkpoint there is, in the order of their names, and each adapter on one. Images are
    /// those of the checkpoint that was quantised, and so is the tokenizer.
    pub fn quantized() -> Vec<Self> {
        Self::in_folder("tests/goldens/quantized", 5)
    }

    fn in_folder(folder: &str, least: usize) -> Vec<Self> {
        let root = crate::root().join(folder);
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
            .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("golden.json").exists())
            .collect();
        folders.sort();
        assert!(
            folders.len() >= least,
            "only {folders:?} in {}",
            root.display()
        );
        folders.into_iter().map(Self::read).collect()
    }

    fn read(folder: PathBuf) -> Self {
        let file = std::fs::read(folder.join("golden.json")).unwrap();
        let file: File = serde_json::from_slice(&file).unwrap();
        let tensors = folder.join("golden.safetensors");
        Self {
            tensors: candle_core::safetensors::load(tensors, &Device::Cpu).unwrap(),
            cases: file.cases,
            base: file.base.unwrap_or_default(),
            with_adapter: file.with_adapter,
            folder,
        }
    }

    pub fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into()
    }

    /// RGB bytes of an image at the model's size.
    pub fn pixels(&self, image: usize) -> Vec<u8> {
        let tensor = &self.tensors[&format!("image.{image}.pixels")];
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The reference's projected features of an image, `[image_tokens, hidden]`.
    pub fn features(&self, image: usize) -> &Tensor {
        &self.tensors[&format!("image.{image}.features")]
    }

    /// The reference's weights, by name, of which it keeps every number.
    pub fn weights(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let tensors = self.tensors.iter();
        tensors.filter_map(|(name, tensor)| Some((name.strip_prefix("weight.")?, tensor)))
    }

    /// The reference's logits of a case's first step, padded rows included.
    pub fn logits(&self, case: &Case) -> Vec<f32> {
        self.tensors[&case.logits].to_vec1().unwrap()
    }
}
