//! Through the engine, the model still answers as the reference does, alone and in company.

use std::sync::Arc;

use candle_core::Device;
use paligemma_server::engine::{EngineHandle, EngineOptions, Generation, Request, State};
use paligemma_server::models::Pretrained;
use paligemma_server::models::WeightFormat;
use paligemma_server::pixels::Pixels;

use crate::engine::bench::{Answered, OPTIONS, answer, next, request, state_after};
use paligemma_test_support::golden::{Case, Golden};

/// Where the reference's best two logits are closer than this, either may win.
const MARGIN: f32 = 1e-3;

async fn start(golden: &Golden, image_cache_bytes: usize) -> (EngineHandle, Pretrained) {
    let checkpoint = Pretrained::open(&golden.folder).unwrap();
    let options = EngineOptions {
        slots: 4,
        queue: 100,
        context: 400,
        prefill_batch_tokens: 64,
        image_cache_bytes,
        ..OPTIONS
    };
    let folder = golden.folder.clone();
    let load = move || Pretrained::open(&folder)?.load(&Device::Cpu, WeightFormat::F32);
    let engine = EngineHandle::start(options, checkpoint.tokenizer.clone(), load);
    assert_eq!(state_after(&engine, State::Loading).await, State::Ready);
    (engine, checkpoint)
}

pub fn ask(golden: &Golden, checkpoint: &Pretrained, case: &Case) -> Request {
    let data = golden.pixels(case.image);
    let side = checkpoint.config.vision.image_size as u32;
    Request {
        adapter: None,
        image: Arc::new(Pixels {
            side,
            width: side,
            height: side,
            hash: *blake3::hash(&data).as_bytes(),
            data,
        }),
        logprobs: Some(0),
        ..request(&case.prompt, case.tokens.len())
    }
}

pub fn check(golden: &Golden, checkpoint: &Pretrained, case: &Case, answered: &Answered) {
    let tokenizer = &checkpoint.tokenizer;
    let sure = case.margins.iter().take_while(|&&margin| margin > MARGIN);
    let sure = &case.tokens[..sure.count()];
    let ends = sure.iter().position(|&id| tokenizer.is_eos(id));
    let sure = &sure[..ends.unwrap_or(sure.len())];
    let ids = answered.ids();
    let place = format!("{}: image {}, {:?}", golden.name(), case.image, case.prompt);
    assert!(ids.starts_with(sure), "{place}: {ids:?}, not {sure:?}");
    assert_eq!(
        ends.is_some(),
        ids.len() == sure.len() && ids.len() < case.tokens.len(),
        "{place}"
    );
    assert_eq!(answered.text, tokenizer.decode(&ids), "{place}");
    let usage = answered.summary().usage;
    assert_eq!(usage.prompt_tokens, case.prompt_ids.len(), "{place}");
}

#[tokio::test]
async fn every_case_matches_the_reference_alone_together_and_joining_others() {
    for (index, golden) in Golden::all().into_iter().enumerate() {
        // Every second checkpoint with images cached, the others with the vision tower in between.
        let (engine, checkpoint) = start(&golden, (index % 2) << 20).await;
        let submit = |case| engine.submit(ask(&golden, &checkpoint, case)).unwrap();
        for case in &golden.cases {
            check(&golden, &checkpoint, case, &answer(submit(case)).await);
        }
        let together: Vec<Generation> = golden.cases.iter().map(submit).collect();
        for (case, generation) in golden.cases.iter().zip(together) {
            check(&golden, &checkpoint, case, &answer(generation).await);
        }
        for case in &golden.cases {
            let mut others: Vec<Generation> = golden.cases[..3].iter().map(submit).collect();
            next(&mut others[0]).await;
            let joining = answer(submit(case)).await;
            check(&golden, &checkpoint, case, &joining);
            for (case, other) in golden.cases.iter().zip(others) {
                let answered = answer(other).await;
                assert!(answered.end.is_ok(), "{}: {:?}", case.prompt, answered.end);
            }
        }
    }
}
