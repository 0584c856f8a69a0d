//! Logits, the likeliest tokens, and their log-probabilities.

use candle_core::{D, DType, Device, Result, Tensor};

use super::super::{likeliest, logits};
use super::{DTYPES, assert_close, noise, wide};
use crate::token::{self, Likeliest, Neighbours, Report};

#[test]
fn logits_are_cut_and_squashed() -> Result<()> {
    for dtype in DTYPES {
        for table in [40, 41] {
            let y = noise(&[3, table], 1, dtype);
            let right = wide(&y).narrow(1, 0, 37)?;
            assert_close("as they are", &logits(&y, 37, None)?, &right);
            let squashed = ((right / 0.7)?.tanh()? * 0.7)?;
            assert_close("squashed", &logits(&y, 37, Some(0.7))?, &squashed);
        }
    }
    Ok(())
}

#[test]
fn the_likeliest_token_and_its_report() -> Result<()> {
    const VOCAB: usize = 5000;
    let mut rows: Vec<Vec<f32>> = (0..4)
        .map(|row| noise(&[VOCAB], row, DType::F32).to_vec1().unwrap())
        .collect();
    // Equal ones, in the same part and in another: the lowest id counts.
    rows[1][4000] = 3.0;
    rows[1][1234] = 3.0;
    rows[1][1230] = 3.0;
    rows[2][77] = f32::NAN;
    rows[3][4999] = f32::INFINITY;
    let report = Report {
        top: 3,
        neighbours: Some(Neighbours {
            ids: 1000..1235,
            radius: 5,
        }),
        temperature: 1.5,
    };
    let all = Tensor::from_vec(rows.concat(), (4, VOCAB), &Device::Cpu)?;
    let reports = [
        Some(report.clone()),
        Some(report.clone()),
        Some(report.clone()),
        None,
    ];
    let found = likeliest(&all, &reports)?;
    let finite: Vec<bool> = found.iter().map(|row| row.finite).collect();
    assert_eq!(finite, [true, true, false, false]);
    assert_eq!(found[0].id, all.argmax(D::Minus1)?.to_vec1::<u32>()?[0]);
    assert_eq!(found[1].id, 1230);
    assert!(found[2].logprobs.is_none());
    for row in 0..2 {
        let right = token::logprobs(&rows[row], found[row].id, &report);
        let ours = found[row].logprobs.clone().expect("a report was asked for");
        assert!(
            (ours.chosen - right.chosen).abs() < 1e-5,
            "{ours:?}, {right:?}"
        );
        assert!((ours.near - right.near).abs() < 1e-5, "{ours:?}, {right:?}");
        let total = token::total(&rows[row], report.temperature);
        assert!((found[row].total - total).abs() < 1e-5, "{total}");
        assert_eq!(ours.top.len(), 3);
        for ((id, logprob), (right_id, right)) in ours.top.iter().zip(&right.top) {
            assert_eq!(id, right_id);
            assert!((logprob - right).abs() < 1e-5);
        }
    }
    Ok(())
}

/// What PaliGemma's second generation has.
const WHOLE_VOCAB: usize = 257_153;

/// Logits f32 `[vocab]` of which many are equal, also to the highest one.
fn with_ties(vocab: usize, seed: usize) -> Vec<f32> {
    let values = noise(&[vocab], seed, DType::F32).to_vec1::<f32>().unwrap();
    values.iter().map(|x| (x * 50.0).round() / 5.0).collect()
}

/// Compares with a stable sort, and with log-probabilities in f64.
#[track_caller]
fn assert_likeliest(what: &str, logits: &[f32], ours: &Likeliest, top: usize) {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |id: u32| logits[id as usize];
    // Zeros are equal, with a sign or without.
    ids.sort_by(|&a, &b| logit(b).partial_cmp(&logit(a)).unwrap());
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    let right = |id: u32| f64::from(logit(id)) - sum.ln();

    assert_eq!((ours.id, ours.finite), (ids[0], true), "{what}");
    // At temperature 1 the sum is that of which the chosen one is a part.
    let total = f64::from(ours.total);
    assert!((total + right(ids[0])).abs() < 1e-5, "{what}: {total}");
    let logprobs = ours.logprobs.as_ref().expect("a report was asked for");
    let (chosen, near) = (f64::from(logprobs.chosen), f64::from(logprobs.near));
    assert!((chosen - right(ids[0])).abs() < 1e-5, "{what}: {chosen}");
    assert!((near - right(ids[0])).abs() < 1e-5, "{what}: {near}");
    ids.truncate(top);
    let found: Vec<u32> = logprobs.top.iter().map(|&(id, _)| id).collect();
    let wrong = found
        .iter()
        .zip(&ids)
        .position(|(ours, right)| ours != right);
    assert_eq!((found.len(), wrong), (ids.len(), None), "{what}");
    for &(id, logprob) in &logprobs.top {
        assert!(
            (f64::from(logprob) - right(id)).abs() < 1e-5,
            "{what}: token {id}"
        );
    }
}

#[test]
fn the_lowest_of_equal_tokens_comes_first() -> Result<()> {
    // Fewer tokens than parts, a last part that has one, and all there are.
    for (vocab, tops) in [
        (1, [0, 1, 64]),
        (20, [0, 5, 64]),
        (33, [1, 20, 256]),
        (1000, [2, 40, 64]),
        (WHOLE_VOCAB, [1, 64, 256]),
    ] {
        let rows = tops.map(|top| with_ties(vocab, top));
        let reports = tops.map(|top| {
            Some(Report {
                top,
                ..Report::default()
            })
        });
        let all = Tensor::from_vec(rows.concat(), (rows.len(), vocab), &Device::Cpu)?;
        let found = likeliest(&all, &reports)?;
        for ((row, found), top) in rows.iter().zip(&found).zip(tops) {
            assert_likeliest(&format!("{vocab} tokens, top {top}"), row, found, top);
        }
    }
    Ok(())
}

#[test]
fn of_two_equal_tokens_the_lower_one_is_chosen() -> Result<()> {
    // In one part, on both sides of where one begins, and as far from each other as can be.
    let part = WHOLE_VOCAB.div_ceil(32);
    let last = WHOLE_VOCAB - 1;
    let pairs = [(5, 1030), (part - 1, part), (0, last), (3 * part, last)];
    let row = |(low, high): (usize, usize)| {
        let mut row = noise(&[WHOLE_VOCAB], low, DType::F32).to_vec1::<f32>()?;
        row[low] = 2.0;
        row[high] = 2.0;
        Ok(row)
    };
    let rows = pairs.map(row).into_iter().collect::<Result<Vec<_>>>()?;
    let all = Tensor::from_vec(rows.concat(), (pairs.len(), WHOLE_VOCAB), &Device::Cpu)?;
    let found = likeliest(&all, &[None, None, None, None])?;
    let ids: Vec<u32> = found.iter().map(|found| found.id).collect();
    assert_eq!(ids, pairs.map(|(low, _)| low as u32));
    assert_eq!(ids, all.argmax(D::Minus1)?.to_vec1::<u32>()?);
    Ok(())
}
