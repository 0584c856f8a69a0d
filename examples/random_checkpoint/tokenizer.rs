//! The synthetic tokenizer.

use serde_json::{Map, Value, json};

use crate::Dimensions;

/// A byte-fallback BPE in Gemma's format, whose pieces are one, two or four letters.
pub fn tokenizer(d: &Dimensions) -> Value {
    let mut vocab = Map::new();
    let mut merges = Vec::new();
    let mut add = |piece: String| {
        let id = vocab.len();
        vocab.entry(piece).or_insert(json!(id));
    };
    let specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"];
    specials.iter().for_each(|token| add(token.to_string()));
    (0..=255).for_each(|byte| add(format!("<0x{byte:02X}>")));
    ["\n", "\n\n", "▁"]
        .iter()
        .for_each(|piece| add(piece.to_string()));
    let letters: Vec<String> = (' '..='~').skip(1).map(String::from).collect();
    letters.iter().cloned().for_each(&mut add);

    let words = d.tokens - 1 - 1024 - 128;
    let lower: Vec<String> = ('a'..='z').map(String::from).collect();
    let starts = [vec!["▁".to_owned()], lower.clone()].concat();
    let pairs: Vec<(String, String)> = starts
        .iter()
        .flat_map(|a| lower.iter().map(move |b| (a.clone(), b.clone())))
        .collect();
    let fours = pairs
        .iter()
        .flat_map(|(a, b)| {
            pairs
                .iter()
                .map(move |(c, d)| (format!("{a}{b}"), format!("{c}{d}")))
        })
        .filter(|(_, second)| !second.starts_with('▁'));
    let free = words - 5 - 256 - 3 - letters.len();
    merges.push(json!(["\n", "\n"]));
    for (left, right) in pairs.iter().cloned().chain(fours).take(free) {
        add(format!("{left}{right}"));
        merges.push(json!([left, right]));
    }
    (0..1024).for_each(|i| add(format!("<loc{i:04}>")));
    (0..128).for_each(|i| add(format!("<seg{i:03}>")));
    add("<image>".to_owned());

    let added: Vec<Value> = vocab
        .iter()
        .filter_map(|(content, id)| {
            let special = specials.contains(&content.as_str()) || content == "<image>";
            let coordinate = content.starts_with("<loc") || content.starts_with("<seg");
            (special || coordinate).then(|| {
                json!({
                    "id": id, "content": content, "special": special, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false,
                })
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "vocab": vocab, "merges": merges,
        },
    })
}
