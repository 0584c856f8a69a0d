//! The model answers as Hugging Face transformers does on the same checkpoints, alone and in any
//! company.

use candle_core::Device;
use paligemma_server::models::{PaliGemma, Pretrained, WeightFormat};
use paligemma_test_support::golden::{Case, Golden};

use crate::company::{
    ALL, Company, ONE_LAYER, SOME, TOLERANCE, assert_tokens, features_of, relative_error,
};

fn open(golden: &Golden, format: WeightFormat) -> (Pretrained, PaliGemma) {
    let checkpoint = Pretrained::open(&golden.folder).unwrap();
    let model = checkpoint.load(&Device::Cpu, format).unwrap();
    (checkpoint, model)
}

#[test]
fn prompts_become_the_reference_ids_and_tokens_its_text() {
    for golden in Golden::all() {
        let tokenizer = Pretrained::open(&golden.folder).unwrap().tokenizer;
        for case in &golden.cases {
            let ids = tokenizer.encode_prompt(&case.prompt).unwrap();
            assert_eq!(ids, case.prompt_ids, "{}: {:?}", golden.name(), case.prompt);
            assert_eq!(
                tokenizer.decode(&case.tokens),
                case.text,
                "{}",
                golden.name()
            );
        }
    }
}

#[test]
fn image_features_equal_those_of_the_reference() {
    for golden in Golden::all() {
        let (_, model) = open(&golden, WeightFormat::F32);
        for (image, ours) in features_of(&golden, &model).iter().enumerate() {
            let [ours, theirs]: [Vec<f32>; 2] = [ours, golden.features(image)]
                .map(|features| features.flatten_all().unwrap().to_vec1().unwrap());
            let error = relative_error(&ours, &theirs);
            assert!(
                error < TOLERANCE,
                "{}, image {image}: {error}",
                golden.name()
            );
        }
    }
}

#[test]
fn a_single_request_gets_the_reference_logits_and_tokens() {
    let mut cases = 0;
    for golden in Golden::all() {
        let (checkpoint, model) = open(&golden, WeightFormat::F32);
        let features = features_of(&golden, &model);
        for case in &golden.cases {
            let mut company = Company::new(&model, 1);
            company.join(&features, &[(0, case)], ALL);
            let running = company.finish(case.tokens.len()).remove(0);
            let vocab = checkpoint.tokenizer.vocab_size();
            let theirs = golden.logits(case);
            assert!(
                vocab < theirs.len(),
                "the table has no padded rows to cut off"
            );
            let error = relative_error(&running.first_logits, &theirs[..vocab]);
            let what = golden.name();
            assert!(error < TOLERANCE, "{what}, {:?}: {error}", case.prompt);
            assert_tokens(case, &running.tokens, &what);
            cases += 1;
        }
    }
    assert!(cases >= 60, "only {cases} cases");
}

#[test]
fn requests_of_different_length_in_one_batch_get_the_tokens_that_each_gets_alone() {
    for golden in Golden::all() {
        let (_, model) = open(&golden, WeightFormat::F32);
        let features = features_of(&golden, &model);
        let cases: Vec<(usize, &Case)> = golden.cases.iter().enumerate().collect();
        let mut company = Company::new(&model, cases.len());
        company.join(&features, &cases, ONE_LAYER);
        for (case, running) in golden.cases.iter().zip(company.finish(24)) {
            assert_tokens(case, &running.tokens, &golden.name());
        }
    }
}

#[test]
fn a_request_that_joins_a_decoding_batch_changes_no_tokens() {
    for golden in Golden::all() {
        let (_, model) = open(&golden, WeightFormat::F32);
        let features = features_of(&golden, &model);
        let cases: Vec<(usize, &Case)> = golden.cases.iter().enumerate().collect();
        let mut company = Company::new(&model, cases.len());
        // Every second slot first, so that there are gaps between those that decode; then the
        // others one by one, in the gaps, a layer at a time.
        let (early, late): (Vec<_>, Vec<_>) = cases.iter().partition(|(slot, _)| slot % 2 == 1);
        company.join(&features, &early, SOME);
        for case in late {
            company.join(&features, &[case], ONE_LAYER);
        }
        for (case, running) in golden.cases.iter().zip(company.finish(24)) {
            assert_tokens(case, &running.tokens, &golden.name());
        }
    }
}

