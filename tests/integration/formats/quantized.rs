//! Checkpoints that bitsandbytes quantised answer as transformers does with the weights that bitsandbytes
//! dequantises.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use paligemma_server::checkpoint::Adapter;
use paligemma_server::models::{PaliGemma, Pretrained, WeightFormat};
use paligemma_test_support::golden::Golden;

use super::{checkpoint, golden};
use crate::company::{ALL, Company, TOLERANCE, assert_tokens, encode, relative_error};

const ALONE: [&str; 4] = ["fp4", "int8", "nf4", "nf4-double"];

fn numbers(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn adapter(golden: &Golden) -> PathBuf {
    let adapters = paligemma_test_support::root().join("tests/goldens/adapters");
    adapters.join(golden.with_adapter.as_ref().unwrap())
}

/// Features, logits and tokens of all cases are `golden`'s; its images are those of `base`.
fn assert_answers(golden: &Golden, base: &str, pretrained: &Pretrained, model: &PaliGemma) {
    let images = Golden::all().into_iter().find(|it| it.name() == base);
    let images = images.unwrap();
    let features = encode(model, &[0, 1].map(|image| images.pixels(image)));
    for (image, ours) in features.iter().enumerate() {
        let theirs = numbers(golden.features(image));
        let error = relative_error(&numbers(ours), &theirs);
        assert!(error < TOLERANCE, "{}, {image}: {error}", golden.name());
    }
    let vocab = pretrained.tokenizer.vocab_size();
    for case in &golden.cases {
        let mut alone = Company::new(model, 1);
        alone.join(&features, &[(0, case)], ALL);
        let running = alone.finish(case.tokens.len()).remove(0);
        let error = relative_error(&running.first_logits, &golden.logits(case)[..vocab]);
        let what = golden.name();
        assert!(error < TOLERANCE, "{what}, {:?}: {error}", case.prompt);
        assert_tokens(case, &running.tokens, &what);
    }
}

#[test]
fn weights_are_bitsandbytes_own_to_the_bit() {
    for golden in ALONE.map(golden) {
        let folder = checkpoint(&golden);
        let weights = Pretrained::open(folder.path()).unwrap().weights;
        let mut compared = 0;
        for (name, theirs) in golden.weights() {
            let ours = weights.get(
                theirs.shape().clone(),
                &format!("{name}.weight"),
                Init::default(),
                DType::F32,
                &Device::Cpu,
            );
            let what = golden.name();
            let equal = numbers(&ours.unwrap()) == numbers(theirs);
            assert!(equal, "{what}, {name}");
            compared += 1;
        }
        assert_eq!(compared, 4);
    }
}

#[test]
fn answers_are_the_reference_ones() {
    for golden in ALONE.map(golden) {
        let folder = checkpoint(&golden);
        let pretrained = Pretrained::open(folder.path()).unwrap();
        let model = pretrained.load(&Device::Cpu, WeightFormat::F32).unwrap();
        assert_answers(&golden, &golden.base, &pretrained, &model);
        assert_eq!(pretrained.weights.progress.share(), 1.0);
    }
}

#[test]
fn an_adapter_is_merged_into_them_or_answers_beside_them() {
    let above = golden("nf4-with-adapter");
    let base = golden(&above.base);
    let folder = checkpoint(&base);
    let open = || Pretrained::open(folder.path()).unwrap();
    let merged = open().merge(Adapter::open(&adapter(&above)).unwrap());
    let merged = merged.unwrap();
    let model = merged.load(&Device::Cpu, WeightFormat::F32).unwrap();
    assert_answers(&above, &base.base, &merged, &model);

    let beside = open();
    let adapter = Adapter::open(&adapter(&above)).unwrap();
    beside.add_adapter("beside", adapter).unwrap();
    let model = beside.load(&Device::Cpu, WeightFormat::F32).unwrap();
    assert_answers(&base, &base.base, &beside, &model);
}

/// A folder may hold both. As a model it gives the whole weights, as an adapter the adapter.
#[test]
fn a_folder_with_an_adapter_and_weights_is_either() {
    let above = golden("nf4-with-adapter");
    let base = golden(&above.base);
    let folder = checkpoint(&base);
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let file = adapter(&above).join(name);
        std::fs::copy(file, folder.path().join(name)).unwrap();
    }
    let plain = Pretrained::open(folder.path()).unwrap();
    let model = plain.load(&Device::Cpu, WeightFormat::F32).unwrap();
    assert_answers(&base, &base.base, &plain, &model);

    let merged = plain.merge(Adapter::open(folder.path()).unwrap()).unwrap();
    let model = merged.load(&Device::Cpu, WeightFormat::F32).unwrap();
    assert_answers(&above, &base.base, &merged, &model);
}

#[test]
fn they_are_quantised_anew_like_any_others() {
    for golden in ALONE.map(golden) {
        let folder = checkpoint(&golden);
        let pretrained = Pretrained::open(folder.path()).unwrap();
        for format in [WeightFormat::Q8_0, WeightFormat::Q4K] {
            let model = pretrained.load(&Device::Cpu, format).unwrap();
            let base = Golden::all()
                .into_iter()
                .find(|it| it.name() == golden.base);
            let features = encode(&model, &[base.unwrap().pixels(0)]);
            let error = relative_error(&numbers(&features[0]), &numbers(golden.features(0)));
            assert!(error < 0.3, "{}, {format}: {error}", golden.name());
        }
    }
}

#[test]
fn how_they_are_stored_is_told_and_their_numbers_are_counted() {
    for (name, stored) in [
        ("nf4", "f32, nf4"),
        ("nf4-double", "bf16, nf4"),
        ("fp4", "bf16, fp4"),
        ("int8", "bf16, int8"),
    ] {
        let golden = golden(name);
        let folder = checkpoint(&golden);
        let quantized = Pretrained::open(folder.path()).unwrap().weights;
        let base = paligemma_test_support::golden_checkpoint(&golden.base);
        let base = Pretrained::open(&base).unwrap().weights;
        assert_eq!(quantized.formats(), stored);
        assert_eq!(quantized.values(), base.values());
        assert!(quantized.bytes() < base.bytes());
    }
}
