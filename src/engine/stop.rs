//! Stop strings, found across the borders of tokens.

/// Ends a text before the first stop string that is completed in it.
///
/// What is decided never depends on how the text was cut into pieces: text that could be the
/// beginning of a stop string is held back until more text decides.
#[derive(Debug)]
pub(super) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Adds a piece of text. Returns the text that is decided, and whether a stop string ended it.
    pub(super) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(start) = self.first_match() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let undecided = self.held.split_off(self.held.len() - self.undecided_len());
        (std::mem::replace(&mut self.held, undecided), false)
    }

    /// The text that was held back, once no more can follow.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the stop string begins that is completed first (of several: the longest).
    fn first_match(&self) -> Option<usize> {
        self.stops
            .iter()
            .filter_map(|stop| {
                self.held
                    .find(stop.as_str())
                    .map(|at| (at + stop.len(), at))
            })
            .min()
            .map(|(_end, start)| start)
    }

    /// Bytes at the end of `held` that may be the beginning of a stop string.
    fn undecided_len(&self) -> usize {
        self.stops
            .iter()
            .map(|stop| longest_overlap(self.held.as_bytes(), stop.as_bytes()))
            .max()
            .unwrap_or(0)
    }
}

/// The length of the longest end of `text` with which `stop` begins, shorter than `stop`.
fn longest_overlap(text: &[u8], stop: &[u8]) -> usize {
    (1..stop.len())
        .rev()
        .find(|&len| text.ends_with(&stop[..len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut finder = StopStrings::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut text = String::new();
        for piece in pieces {
            let (decided, stopped) = finder.push(piece);
            text.push_str(&decided);
            if stopped {
                return (text, true);
            }
        }
        text.push_str(&finder.finish());
        (text, false)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        assert_eq!(run(&["END"], &["a E", "N", "D b"]), ("a ".into(), true));
    }

    #[test]
    fn text_that_only_began_like_a_stop_string_is_released() {
        assert_eq!(run(&["END"], &["a E", "N", "d"]), ("a ENd".into(), false));
        assert_eq!(run(&["END"], &["a E", "N"]), ("a EN".into(), false));
    }

    #[test]
    fn text_is_held_back_no_longer_than_needed() {
        let mut finder = StopStrings::new(vec!["aab".into()]);
        assert_eq!(finder.push("xaa"), ("x".into(), false));
        assert_eq!(finder.push("a"), ("a".into(), false));
        assert_eq!(finder.push("b!"), (String::new(), true));
    }

    #[test]
    fn the_stop_string_that_is_completed_first_decides() {
        assert_eq!(run(&["abcd", "c"], &["xabcd"]), ("xab".into(), true));
        assert_eq!(run(&["abcd", "c"], &["xab", "cd"]), ("xab".into(), true));
        assert_eq!(run(&["c", "bc"], &["abc"]), ("a".into(), true));
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        assert_eq!(run(&["é!"], &["caf", "é", "?"]), ("café?".into(), false));
        assert_eq!(run(&["é!"], &["caf", "é", "!"]), ("caf".into(), true));
    }

    proptest! {
        #[test]
        fn how_the_text_is_cut_into_pieces_changes_nothing(
            pieces in prop::collection::vec("[abé]{0,3}", 0..12),
            stops in prop::collection::vec("[abé]{1,3}", 0..3),
        ) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let whole = pieces.concat();
            prop_assert_eq!(run(&stops, &pieces), run(&stops, &[&whole]));
        }
    }
}
