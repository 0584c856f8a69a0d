//! Parses the model's output for `detect` and `segment`.
//!
//! The model writes `<locY0><locX0><locY1><locX1> label ; …`, where a bin is a 1023rd of the height
//! or width, and 16 `<seg>` codes of a mask before the label when it segments. Some fine-tunes leave
//! out the label. Models also write too few bins, empty boxes, and words around them: what is well
//! formed is kept, and the rest is reported in `dropped`.

use std::mem;

use super::detection::{CODE_VALUES, CODES, Detection, DropReason, Dropped, LAST_BIN};

/// A finished piece of the output.
pub type Piece = Result<Detection, Dropped>;

/// Parses the output while it is being written.
#[derive(Debug)]
pub struct DetectionParser {
    /// Whether an object has to have a mask.
    masks: bool,
    /// The beginning of a coordinate whose end has not come yet.
    held: String,
    /// Log-probabilities of tokens whose text has not come yet.
    pending: Vec<f32>,
    draft: Draft,
}

/// A piece whose end has not come yet.
#[derive(Debug, Default)]
struct Draft {
    text: String,
    bins: Vec<u16>,
    codes: Vec<u8>,
    label: String,
    logprobs: Vec<f32>,
}

/// The smallest parts of the output.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lexeme<'a> {
    Bin(u16),
    Code(u8),
    Separator,
    Text(&'a str),
}

impl DetectionParser {
    /// For the output of `detect`, or with `masks` of `segment`.
    pub fn new(masks: bool) -> Self {
        Self {
            masks,
            held: String::new(),
            pending: Vec::new(),
            draft: Draft::default(),
        }
    }

    /// Takes the next text and the log-probabilities of its tokens; returns the pieces that it
    /// completes.
    pub fn push(&mut self, text: &str, logprobs: &[f32]) -> Vec<Piece> {
        let mut text = mem::take(&mut self.held) + text;
        self.held = text.split_off(text.len() - held_back(&text));
        self.pending.extend_from_slice(logprobs);
        self.read(&text)
    }

    /// Ends the output; returns the pieces that this completes.
    pub fn finish(&mut self) -> Vec<Piece> {
        let held = mem::take(&mut self.held);
        let mut pieces = self.read(&held);
        pieces.extend(mem::take(&mut self.draft).close(self.masks));
        pieces
    }

    fn read(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (lexeme, written) in Lexemes(text) {
            if self.draft.ends_before(lexeme) {
                pieces.extend(mem::take(&mut self.draft).close(self.masks));
            }
            // Codes and separators do not count in the score.
            let counts = match lexeme {
                Lexeme::Bin(_) => true,
                Lexeme::Text(text) => !text.trim().is_empty(),
                Lexeme::Code(_) | Lexeme::Separator => false,
            };
            if counts {
                self.draft.logprobs.append(&mut self.pending);
            }
            self.draft.add(lexeme, written);
        }
        if !text.is_empty() {
            self.pending.clear();
        }
        pieces
    }
}

impl Draft {
    fn has_label(&self) -> bool {
        !self.label.trim().is_empty()
    }

    /// Whether this lexeme belongs to the next piece.
    fn ends_before(&self, lexeme: Lexeme) -> bool {
        match lexeme {
            Lexeme::Separator => true,
            Lexeme::Bin(_) => self.bins.len() == 4 || !self.codes.is_empty() || self.has_label(),
            Lexeme::Code(_) => self.codes.len() == CODES || self.has_label(),
            Lexeme::Text(_) => false,
        }
    }

    fn add(&mut self, lexeme: Lexeme, written: &str) {
        match lexeme {
            Lexeme::Separator => return,
            Lexeme::Bin(bin) => self.bins.push(bin),
            Lexeme::Code(code) => self.codes.push(code),
            Lexeme::Text(text) => self.label.push_str(text),
        }
        self.text.push_str(written);
    }

