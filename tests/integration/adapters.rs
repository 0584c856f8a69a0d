//! LoRA adapters answer as PEFT's do on the same checkpoints.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use paligemma_server::checkpoint::Adapter;
use paligemma_server::models::{AdapterId, Model, PaliGemma, Picture, Pretrained, WeightFormat};
use paligemma_test_support::golden::{Case, Golden};

use crate::company::{
    ALL, Company, ONE_LAYER, SOME, TOLERANCE, assert_tokens, encode, encode_all, relative_error,
};

/// It adds biases where the base has none, and PEFT can't merge it either.
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

/// A base, and with it the adapters that were trained on it.
struct Family {
    base: Golden,
    adapters: Vec<Golden>,
}

impl Family {
    fn all() -> Vec<Self> {
        let mut families: Vec<Self> = Golden::all()
            .into_iter()
            .map(|base| Self {
                base,
                adapters: Vec::new(),
            })
            .collect();
        for adapter in Golden::adapters() {
            let name = &adapter.base;
            let of_base = |family: &&mut Self| family.base.name() == *name;
            let family = families.iter_mut().find(of_base).unwrap();
            family.adapters.push(adapter);
        }
        families.retain(|family| !family.adapters.is_empty());
        assert!(families.iter().any(|family| family.adapters.len() > 5));
        families
    }

    fn load(&self, format: WeightFormat) -> PaliGemma {
        let pretrained = Pretrained::open(&self.base.folder).unwrap();
        for golden in &self.adapters {
            let adapter = Adapter::open(&golden.folder).unwrap();
            pretrained.add_adapter(&golden.name(), adapter).unwrap();
        }
        pretrained.load(&Device::Cpu, format).unwrap()
    }

    /// Every case of the base and of every adapter, with features that are encoded together.
    fn cases(&self, model: &PaliGemma) -> (Vec<Tensor>, Vec<(Option<AdapterId>, Case)>) {
        let adapters = self.adapters.iter().enumerate();
        let adapters = adapters.map(|(index, golden)| (Some(id(index)), golden));
        let (mut pixels, mut cases) = (Vec::new(), Vec::new());
        for (adapter, golden) in [(None, &self.base)].into_iter().chain(adapters) {
            for case in &golden.cases {
                let image = pixels.len();
                pixels.push((self.base.pixels(case.image), adapter));
                let mut case = case.clone();
                case.image = image;
                cases.push((adapter, case));
            }
        }
        let pictures = pixels.iter().map(|(pixels, adapter)| Picture {
            pixels,
            adapter: *adapter,
        });
        (encode_all(model, &pictures.collect::<Vec<_>>()), cases)
    }
}

fn id(index: usize) -> AdapterId {
    AdapterId(index as u32 + 1)
}

#[test]
fn adapters_and_the_base_in_one_batch_give_the_reference_features_and_tokens() {
    for family in Family::all() {
        let model = family.load(WeightFormat::F32);
        let (features, cases) = family.cases(&model);
        for (adapter, case) in &cases[family.base.cases.len()..] {
            let golden = &family.adapters[adapter.unwrap().0 as usize - 1];
            let of_case = golden
                .cases
                .iter()
                .find(|it| it.prompt == case.prompt)
                .unwrap();
            assert_eq!(of_case.prompt_ids, case.prompt_ids);
        }
        let mut company = Company::new(&model, cases.len());
        company.adapters = cases.iter().map(|(adapter, _)| *adapter).collect();
        let all: Vec<(usize, &Case)> = cases.iter().map(|(_, case)| case).enumerate().collect();
        let (early, late): (Vec<_>, Vec<_>) = all.iter().partition(|(slot, _)| slot % 2 == 1);
        company.join(&features, &early, SOME);
        company.join(&features, &late, ONE_LAYER);
        for ((adapter, case), running) in cases.iter().zip(company.finish(24)) {
            let name = adapter.map(|id| family.adapters[id.0 as usize - 1].name());
            assert_tokens(case, &running.tokens, &format!("{name:?}"));
        }
    }
}

#[test]
fn an_adapter_alone_gives_the_reference_features_and_logits() {
    for family in Family::all() {
        let model = family.load(WeightFormat::F32);
        let (features, cases) = family.cases(&model);
        let vocab = Pretrained::open(&family.base.folder)
            .unwrap()
            .tokenizer
            .vocab_size();
        for (adapter, case) in cases {
            let Some(adapter) = adapter else { continue };
            let golden = &family.adapters[adapter.0 as usize - 1];
            let mut alone = Company::new(&model, 1);
            alone.adapters = vec![Some(adapter)];
            alone.join(&features, &[(0, &case)], ALL);
            let theirs = golden.logits(&case);
            let error = relative_error(&alone.running[0].first_logits, &theirs[..vocab]);
            let what = golden.name();
            assert!(error < TOLERANCE, "{what}, {:?}: {error}", case.prompt);
        }
    }
}

