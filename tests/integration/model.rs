//! The model answers as Hugging Face transformers does on the same checkpoints, alone and in any
//! company.

use candle_core::{Device, Tensor};
use paligemma_server::models::Pretrained;
use paligemma_server::models::{
    Budget, DecodeRow, KvCache, Model, PaliGemma, Prefill, Prefix, WeightFormat,
};
use paligemma_test_support::golden::{Case, Golden};

/// The reference's own rounding: what a value may differ by, relative to the largest beside it.
const TOLERANCE: f32 = 1e-3;
/// Where the reference's best two logits are closer than this, either may win.
const MARGIN: f32 = 1e-3;

/// A stage in one step, in several, and a layer at a time.
const ALL: Budget = Budget {
    token_layers: usize::MAX,
};
const SOME: Budget = Budget { token_layers: 200 };
const ONE_LAYER: Budget = Budget { token_layers: 1 };

fn open(golden: &Golden, format: WeightFormat) -> (Pretrained, PaliGemma) {
    let checkpoint = Pretrained::open(&golden.folder).unwrap();
    let model = checkpoint.load(&Device::Cpu, format).unwrap();
    (checkpoint, model)
}

fn encode(model: &PaliGemma, images: &[Vec<u8>]) -> Vec<Tensor> {
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let mut encode = model.begin_encode(&images).unwrap();
    while !model.advance_encode(&mut encode, ALL).unwrap().done {}
    model.finish_encode(encode).unwrap()
}

fn features_of(golden: &Golden, model: &PaliGemma) -> Vec<Tensor> {
    let count = golden.cases.iter().map(|case| case.image).max().unwrap() + 1;
    let images: Vec<_> = (0..count).map(|image| golden.pixels(image)).collect();
    encode(model, &images)
}

fn relative_error(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0f32, |max, x| max.max(x.abs()));
    let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    difference.fold(0f32, f32::max) / largest
}

/// Sequences that run together, one cache slot each.
struct Company<'a> {
    model: &'a PaliGemma,
    cache: KvCache,
    running: Vec<Running>,
}

struct Running {
    slot: usize,
    length: usize,
    first_logits: Vec<f32>,
    tokens: Vec<u32>,
}

impl<'a> Company<'a> {
    fn new(model: &'a PaliGemma, slots: usize) -> Self {
        Self {
            model,
            cache: model.new_cache(slots, 400).unwrap(),
            running: Vec::new(),
        }
    }

    /// Begins the prefill of `cases`, with the first `generated` of their tokens.
    fn begin(&self, features: &[Tensor], cases: &[(usize, &Case)], generated: usize) -> Prefill {
        let prefixes: Vec<Prefix> = cases
            .iter()
            .map(|&(slot, case)| Prefix {
                slot,
                features: &features[case.image],
                tokens: &case.prompt_ids,
                generated: &case.tokens[..generated],
            })
            .collect();
        self.model.begin_prefill(&prefixes).unwrap()
    }

    /// One step for everybody who decodes, and as much of a prefill as `budget` allows beside it.
    fn step(&mut self, prefill: Option<(&mut Prefill, Budget)>) -> (bool, Vec<Vec<f32>>) {
        let rows: Vec<DecodeRow> = self
            .running
            .iter()
            .map(|running| DecodeRow {
                slot: running.slot,
                position: running.length,
                token: *running.tokens.last().unwrap(),
            })
            .collect();
        let output = self.model.step(&mut self.cache, prefill, &rows).unwrap();
        let mut logits: Vec<Vec<f32>> = output
            .logits
            .map_or_else(Vec::new, |logits| logits.to_vec2().unwrap());
        let rest = logits.split_off(self.running.len());
        for (running, logits) in self.running.iter_mut().zip(&logits) {
            running.tokens.push(argmax(logits));
            running.length += 1;
        }
        let done = output.prefill.is_some_and(|progress| progress.done);
        (done, rest)
    }

    /// Prefills `cases` in the given slots, as `budget` allows, while the others decode.
    fn join(&mut self, features: &[Tensor], cases: &[(usize, &Case)], budget: Budget) {
        self.rejoin(features, cases, 0, budget);
    }

    /// The same for sequences that have `generated` tokens already.
    fn rejoin(
        &mut self,
        features: &[Tensor],
        cases: &[(usize, &Case)],
        generated: usize,
        budget: Budget,
    ) {
        let mut prefill = self.begin(features, cases, generated);
        loop {
            let (done, logits) = self.step(Some((&mut prefill, budget)));
            if !done {
                continue;
            }
            for (&(slot, case), logits) in cases.iter().zip(logits) {
                self.running.push(Running {
                    slot,
                    length: self.model.image_tokens() + case.prompt_ids.len() + generated,
                    tokens: [&case.tokens[..generated], &[argmax(&logits)]].concat(),
                    first_logits: logits,
                });
            }
            return;
        }
    }

    /// Decodes until everyone has `count` tokens, and gives them in the order of slots.
    fn finish(mut self, count: usize) -> Vec<Running> {
        while self
            .running
            .iter()
            .any(|running| running.tokens.len() < count)
        {
            self.step(None);
        }
        self.running.sort_by_key(|running| running.slot);
        self.running
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
    best.unwrap() as u32
}

/// Asserts that tokens are the reference's, up to the first place where the reference itself hardly
/// preferred one.
fn assert_tokens(case: &Case, ours: &[u32], what: &str) {
    for (step, (&theirs, &ours)) in case.tokens.iter().zip(ours).enumerate() {
        if ours != theirs && case.margins[step] <= MARGIN {
            return;
        }
        assert_eq!(ours, theirs, "{what}, {:?}, step {step}", case.prompt);
    }
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
