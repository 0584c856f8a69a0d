//! Prompts to ids, and ids to text.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use divan::counter::ItemsCount;
use paligemma_server::models::Pretrained;
use paligemma_server::tokenizer::Tokenizer;

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/model/pg1-hub");
    Pretrained::open(&folder).unwrap().tokenizer
});

/// A prompt as the tasks make it, of so many objects to look for.
fn prompt(objects: usize) -> String {
    format!("detect {}", vec!["a red circle"; objects].join(" ; "))
}

#[divan::bench(args = [1, 16])]
fn encode(bencher: Bencher, objects: usize) {
    let prompt = prompt(objects);
    bencher.bench(|| TOKENIZER.encode_prompt(divan::black_box(&prompt)).unwrap());
}

/// Token by token, as a stream does it.
#[divan::bench]
fn decode_each(bencher: Bencher) {
    let ids = TOKENIZER.encode_prompt(&prompt(16)).unwrap();
    bencher.counter(ItemsCount::new(ids.len())).bench(|| {
        ids.iter()
            .map(|&id| TOKENIZER.decode(divan::black_box(&[id])).len())
            .sum::<usize>()
    });
}

/// All ids at once, as at the end of an answer.
#[divan::bench(args = [16, 256])]
fn detokenize(bencher: Bencher, tokens: usize) {
    let ids = TOKENIZER.encode_prompt(&prompt(64)).unwrap();
    let ids: Vec<u32> = ids.into_iter().cycle().take(tokens).collect();
    bencher
        .counter(ItemsCount::new(tokens))
        .bench(|| TOKENIZER.decode(divan::black_box(&ids)));
}
