//! Requests that are in the model together.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use paligemma_server::engine::{EngineOptions, Request};

use crate::engine::bench::{Bench, OPTIONS, answer, image, next, request};
use paligemma_test_support::toy_model::{PATIENCE, Work};

#[tokio::test]
async fn answers_of_mixed_length_join_and_leave_without_harming_each_other() {
    let bench = Bench::start(3, 100).await;
    let prompts: Vec<String> = (1..40)
        .map(|n| "word ".repeat(n % 7) + &n.to_string())
        .collect();
    let length = |n: usize| 1 + n * 5 % 23;
    let mut alone = HashMap::new();
    for (n, prompt) in prompts.iter().enumerate() {
        alone.insert(prompt, answer(bench.submit(prompt, length(n))).await.text);
    }
    let submit = |(n, prompt): (usize, &String)| bench.submit(prompt, length(n));
    let together: Vec<_> = prompts.iter().enumerate().map(submit).collect();
    for (prompt, generation) in prompts.iter().zip(together) {
        assert_eq!(&answer(generation).await.text, &alone[prompt]);
    }
    let texts: HashSet<&String> = alone.values().collect();
    assert_eq!(texts.len(), prompts.len(), "the toy tells prompts apart");
}

#[tokio::test]
async fn decoding_continues_between_the_layers_of_a_prefill() {
    let bench = Bench::start(2, 0).await;
    bench.control.hold();
    let first = bench.submit("first", 60);
    bench
        .control
        .run_until(|work| matches!(work, Work::Step { decode, .. } if decode == &[0]));
    let second = bench.submit("a second and rather longer prompt", 2);
    let mut encodes = 0;
    let mut prefills = 0;
    let mut decodes = 0;
    loop {
        bench.control.allow_one();
        match bench.control.next_work() {
            Work::Encode { .. } => encodes += 1,
            Work::Step { decode, prefill } => match (decode.len(), prefill.len()) {
                (1, 0) => decodes += 1,
                (1, 1) => prefills += 1,
                (2, 0) => break,
                other => panic!("{other:?}"),
            },
        }
    }
    // One step for each piece of the vision tower, and one token for each piece of the prefill.
    assert_eq!(decodes, encodes);
    assert!(prefills > 1, "the prefill was not cut");
    bench.control.open();
    assert_eq!(answer(first).await.summary().usage.completion_tokens, 60);
    assert_eq!(answer(second).await.summary().usage.completion_tokens, 2);
}

/// In how many steps this request, alone, went through the vision tower and through the decoder.
async fn steps(bench: &Bench, prompt: &str) -> (usize, usize) {
    answer(bench.submit(prompt, 3)).await.summary();
    let (mut encodes, mut prefills) = (0, 0);
    while let Some(work) = bench.control.work_done() {
        match work {
            Work::Encode { .. } => encodes += 1,
            Work::Step { prefill, .. } => prefills += usize::from(!prefill.is_empty()),
        }
    }
    (encodes, prefills)
}

#[tokio::test]
async fn once_a_layer_was_measured_a_step_runs_what_fits_into_the_gap() {
    let with_gap = |max_token_gap| {
        Bench::start_with(EngineOptions {
            max_token_gap,
            ..OPTIONS
        })
    };
    let bench = with_gap(Duration::from_secs(3600)).await;
    // The first layer of each stage is measured, and the others fit into one step.
    assert_eq!(steps(&bench, "first").await, (2, 2));
    assert_eq!(steps(&bench, "second").await, (1, 1));
    let bench = with_gap(Duration::ZERO).await;
    let one_by_one = steps(&bench, "first").await;
    assert!(one_by_one > (2, 2), "{one_by_one:?}");
    assert_eq!(steps(&bench, "second").await, one_by_one);
}

/// How many images went through the vision tower for these requests, sent together.
async fn encoded(bench: &Bench, requests: Vec<Request>) -> usize {
    let generations = bench.engine.submit_all(requests).unwrap();
    for generation in generations {
        answer(generation).await.summary();
    }
    // What the model was asked for: the largest number of images in one wave.
    let mut images = 0;
    while let Some(work) = bench.control.work_done() {
        if let Work::Encode { images: count } = work {
            images = images.max(count);
        }
    }
    images
}

async fn bench_with_cache(image_cache_bytes: usize) -> Bench {
    Bench::start_with(EngineOptions {
        slots: 4,
        queue: 0,
        prefill_batch_tokens: 4000,
        image_cache_bytes,
        ..OPTIONS
    })
    .await
}

fn about(colour: u8) -> Request {
    Request {
        image: image(colour),
        ..request("prompt", 2)
    }
}

#[tokio::test]
async fn simultaneous_requests_encode_a_new_image_once() {
    let bench = bench_with_cache(0).await;
    assert_eq!(encoded(&bench, vec![about(1), about(2), about(1)]).await, 2);
    assert_eq!(encoded(&bench, vec![about(1)]).await, 1, "nothing is kept");
}

#[tokio::test]
async fn a_cached_image_is_not_encoded_again_and_answers_the_same() {
    let bench = bench_with_cache(1 << 20).await;
    let first = answer(bench.engine.submit(about(1)).unwrap()).await;
    encoded(&bench, vec![]).await;
    assert_eq!(encoded(&bench, vec![about(1), about(1)]).await, 0);
    assert_eq!(encoded(&bench, vec![about(1), about(3)]).await, 1);
    let again = answer(bench.engine.submit(about(1)).unwrap()).await;
    assert_eq!(again.text, first.text);
    assert!(again.summary().timings.vision.is_zero());
    assert!(!first.summary().timings.vision.is_zero());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_at_any_point_harm_no_other_and_leave_nothing_behind() {
    let bench = Bench::start(3, 200).await;
    let mut alone = Vec::new();
    for n in 0..8 {
        let generation = bench.submit(&format!("prompt {n}"), 3 + n);
        alone.push(answer(generation).await.text);
    }
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..200 {
        let generation = bench.submit(&format!("prompt {}", n % 8), 3 + n % 8);
        let whole = alone[n % 8].clone();
        clients.spawn(async move {
            if n % 3 == 0 {
                assert_eq!(answer(generation).await.text, whole);
            } else {
                let mut generation = generation;
                let patience = Duration::from_micros(137 * n as u64);
                let _ = tokio::time::timeout(patience, next(&mut generation)).await;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    // Resolves only when every slot and the queue are empty.
    let shutdown = bench.engine.shutdown(Duration::from_secs(3600));
    tokio::time::timeout(PATIENCE, shutdown).await.unwrap();
}
