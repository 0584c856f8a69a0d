//! Sequences that run together on a model, as the engine runs them.

use candle_core::Tensor;
use paligemma_server::models::{
    AdapterId, Budget, DecodeRow, KvCache, Model, PaliGemma, Picture, Prefill, Prefix,
};
use paligemma_test_support::golden::{Case, Golden};

/// The reference's own rounding: what a value may differ by, relative to the largest beside it.
pub const TOLERANCE: f32 = 1e-3;
/// Where the reference's best two logits are closer than this, either may win.
const MARGIN: f32 = 1e-3;

/// A stage in one step, in several, and a layer at a time.
pub const ALL: Budget = Budget {
    token_layers: usize::MAX,
};
pub const SOME: Budget = Budget { token_layers: 200 };
pub const ONE_LAYER: Budget = Budget { token_layers: 1 };

pub fn encode(model: &PaliGemma, images: &[Vec<u8>]) -> Vec<Tensor> {
    let pictures: Vec<_> = images
        .iter()
        .map(|it| Picture::from(it.as_slice()))
        .collect();
    encode_all(model, &pictures)
}

pub fn encode_all(model: &PaliGemma, images: &[Picture<'_>]) -> Vec<Tensor> {
    let mut encode = model.begin_encode(images).unwrap();
    while !model.advance_encode(&mut encode, ALL).unwrap().done {}
    model.finish_encode(encode).unwrap()
}

pub fn features_of(golden: &Golden, model: &PaliGemma) -> Vec<Tensor> {
    let count = golden.cases.iter().map(|case| case.image).max().unwrap() + 1;
    let images: Vec<_> = (0..count).map(|image| golden.pixels(image)).collect();
    encode(model, &images)
}

pub fn relative_error(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0f32, |max, x| max.max(x.abs()));
    let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    difference.fold(0f32, f32::max) / largest
}

/// Sequences that run together, one cache slot each.
pub struct Company<'a> {
    model: &'a PaliGemma,
    cache: KvCache,
    pub running: Vec<Running>,
    /// The adapter of each slot.
    pub adapters: Vec<Option<AdapterId>>,
}

pub struct Running {
    pub slot: usize,
    pub length: usize,
    pub first_logits: Vec<f32>,
    pub tokens: Vec<u32>,
}

impl<'a> Company<'a> {
    pub fn new(model: &'a PaliGemma, slots: usize) -> Self {
        Self {
            model,
            cache: model.new_cache(slots, 400).unwrap(),
            running: Vec::new(),
            adapters: vec![None; slots],
        }
    }

    /// Begins the prefill of `cases`, with the first `generated` of their tokens.
    pub fn begin(
        &self,
        features: &[Tensor],
        cases: &[(usize, &Case)],
        generated: usize,
    ) -> Prefill {
        let prefixes: Vec<Prefix> = cases
            .iter()
            .map(|&(slot, case)| Prefix {
                slot,
                adapter: self.adapters[slot],
                features: &features[case.image],
                tokens: &case.prompt_ids,
                generated: &case.tokens[..generated],
            })
            .collect();
        self.model.begin_prefill(&prefixes).unwrap()
    }

    /// One step for everybody who decodes, and as much of a prefill as `budget` allows beside it.
    pub fn step(&mut self, prefill: Option<(&mut Prefill, Budget)>) -> (bool, Vec<Vec<f32>>) {
        let rows: Vec<DecodeRow> = self
            .running
            .iter()
            .map(|running| DecodeRow {
                slot: running.slot,
                position: running.length,
                token: *running.tokens.last().unwrap(),
                adapter: self.adapters[running.slot],
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
    pub fn join(&mut self, features: &[Tensor], cases: &[(usize, &Case)], budget: Budget) {
        self.rejoin(features, cases, 0, budget);
    }

    /// The same for sequences that have `generated` tokens already.
    pub fn rejoin(
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
    pub fn finish(mut self, count: usize) -> Vec<Running> {
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

pub fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
    best.unwrap() as u32
}

/// Asserts that tokens are the reference's, up to the first place where the reference itself hardly
/// preferred one.
pub fn assert_tokens(case: &Case, ours: &[u32], what: &str) {
    for (step, (&theirs, &ours)) in case.tokens.iter().zip(ours).enumerate() {
        if ours != theirs && case.margins[step] <= MARGIN {
            return;
        }
        assert_eq!(ours, theirs, "{what}, {:?}, step {step}", case.prompt);
    }
}
