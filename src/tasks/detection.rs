//! Detections: the prompts of `detect` and `segment`, and what their answers consist of.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::Neighbours;
use crate::tokenizer::Tokenizer;

/// Bins run from 0 to this.
pub const LAST_BIN: u16 = 1023;
/// Codes of one mask, and how many values a code has.
pub const CODES: usize = 16;
pub(super) const CODE_VALUES: u16 = 128;
/// Bins that count as the same edge when it is told how sure the model is of it: 2 % of the image.
const NEAR_BINS: u32 = 20;

/// The prompt that asks where `objects` are, such as `detect cat ; dog`.
pub fn prompt(verb: &str, objects: &[String]) -> String {
    format!("{verb} {}", objects.join(" ; "))
}

/// The tokens of bins, as the engine has to know them to tell how sure the model is of an edge;
/// `None` if this vocabulary doesn't have all of them in order.
pub fn bins(tokenizer: &Tokenizer) -> Option<Neighbours> {
    let first = tokenizer.id("<loc0000>")?;
    let last = tokenizer.id(&format!("<loc{LAST_BIN:04}>"))?;
    (last.checked_sub(first) == Some(u32::from(LAST_BIN))).then_some(Neighbours {
        ids: first..last + 1,
        radius: NEAR_BINS,
    })
}

/// An object's name as it is written in a prompt: on one line, with single spaces.
///
/// # Errors
/// What is wrong with it, to be shown after the name.
pub fn name(object: &str) -> Result<String, &'static str> {
    // A newline would end the prompt.
    let name = object.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        return Err("is empty");
    }
    if name.contains(';') {
        return Err(
            "contains a `;`, which separates objects in the prompt; send each object by itself",
        );
    }
    Ok(name)
}

/// An object that the model detected.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Empty when the model gave none.
    pub label: String,
    /// Bins of the upper, left, lower and right edge, as the model orders them.
    pub bins: [u16; 4],
    /// The codes of its mask, when it has one.
    pub codes: Option<[u8; CODES]>,
    /// How sure the model is, from 0 to 1: the geometric mean of its edges' probabilities times that
    /// of its label's tokens. An edge's probability is that of its bin and of those near it.
    pub score: f32,
    /// Mean log-probability of its box's and label's tokens; of none, 0.
    pub logprob: f32,
}

/// A piece of an answer that is no object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dropped {
    pub reason: DropReason,
    /// The piece, as the model wrote it.
    #[schema(example = "<loc0100><loc0200> cat")]
    pub text: String,
}

/// What is wrong with a piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Text or mask codes without a box.
    NoBox,
    /// Fewer than four bins.
    IncompleteBox,
    /// The lower edge is not below the upper one, or the right one not right of the left one.
    EmptyBox,
    /// A mask of more or fewer than 16 codes.
    IncompleteMask,
    /// A box without a mask, where masks were asked for.
    NoMask,
}
