use super::*;
use crate::models::config::{Family, TextConfig, VisionConfig};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// 4 patches an image.
fn config() -> ModelConfig {
    ModelConfig {
        vision: VisionConfig {
            image_size: 28,
            patch_size: 14,
            hidden_size: 8,
            intermediate_size: 16,
            layers: 2,
            heads: 2,
            layer_norm_eps: 1e-6,
        },
        text: TextConfig {
            family: Family::Gemma,
            vocab_size: 100,
            hidden_size: 8,
            intermediate_size: 32,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            query_pre_attn_scalar: 4.0,
            attention_softcap: None,
            final_softcap: None,
            windows: vec![None; 3],
            max_position_embeddings: 1024,
        },
    }
}

/// Of 5000 weights, of which the table has 800.
fn sizes(config: &ModelConfig) -> Sizes<'_> {
    Sizes {
        config,
        weights: 5000,
        adapters: 300,
        adapts: false,
        records: false,
        context: 20,
        batch_tokens: 10,
        image_cache: 1000,
    }
}

#[test]
fn bytes_are_those_that_a_hand_computes() {
    let config = config();
    let needs = |format| Needs::new(&sizes(&config), format);
    // 20 rows of 3 · 32 + 10 · 8 values are more than 10 patches of 3 · 16 + 10 · 8. A slot has 3 layers of
    // keys and values, 21 positions of 4 values, and 100 logits and products.
    let bf16 = Needs {
        weights: 5000 * 2,
        adapters: 300 * 2,
        work: GIB + (32 * MIB) * (4 + 2) + 20 * 176 * 2 + 1000,
        slot: 2 * 3 * 21 * 4 * 2 + 100 * (4 + 2),
    };
    assert_eq!(needs(WeightFormat::Bf16), bf16);
    // A weight of 2 · 32 · 8 numbers is unpacked to bf16.
    let q8_0 = Needs {
        weights: 5312,
        adapters: 300 * 4,
        work: GIB + (32 * MIB) * (4 + 4) + 20 * 176 * 4 + 512 * 2 + 1000,
        slot: 2 * 3 * 21 * 4 * 4 + 100 * (4 + 4),
    };
    assert_eq!(needs(WeightFormat::Q8_0), q8_0);
    // To f32; the table has 8 bits.
    let q4k = Needs {
        weights: 4200 * 144 / 256 + 800 * 34 / 32,
        work: q8_0.work - 512 * 2 + 512 * 4,
        ..q8_0
    };
    assert_eq!(needs(WeightFormat::Q4K), q4k);
    let f32 = Needs {
        weights: 5000 * 4,
        work: q8_0.work - 512 * 2,
        ..q8_0
    };
    assert_eq!(needs(WeightFormat::F32), f32);
}

#[test]
fn adapters_widen_the_rows_of_a_prefill() {
    let config = config();
    let plain = sizes(&config);
    let adapts = Sizes {
        adapts: true,
        ..plain
    };
    let work = |sizes| Needs::new(sizes, WeightFormat::Bf16).work;
    assert_eq!(work(&adapts) - work(&plain), 20 * 3 * 32 * 2);
}

#[test]
fn recorded_steps_have_logits_of_their_own() {
    let config = config();
    let plain = sizes(&config);
    let records = Sizes {
        records: true,
        ..plain
    };
    let slot = |sizes| Needs::new(sizes, WeightFormat::Bf16).slot;
    assert_eq!(slot(&records) - slot(&plain), 100 * 4);
}

/// Of a model with 4 Gi weights: 8 GiB in bf16, 4.25 in 8 bits and 2.25 in 4.
fn large(config: &ModelConfig) -> Sizes<'_> {
    Sizes {
        weights: 4 * GIB,
        ..sizes(config)
    }
}

/// Slots of 1 GiB each in bf16, and of 2 GiB in other formats.
fn large_slots(config: &mut ModelConfig) {
    config.text.vocab_size = 0;
    config.text.head_dim = (GIB / (2 * 3 * 21 * 2)) as usize;
}

fn refusal(free: u64, asked: Option<usize>, format: WeightFormat, runs: &[WeightFormat]) -> String {
    let mut config = config();
    large_slots(&mut config);
    let slots = large(&config).slots(free, asked, format, |it| runs.contains(&it));
    slots.unwrap_err().to_string()
}

#[test]
fn as_many_slots_as_fit_and_are_worth_it() {
    let mut config = config();
    large_slots(&mut config);
    let fit = |free, asked| large(&config).slots(free, asked, WeightFormat::Bf16, |_| true);
    assert_eq!(fit(80 * GIB, None), Ok(64));
    assert_eq!(fit(300 * GIB, Some(200)), Ok(200));
    assert_eq!(fit(18 * GIB, None), Ok(8));
    assert_eq!(fit(18 * GIB, Some(4)), Ok(4));
}

#[test]
fn a_refusal_says_what_is_needed_and_how_many_slots_fit() {
    let text = refusal(18 * GIB, Some(16), WeightFormat::Bf16, &FORMATS);
    for part in [
        "18.0 GiB are free",
        "needs 25.2 GiB",
        "8.0 GiB of weights as bf16",
        "600 B of adapters",
        "16 slots of 1024.0 MiB each",
        "each); 8 slots fit; with a smaller context",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // In 8 bits only 6 would.
    assert!(!text.contains("dtype"), "{text}");
    let text = refusal(10 * GIB + 300 * MIB, Some(2), WeightFormat::Bf16, &FORMATS);
    assert!(
        text.contains("; 1 slot fits; with dtype q8_0, 2 slots fit;"),
        "{text}"
    );
}

#[test]
fn a_refusal_names_the_first_smaller_format_that_fits_and_that_the_card_runs() {
    let of = |free, runs: &[WeightFormat]| refusal(free, None, WeightFormat::F32, runs);
    let old_card = [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4K];
    let text = of(12 * GIB, &FORMATS);
    assert!(
        text.contains("1 slot of 2.0 GiB); with dtype bf16, 2 slots fit; "),
        "{text}"
    );
    let text = of(12 * GIB, &old_card);
    assert!(text.contains("with dtype q8_0, 3 slots fit; "), "{text}");
    let text = of(6 * GIB, &FORMATS);
    assert!(text.contains("with dtype q4k, 1 slot fits; "), "{text}");
    let text = of(2 * GIB, &old_card);
    assert!(
        text.ends_with("; no smaller dtype fits: q4k needs 5.5 GiB with 1 slot; or use a smaller model, or device cpu"),
        "{text}"
    );
    let text = refusal(2 * GIB, None, WeightFormat::Q4K, &FORMATS);
    assert!(
        text.ends_with("GiB); use a smaller model, or device cpu"),
        "{text}"
    );
}

#[test]
fn a_refusal_names_the_settings_only_if_they_can_help() {
    let of = |free| refusal(free, Some(16), WeightFormat::Bf16, &[]);
    let hint = "with a smaller context, prefill_batch_tokens or image_cache, 16 slots can fit";
    // With 7 tokens instead of 20, a slot takes 8 of its 21 positions.
    assert!(of(18 * GIB).ends_with(hint));
    assert!(!of(15 * GIB).contains(hint));
}