    /// The finished piece; `None` if it is blank.
    fn close(self, masks: bool) -> Option<Piece> {
        let text = self.text.trim();
        if text.is_empty() {
            return None;
        }
        let dropped = |reason| {
            let text = text.to_owned();
            Some(Err(Dropped { reason, text }))
        };
        let Ok(bins @ [y0, x0, y1, x1]) = <[u16; 4]>::try_from(self.bins.as_slice()) else {
            return dropped(match self.bins.is_empty() {
                true => DropReason::NoBox,
                false => DropReason::IncompleteBox,
            });
        };
        if y1 <= y0 || x1 <= x0 {
            return dropped(DropReason::EmptyBox);
        }
        let codes = match self.codes.len() {
            0 if masks => return dropped(DropReason::NoMask),
            0 => None,
            CODES => self.codes.try_into().ok(),
            _ => return dropped(DropReason::IncompleteMask),
        };
        let mean = self.logprobs.iter().sum::<f32>() / self.logprobs.len().max(1) as f32;
        Some(Ok(Detection {
            label: self.label.trim().to_owned(),
            bins,
            codes,
            score: mean.exp(),
        }))
    }
}

/// Iterates over the lexemes of a text, and how each is written.
struct Lexemes<'a>(&'a str);

impl<'a> Iterator for Lexemes<'a> {
    type Item = (Lexeme<'a>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0;
        let first = text.chars().next()?;
        let (lexeme, length) = match (coordinate(text), first) {
            (Some(found), _) => found,
            (None, ';') => (Lexeme::Separator, 1),
            (None, _) => {
                let rest = &text[first.len_utf8()..];
                let length = first.len_utf8() + rest.find(['<', ';']).unwrap_or(rest.len());
                (Lexeme::Text(&text[..length]), length)
            }
        };
        self.0 = &text[length..];
        Some((lexeme, &text[..length]))
    }
}

/// The coordinate that `text` begins with, and its length in bytes.
fn coordinate(text: &str) -> Option<(Lexeme<'static>, usize)> {
    let number = |start: &str, digits: usize, values: u16| {
        let number = text
            .strip_prefix(start)?
            .get(..=digits)?
            .strip_suffix('>')?;
        let number: u16 = match number.bytes().all(|byte| byte.is_ascii_digit()) {
            true => number.parse().ok()?,
            false => return None,
        };
        (number < values).then_some(number)
    };
    if let Some(bin) = number("<loc", 4, LAST_BIN + 1) {
        return Some((Lexeme::Bin(bin), "<loc0000>".len()));
    }
    let code = number("<seg", 3, CODE_VALUES)?;
    Some((Lexeme::Code(code as u8), "<seg000>".len()))
}

/// How many bytes at the end of `text` may be the beginning of a coordinate.
fn held_back(text: &str) -> usize {
    let Some(start) = text.rfind('<') else {
        return 0;
    };
    let tail = &text[start..];
    let begins = |name: &str, digits: usize| {
        let shared = tail.len().min(name.len());
        tail.as_bytes()[..shared] == name.as_bytes()[..shared]
            && tail.len() <= name.len() + digits
            && tail.bytes().skip(shared).all(|byte| byte.is_ascii_digit())
    };
    match begins("<loc", 4) || begins("<seg", 3) {
        true => tail.len(),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn several_objects_stand_between_semicolons() {
        let text = "<loc0001><loc0002><loc0300><loc1023> black cat ; <loc0010><loc0020><loc0030><loc0040> dog";
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
    fn what_is_malformed_is_dropped_with_its_reason_and_its_neighbours_stay() {
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
    fn an_object_without_a_mask_is_dropped_where_masks_are_asked_for() {
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
    fn bins_and_codes_that_no_token_has_are_text() {
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
    fn the_score_is_the_geometric_mean_over_box_and_label() {
        let mut parser = DetectionParser::new(false);
        for bin in ["<loc0001>", "<loc0002>", "<loc0003>", "<loc0004>"] {
            parser.push(bin, &[0.5_f32.ln()]);
        }
        parser.push(" cat", &[0.25_f32.ln()]);
        let [Ok(object)] = &parser.push(" ;", &[0.001_f32.ln()])[..] else {
            panic!("one object");
        };
        let expected = (0.5_f32.powi(4) * 0.25).powf(1.0 / 5.0);
        assert!((object.score - expected).abs() < 1e-6, "{}", object.score);
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
        fn what_is_formatted_is_parsed_back(objects in proptest::collection::vec(any_object(), 0..6)) {
            let parsed: Result<Vec<_>, _> = parse(&format(&objects)).into_iter().collect();
            prop_assert_eq!(parsed, Ok(objects));
        }

        #[test]
        fn any_text_in_any_pieces_gives_what_it_gives_whole(text in any_answer(), cuts in proptest::collection::vec(0_usize..400, 0..6)) {
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
}
