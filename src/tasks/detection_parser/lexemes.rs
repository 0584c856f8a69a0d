//! The smallest parts of the output of `detect` and `segment`.

use crate::tasks::detection::{CODE_VALUES, LAST_BIN};

/// A smallest part of the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lexeme<'a> {
    Bin(u16),
    Code(u8),
    Separator,
    Text(&'a str),
}

/// Iterates over the lexemes of a text, and how each is written.
pub struct Lexemes<'a>(pub &'a str);

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
pub fn held_back(text: &str) -> usize {
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