/// As long as nobody else is computed in another way because of it.
#[test]
fn rows_of_adapters_are_the_same_bits_alone_and_in_company_in_8_bits() {
    for family in Family::all() {
        let model = family.load(WeightFormat::Q8_0);
        let (features, cases) = family.cases(&model);
        let mut company = Company::new(&model, cases.len());
        company.adapters = cases.iter().map(|(adapter, _)| *adapter).collect();
        let all: Vec<(usize, &Case)> = cases.iter().map(|(_, case)| case).enumerate().collect();
        company.join(&features, &all, SOME);
        for ((adapter, case), together) in cases.iter().zip(company.finish(8)) {
            let mut alone = Company::new(&model, together.slot + 1);
            alone.adapters[together.slot] = *adapter;
            alone.join(&features, &[(together.slot, case)], ALL);
            let alone = alone.finish(8).remove(0);
            assert_eq!(
                alone.first_logits, together.first_logits,
                "{:?}",
                case.prompt
            );
            assert_eq!(alone.tokens[..8], together.tokens[..8], "{:?}", case.prompt);
        }
    }
}

#[test]
fn an_adapter_that_has_gone_leaves_the_base_as_it_was() {
    let family = Family::all().remove(0);
    let mut model = family.load(WeightFormat::F32);
    for index in 0..family.adapters.len() {
        model.remove_adapter(id(index));
    }
    let pixels: Vec<_> = family
        .base
        .cases
        .iter()
        .map(|case| family.base.pixels(case.image))
        .collect();
    let ours = encode(&model, &pixels);
    let plain = Pretrained::open(&family.base.folder).unwrap();
    let plain = plain.load(&Device::Cpu, WeightFormat::F32).unwrap();
    let theirs = encode(&plain, &pixels);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let difference = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap();
        assert_eq!(difference.to_scalar::<f32>().unwrap(), 0.0);
    }
}

#[test]
fn what_is_planned_for_an_adapter_is_enough_and_not_much_more() {
    for family in Family::all() {
        let mut model = family.load(WeightFormat::F32);
        for golden in &family.adapters {
            let pretrained = Pretrained::open(&family.base.folder).unwrap();
            let adapter = Adapter::open(&golden.folder).unwrap();
            pretrained.add_adapter("planned", adapter).unwrap();
            let adapter = pretrained.adapters.get("planned").unwrap().adapter;
            let planned = adapter.values(&pretrained.weights) * size_of::<f32>();
            let taken = model.add_adapter(AdapterId(99), &adapter).unwrap();
            model.remove_adapter(AdapterId(99));
            let name = golden.name();
            assert!(taken <= planned, "{name}: {taken} of {planned}");
            assert!(planned <= 3 * taken, "{name}: {taken} of {planned}");
        }
    }
}

/// What has to be refused, and what the refusal has to name.
#[derive(serde::Deserialize)]
struct Refused {
    folder: String,
    base: String,
    wrong: String,
    error_names: Vec<String>,
}

#[test]
fn what_is_no_adapter_of_the_model_is_refused_by_what_is_wrong() {
    let root = paligemma_test_support::root().join("tests/goldens/adapters/refused");
    let manifest = std::fs::read(root.join("manifest.json")).unwrap();
    let refused: Vec<Refused> = serde_json::from_slice(&manifest).unwrap();
    assert!(refused.len() > 30);
    for case in refused {
        let base = root
            .parent()
            .unwrap()
            .with_file_name("model")
            .join(&case.base);
        let base = Pretrained::open(&base).unwrap();
        let opened = Adapter::open(&root.join(&case.folder)).map_err(|error| error.to_string());
        let outcome = opened.and_then(|adapter| {
            base.add_adapter("adapter", adapter)
                .map_err(|error| error.to_string())?;
            let loaded = base.load(&Device::Cpu, WeightFormat::F32);
            loaded.map_err(|error| error.to_string())
        });
        let error = match outcome {
            Ok(_) => panic!("{} ({}) is accepted", case.folder, case.wrong),
            Err(error) => error,
        };
        assert!(!error.contains('\n'), "{}: {error}", case.folder);
        for name in &case.error_names {
            assert!(error.contains(name), "{}: {error}", case.folder);
        }
        println!("{}: {error}", case.folder);
    }
}

#[test]
fn a_pattern_that_is_no_regular_expression_is_refused_in_one_line() {
    let golden = paligemma_test_support::root().join("tests/goldens/adapters/pg1-fan-in-fan-out");
    let folder = tempfile::tempdir().unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(golden.join(weights), folder.path().join(weights)).unwrap();
    let config = std::fs::read(golden.join("adapter_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["rank_pattern"] = serde_json::json!({"[z-a]": 4});
    let config = config.to_string();
    std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    let error = Adapter::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no regular expression"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
