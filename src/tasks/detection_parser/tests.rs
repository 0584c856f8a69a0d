use proptest::prelude::*;

use super::*;
use crate::tasks::detection::LAST_BIN;

/// The whole answer at once.
fn parse(text: &str) -> Vec<Piece> {
    let mut parser = DetectionParser::new(false);
    let mut pieces = parser.push(text, &[]);
    pieces.extend(parser.finish());
    pieces
}

fn format(objects: &[Detection]) -> String {
    let pieces = objects.iter().map(|object| {
        let bins = object.bins.map(|bin| format!("<loc{bin:04}>")).concat();
        let codes = object.codes.iter().flatten();
        let codes: String = codes.map(|code| format!("<seg{code:03}>")).collect();
        format!("{bins}{codes} {}", object.label)
    });
    pieces.collect::<Vec<_>>().join(" ; ")
}

fn located(label: &str, bins: [u16; 4]) -> Detection {
    Detection {
        label: label.to_owned(),
        bins,
        codes: None,
        score: 1.0,
        logprob: 0.0,
    }
}

fn reasons(text: &str) -> Vec<Result<String, DropReason>> {
    let piece = |piece: Piece| {
        piece
            .map(|object| object.label)
            .map_err(|piece| piece.reason)
    };
    parse(text).into_iter().map(piece).collect()
}

#[test]
fn objects_are_separated_by_semicolons() {
    let text =
        "<loc0001><loc0002><loc0300><loc1023> black cat ; <loc0010><loc0020><loc0030><loc0040> dog";
    let expected = [
        located("black cat", [1, 2, 300, 1023]),
        located("dog", [10, 20, 30, 40]),
    ];
    assert_eq!(parse(text), expected.map(Ok));
}

#[test]
fn an_answer_without_labels_is_read() {
    let codes: String = (0..16).map(|code| format!("<seg{code:03}>")).collect();
    let one = format!("<loc0001><loc0002><loc0003><loc0004>{codes}");
    let pieces = parse(&format!("{one}{one}"));
    assert_eq!(pieces.len(), 2);
    for piece in pieces {
        let object = piece.unwrap();
        assert_eq!(object.label, "");
        assert_eq!(
            object.codes.unwrap(),
            std::array::from_fn(|code| code as u8)
        );
    }
}

#[test]
fn malformed_objects_are_dropped_with_a_reason_and_their_neighbours_kept() {
    let good = "<loc0001><loc0002><loc0003><loc0004> cat";
    for (bad, reason) in [
        ("no cat here", DropReason::NoBox),
        ("<seg001> cat", DropReason::NoBox),
        ("<loc0001><loc0002> cat", DropReason::IncompleteBox),
        (
            "<loc0005><loc0002><loc0005><loc0004> cat",
            DropReason::EmptyBox,
        ),
        (
            "<loc0001><loc0004><loc0005><loc0002> cat",
            DropReason::EmptyBox,
        ),
        (
            "<loc0001><loc0002><loc0003><loc0004><seg001> cat",
            DropReason::IncompleteMask,
        ),
    ] {
        let expected = [Ok("cat".to_owned()), Err(reason), Ok("cat".to_owned())];
        assert_eq!(
            reasons(&format!("{good} ; {bad} ; {good}")),
            expected,
            "{bad}"
        );
    }
}

#[test]
fn an_object_without_a_mask_is_dropped_when_masks_are_wanted() {
    let mut parser = DetectionParser::new(true);
    let text = "<loc0001><loc0002><loc0003><loc0004> cat";
    assert_eq!(parser.push(text, &[]), []);
    let dropped = Dropped {
        reason: DropReason::NoMask,
        text: text.to_owned(),
    };
    assert_eq!(parser.finish(), [Err(dropped)]);
}

#[test]
fn bins_and_codes_without_a_token_are_text() {
    assert_eq!(
        reasons("<loc1024><loc12><loc+001>"),
        [Err(DropReason::NoBox)]
    );
    assert_eq!(reasons(" ; ;; "), []);
}

#[test]
fn an_object_is_complete_when_the_next_one_begins() {
    let mut parser = DetectionParser::new(false);
    for token in [
        "<loc0001>",
        "<loc0002>",
        "<loc0003>",
        "<loc0004>",
        " black",
        " cat",
    ] {
        assert_eq!(parser.push(token, &[]), []);
    }
    assert_eq!(
        parser.push(" ;", &[]),
        [Ok(located("black cat", [1, 2, 3, 4]))]
    );
    assert_eq!(parser.finish(), []);
}

#[test]
fn the_score_is_that_of_the_box_times_that_of_the_label() {
    let token = |probability: f32, near: f32| TokenProbability {
        logprob: probability.ln(),
        near_logprob: near.ln(),
    };
    let mut parser = DetectionParser::new(false);
    for (bin, near) in [(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)] {
        parser.push(&format!("<loc{bin:04}>"), &[token(0.5, near)]);
    }
    parser.push(" black", &[token(0.25, 0.25)]);
    parser.push(" cat", &[token(0.64, 0.64)]);
    let [Ok(object)] = &parser.push(" ;", &[token(0.001, 0.001)])[..] else {
        panic!("one object");
    };
    let expected = (0.9_f32 * 0.8 * 0.7 * 0.6).powf(1.0 / 4.0) * (0.25_f32 * 0.64).sqrt();
    assert!((object.score - expected).abs() < 1e-6, "{}", object.score);
    let expected = (0.5_f32.powi(4) * 0.25 * 0.64).ln() / 6.0;
    assert!(
        (object.logprob - expected).abs() < 1e-6,
        "{}",
        object.logprob
    );
}

fn any_object() -> impl Strategy<Value = Detection> {
    let edges = || (0..LAST_BIN).prop_flat_map(|low| (Just(low), low + 1..=LAST_BIN));
    let codes = proptest::option::of(proptest::array::uniform16(0_u8..128));
    let label = "([\\PC&&[^;<]]{1,12})?";
    (edges(), edges(), codes, label).prop_map(|((y0, y1), (x0, x1), codes, label)| Detection {
        label: label.trim().to_owned(),
        bins: [y0, x0, y1, x1],
        codes,
        score: 1.0,
        logprob: 0.0,
    })
}

/// Text with many pieces of coordinates in it.
fn any_answer() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("<loc0007>".to_owned()),
        Just("<loc0900>".to_owned()),
        Just("<seg001>".to_owned()),
        Just(" ; ".to_owned()),
        Just("<lo".to_owned()),
        Just("c0001>".to_owned()),
        any::<String>(),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn formatted_objects_are_parsed_back(objects in proptest::collection::vec(any_object(), 0..6)) {
        let parsed: Result<Vec<_>, _> = parse(&format(&objects)).into_iter().collect();
        prop_assert_eq!(parsed, Ok(objects));
    }

    #[test]
    fn any_text_in_pieces_parses_as_the_whole_text_does(text in any_answer(), cuts in proptest::collection::vec(0_usize..400, 0..6)) {
        let whole = parse(&text);
        let mut cuts: Vec<_> = cuts.into_iter().filter(|&at| text.is_char_boundary(at)).collect();
        cuts.sort_unstable();
        let mut parser = DetectionParser::new(false);
        let (mut pieces, mut from) = (Vec::new(), 0);
        for at in cuts.into_iter().filter(|&at| at <= text.len()) {
            pieces.extend(parser.push(&text[from..at], &[]));
            from = at;
        }
        pieces.extend(parser.push(&text[from..], &[]));
        pieces.extend(parser.finish());
        prop_assert_eq!(pieces, whole);
    }
}
