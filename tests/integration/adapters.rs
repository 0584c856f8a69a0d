//! LoRA adapters answer as PEFT's do on the same checkpoints.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use paligemma_server::checkpoint::Adapter;
use paligemma_server::models::{PaliGemma, Pretrained, WeightFormat};
use paligemma_test_support::golden::Golden;

use crate::company::{ALL, Company, TOLERANCE, assert_tokens, encode, relative_error};

/// PEFT can't merge it either: it adds biases where the base has none.
const NOT_TO_BE_MERGED: &str = "pg1-bias";

fn base_of(golden: &Golden) -> PathBuf {
    let adapters = golden.folder.parent().unwrap();
    adapters.with_file_name("model").join(&golden.base)
}

fn merged(golden: &Golden) -> Result<(Pretrained, PaliGemma), String> {
    let base = Pretrained::open(&base_of(golden)).unwrap();
    let adapter = Adapter::open(&golden.folder).map_err(|error| error.to_string())?;
    let merged = base.merge(adapter).map_err(|error| error.to_string())?;
    let model = merged.load(&Device::Cpu, WeightFormat::F32).unwrap();
    Ok((merged, model))
}

/// The features of the adapter's images, which are its base's.
fn features_of(golden: &Golden, model: &PaliGemma) -> Vec<Tensor> {
    let base = Golden::all()
        .into_iter()
        .find(|it| it.name() == golden.base);
    let base = base.unwrap();
    let count = golden.cases.iter().map(|case| case.image).max().unwrap() + 1;
    let images: Vec<_> = (0..count).map(|image| base.pixels(image)).collect();
    encode(model, &images)
}

fn assert_features(golden: &Golden, ours: &[Tensor]) {
    for (image, ours) in ours.iter().enumerate() {
        let [ours, theirs]: [Vec<f32>; 2] = [ours, golden.features(image)]
            .map(|features| features.flatten_all().unwrap().to_vec1().unwrap());
        let error = relative_error(&ours, &theirs);
        assert!(error < TOLERANCE, "{}, {image}: {error}", golden.name());
    }
}

#[test]
fn a_merged_adapter_gives_the_reference_features_logits_and_tokens() {
    for golden in Golden::adapters() {
        if golden.name() == NOT_TO_BE_MERGED {
            continue;
        }
        let (checkpoint, model) = merged(&golden).unwrap();
        let features = features_of(&golden, &model);
        assert_features(&golden, &features);
        let vocab = checkpoint.tokenizer.vocab_size();
        for case in &golden.cases {
            let mut alone = Company::new(&model, 1);
            alone.join(&features, &[(0, case)], ALL);
            let running = alone.finish(case.tokens.len()).remove(0);
            let theirs = golden.logits(case);
            let error = relative_error(&running.first_logits, &theirs[..vocab]);
            let what = golden.name();
            assert!(error < TOLERANCE, "{what}, {:?}: {error}", case.prompt);
            assert_tokens(case, &running.tokens, &what);
        }
    }
}

#[test]
fn an_adapter_with_biases_that_the_base_lacks_is_not_merged() {
    let adapters = Golden::adapters();
    let golden = adapters.iter().find(|it| it.name() == NOT_TO_BE_MERGED);
    let refused = merged(golden.unwrap()).map(|_| ()).unwrap_err();
    assert!(refused.contains("lora_B.bias"), "{refused}");
    assert!(refused.contains("--adapter"), "{refused}");
}
