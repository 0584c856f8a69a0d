//! What is streamed, and where it ends.

use paligemma_server::engine::{FinishReason, Request, Sampling};

use crate::engine::bench::{Bench, answer, request};

#[tokio::test]
async fn an_answer_is_streamed_and_ends_at_eos_which_is_not_counted() {
    let bench = Bench::start(1, 0).await;
    let mut tokens = bench.ids("a cat on a beach");
    let generated = tokens.len();
    tokens.push(bench.eos());
    bench.script("prompt", &tokens);
    let answered = answer(bench.submit("prompt", 50)).await;
    assert_eq!(answered.text, bench.tokenizer.decode(&tokens));
    assert!(answered.pieces.len() > 1, "{:?}", answered.pieces);
    let summary = answered.summary();
    assert_eq!(summary.finish_reason, FinishReason::Stop);
    assert_eq!(summary.usage.completion_tokens, generated);
    assert_eq!(summary.usage.prompt_tokens, bench.prompt("prompt").len());
    let timings = summary.timings;
    let parts = timings.queue + timings.vision + timings.prefill + timings.decode;
    assert!(
        parts <= timings.total && !timings.vision.is_zero(),
        "{timings:?}"
    );
}

#[tokio::test]
async fn an_answer_may_be_empty() {
    let bench = Bench::start(1, 0).await;
    bench.script("prompt", &[bench.eos()]);
    let answered = answer(bench.submit("prompt", 50)).await;
    assert_eq!(answered.pieces, Vec::<String>::new());
    assert_eq!(answered.summary().usage.completion_tokens, 0);
    assert_eq!(answered.summary().finish_reason, FinishReason::Stop);
}

#[tokio::test]
async fn an_answer_ends_after_max_tokens() {
    let bench = Bench::start(1, 0).await;
    let tokens = bench.ids("a cat on a beach");
    bench.script("prompt", &tokens);
    let answered = answer(bench.submit("prompt", 2)).await;
    assert_eq!(answered.text, bench.tokenizer.decode(&tokens[..2]));
    assert_eq!(answered.summary().finish_reason, FinishReason::Length);
}

#[tokio::test]
async fn a_character_of_several_byte_tokens_is_never_broken() {
    let bench = Bench::start(1, 0).await;
    let tokens: Vec<u32> = bench.ids("one ☃ two ☃☃");
    let bytes = tokens.iter().filter(|&&id| bench.tokenizer.is_byte(id));
    assert_eq!(bytes.count(), 9, "the snowman is no token of its own");
    bench.script("prompt", &tokens);
    let answered = answer(bench.submit("prompt", tokens.len())).await;
    assert_eq!(answered.text, bench.tokenizer.decode(&tokens));
    assert!(
        answered
            .pieces
            .iter()
            .all(|piece| !piece.contains('\u{fffd}'))
    );
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_before_it() {
    let bench = Bench::start(1, 1).await;
    let tokens = bench.ids("a cat on a beach");
    bench.script("prompt", &tokens);
    let whole = bench.tokenizer.decode(&tokens);
    let stop = &whole[whole.len() - 6..whole.len() - 2];
    let stopped = |stop: &str| Request {
        stop: vec![stop.to_owned(), "never said".to_owned()],
        ..request("prompt", tokens.len())
    };
    let answered = answer(bench.engine.submit(stopped(stop)).unwrap()).await;
    assert_eq!(answered.text, whole[..whole.len() - 6]);
    assert_eq!(answered.summary().finish_reason, FinishReason::Stop);
    let not_quite = format!("{}!", &whole[whole.len() - 2..]);
    let answered = answer(bench.engine.submit(stopped(&not_quite)).unwrap()).await;
    assert_eq!(answered.text, whole);
    assert_eq!(answered.summary().finish_reason, FinishReason::Length);
}

#[tokio::test]
async fn logprobs_come_for_every_token_with_the_likeliest_ones() {
    let bench = Bench::start(1, 0).await;
    let tokens = bench.ids("a cat on a beach");
    bench.script("prompt", &tokens);
    let request = Request {
        logprobs: Some(2),
        ..request("prompt", tokens.len())
    };
    let answered = answer(bench.engine.submit(request).unwrap()).await;
    assert_eq!(answered.ids(), tokens);
    for token in &answered.tokens {
        assert_eq!(token.text, bench.tokenizer.decode(&[token.id]));
        assert_eq!(token.top.len(), 2);
        assert_eq!(
            (token.top[0].id, token.top[0].logprob),
            (token.id, token.logprob)
        );
        assert!(token.logprob < 0.0 && token.top[1].logprob < token.logprob);
    }
}

fn sampled(prompt: &str, seed: u64) -> Request {
    Request {
        sampling: Sampling {
            temperature: 3.0,
            top_k: Some(100),
            top_p: None,
            seed: Some(seed),
        },
        logprobs: Some(0),
        ..request(prompt, 12)
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text_in_any_batch() {
    let bench = Bench::start(4, 4).await;
    let submit = |request: Request| bench.engine.submit(request).unwrap();
    let alone = answer(submit(sampled("prompt", 7))).await;
    let company = [
        sampled("x", 1),
        sampled("prompt", 7),
        sampled("y", 7),
        request("z", 3),
    ];
    let mut company = bench.engine.submit_all(company.to_vec()).unwrap();
    let among_others = answer(company.remove(1)).await;
    assert_eq!(among_others.ids(), alone.ids());
    assert_eq!(among_others.text, alone.text);
    let other_seed = answer(submit(sampled("prompt", 8))).await;
    assert_ne!(other_seed.ids(), alone.ids());
}

#[tokio::test]
async fn without_a_seed_each_answer_is_a_new_draw() {
    let bench = Bench::start(2, 0).await;
    let mut request = sampled("prompt", 0);
    request.sampling.seed = None;
    let mut both = bench.engine.submit_all(vec![request; 2]).unwrap();
    let (one, two) = (answer(both.remove(0)).await, answer(both.remove(0)).await);
    assert_ne!(one.ids(), two.ids());
}