/// Our own kernels sum up integers exactly and each row by itself, so that not a bit depends on who
/// else is there, in any format.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_request_gets_the_same_bits_alone_and_in_company() {
    for golden in Golden::all() {
        for format in [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4K] {
            let (_, model) = open(&golden, format);
            let features = features_of(&golden, &model);
            let cases: Vec<(usize, &Case)> = golden.cases.iter().enumerate().collect();
            let mut company = Company::new(&model, cases.len());
            let (early, late): (Vec<_>, Vec<_>) = cases.iter().partition(|(slot, _)| slot % 2 == 1);
            company.join(&features, &early, SOME);
            company.join(&features, &late, ONE_LAYER);
            for (&(slot, case), together) in cases.iter().zip(company.finish(24)) {
                let mut alone = Company::new(&model, slot + 1);
                alone.join(&features, &[(slot, case)], ALL);
                let alone = alone.finish(24).remove(0);
                let what = format!("{}, {format}, {:?}", golden.name(), case.prompt);
                assert_eq!(alone.first_logits, together.first_logits, "{what}");
                assert_eq!(alone.tokens[..24], together.tokens[..24], "{what}");
            }
        }
    }
}

/// The share of the reference's tokens that a format chooses, when it is fed the reference's.
fn agreement(format: WeightFormat) -> f64 {
    let (mut same, mut all) = (0, 0);
    for golden in Golden::all() {
        let (_, model) = open(&golden, format);
        let features = features_of(&golden, &model);
        let cases: Vec<(usize, &Case)> = golden.cases.iter().enumerate().collect();
        let mut company = Company::new(&model, cases.len());
        company.join(&features, &cases, ALL);
        for step in 0..24 {
            for (running, case) in company.running.iter_mut().zip(&golden.cases) {
                let chosen = running.tokens.last_mut().unwrap();
                same += usize::from(*chosen == case.tokens[step]);
                all += 1;
                *chosen = case.tokens[step];
            }
            company.step(None);
        }
    }
    same as f64 / all as f64
}

// The small random checkpoints are far more sensitive than trained ones: `examples/parity.rs` gives
// the shares, and docs/performance.md those of a checkpoint of full size.

#[test]
fn weights_in_8_bits_choose_most_reference_tokens() {
    let share = agreement(WeightFormat::Q8_0);
    assert!(share > 0.75, "{share}");
}

#[test]
fn weights_in_4_bits_choose_far_more_reference_tokens_than_chance() {
    let share = agreement(WeightFormat::Q4K);
    assert!(share > 0.2, "{share}");
}

/// As after a failure of the model: prompt and generated tokens are prefilled together.
#[test]
fn a_sequence_that_is_prefilled_again_continues_with_the_reference_tokens() {
    for golden in Golden::all() {
        let (_, model) = open(&golden, WeightFormat::F32);
        let features = features_of(&golden, &model);
        let cases: Vec<(usize, &Case)> = golden.cases.iter().enumerate().collect();
        let shortest = cases
            .iter()
            .map(|(_, case)| case.tokens.len())
            .min()
            .unwrap();
        for generated in [1, 3, shortest / 2, shortest - 1] {
            let mut company = Company::new(&model, cases.len());
            // The first decodes already while the others come back, a layer at a time.
            company.join(&features, &cases[..1], ALL);
            company.rejoin(&features, &cases[1..], generated, ONE_LAYER);
            for (running, (_, case)) in company.finish(shortest).iter().zip(&cases) {
                let what = format!("{}, {generated} tokens generated before", golden.name());
                assert_tokens(case, &running.tokens[..shortest], &what);
            }
        }
    }
}
