//! The tokenizer, with the promises that PaliGemma needs: a coordinate typed by a user is one
//! token, and no text of a user becomes `<image>`, `<bos>` or `<eos>`.

mod detokenizer;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::Tokenizer as Inner;

use crate::checkpoint::{Checkpoint, CheckpointError};
pub(crate) use detokenizer::Detokenizer;

/// Turns prompts into token ids and token ids into text.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    bos: u32,
    eos: Vec<u32>,
    /// Ids of `<0x00>` to `<0xFF>`, of which several together make a character.
    bytes: HashMap<u32, u8>,
    vocab_size: usize,
}

#[derive(Debug, Default, Deserialize)]
struct RawTokenizerConfig {
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
}

/// `"<bos>"`, or `{"content": "<bos>", …}`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenName {
    Plain(String),
    Full { content: String },
}

impl TokenName {
    fn content(self) -> String {
        match self {
            Self::Plain(content) | Self::Full { content } => content,
        }
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and `tokenizer_config.json`; `eos` are the ids that end an answer, or
    /// none to take the tokenizer's own.
    ///
    /// # Errors
    /// When a file is missing or damaged, or lacks a token that PaliGemma needs.
    pub fn open(checkpoint: &Checkpoint, eos: Vec<u32>) -> Result<Self, CheckpointError> {
        let config: RawTokenizerConfig = checkpoint
            .json("tokenizer_config.json")?
            .unwrap_or_default();
        let mut file: Value = checkpoint.required_json("tokenizer.json")?;
        make_coordinates_plain(&mut file);
        let reader = Reader {
            path: checkpoint.path("tokenizer.json"),
        };
        let mut inner: Inner = serde_json::from_value(file).map_err(|e| reader.fail(e))?;
        // What a user types is text, even when it looks like a special token.
        inner.set_encode_special_tokens(true);
        reader.id(&inner, "<image>")?;
        let name = |name: Option<TokenName>, usual: &str| {
            name.map_or_else(|| usual.to_owned(), TokenName::content)
        };
        let bos = reader.id(&inner, &name(config.bos_token, "<bos>"))?;
        let eos = match eos.is_empty() {
            false => eos,
            true => vec![reader.id(&inner, &name(config.eos_token, "<eos>"))?],
        };
        let highest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        let tokenizer = Self {
            bytes: (0..=255u8)
                .filter_map(|byte| Some((inner.token_to_id(&format!("<0x{byte:02X}>"))?, byte)))
                .collect(),
            vocab_size: highest as usize + 1,
            bos,
            eos,
            inner,
        };
        tokenizer.check_coordinates(&reader)?;
        Ok(tokenizer)
    }

    /// The ids of `<bos>`, the prompt and a newline, as they follow the image tokens.
    ///
    /// # Errors
    /// When the tokenizer itself fails, which a usable one does not.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>, tokenizers::Error> {
        let encoding = self.inner.encode_fast(format!("{prompt}\n"), false)?;
        Ok([&[self.bos], encoding.get_ids()].concat())
    }

    /// The text of some ids, special tokens left out. Bytes that are not UTF-8 become `U+FFFD`.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_else(|error| {
            tracing::error!(%error, "the tokenizer could not decode {} tokens", ids.len());
            String::new()
        })
    }

    /// The id of a token as the vocabulary writes it, such as `<loc0000>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether the token is one byte of a character.
    pub fn is_byte(&self, id: u32) -> bool {
        self.bytes.contains_key(&id)
    }

    /// What the token adds to an answer, in UTF-8; of a byte token, a part of a character.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        match self.bytes.get(&id) {
            Some(byte) => vec![*byte],
            None => self.decode(&[id]).into_bytes(),
        }
    }

    /// Whether the token ends an answer.
    pub fn is_eos(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// Ids `0..vocab_size` are tokens; a model's table may have rows past them.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Each coordinate that the vocabulary has must be one token when it is typed.
    fn check_coordinates(&self, reader: &Reader) -> Result<(), CheckpointError> {
        for name in coordinates() {
            let Some(id) = self.inner.token_to_id(&name) else {
                continue;
            };
            let encoding = self
                .inner
                .encode_fast(name.as_str(), false)
                .map_err(|error| reader.fail(error))?;
            if encoding.get_ids() != [id] {
                return Err(reader.fail(format!(
                    "{name} is token {id} and is encoded as {:?}",
                    encoding.get_ids()
                )));
            }
        }
        Ok(())
    }
}

/// The names of the location and segmentation tokens.
fn coordinates() -> impl Iterator<Item = String> {
    let locations = (0..1024).map(|i| format!("<loc{i:04}>"));
    locations.chain((0..128).map(|i| format!("<seg{i:03}>")))
}

/// Makes each coordinate of the vocabulary an added token that is not special: one that is only in
/// the vocabulary is split into characters, and one that is special would be kept as text.
fn make_coordinates_plain(file: &mut Value) {
    let names: HashSet<String> = coordinates().collect();
    let missing: Vec<(String, Value)> = {
        let listed: HashSet<&str> = file["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|token| token["content"].as_str())
            .collect();
        file["model"]["vocab"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| names.contains(*name) && !listed.contains(name.as_str()))
            .map(|(name, id)| (name.clone(), id.clone()))
            .collect()
    };
    let Some(added) = file.get_mut("added_tokens").and_then(Value::as_array_mut) else {
        return;
    };
    for token in added.iter_mut() {
        if token["content"]
            .as_str()
            .is_some_and(|name| names.contains(name))
        {
            token["special"] = json!(false);
        }
    }
    added.extend(missing.into_iter().map(|(content, id)| {
        json!({
            "id": id, "content": content, "special": false, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    }));
}

/// Makes errors that name the file.
struct Reader {
    path: PathBuf,
}

impl Reader {
    fn fail(&self, reason: impl ToString) -> CheckpointError {
        CheckpointError::Tokenizer {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    fn id(&self, inner: &Inner, name: &str) -> Result<u32, CheckpointError> {
        inner
            .token_to_id(name)
            .ok_or_else(|| self.fail(format!("it has no {name} token, and PaliGemma needs one")))
    }
}
