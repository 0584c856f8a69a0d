//! What a GPU is, and which ones can run this binary.

use candle_core::Result;

use super::cuda;
#[cfg(any(feature = "cuda", test))]
use super::placement::dotted;

/// The oldest compute capability that CUDA 13 builds for, as `tools/gpu/build.sh` does by default.
#[cfg(any(feature = "cuda", test))]
const OLDEST: i32 = 75;

/// From this compute capability on, a binary that is built for one runs on no other.
#[cfg(any(feature = "cuda", test))]
const EXACT: i32 = 90;

/// A GPU, as its driver describes it.
#[derive(Debug, Clone)]
pub struct Card {
    pub name: String,
    /// The newest CUDA that the driver speaks, such as 13.0.
    pub driver: String,
    /// Such as 9.0.
    pub capability: String,
    /// Whether it computes in bf16.
    pub has_bf16: bool,
    /// The capability that this binary was built for. Newer cards run it, too, unless this is 9.0 or more.
    pub needs: String,
    pub free_bytes: usize,
    pub bytes: usize,
}

/// The GPU with this number.
///
/// # Errors
/// When it is not there, or this binary was built without CUDA.
pub fn card(gpu: usize) -> Result<Card> {
    cuda::card(gpu)
}

/// Why a card of compute capability `has`, such as 75, can't run a binary that was built for `built`, and
/// what to use instead; `None` if it can.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn refusal(has: i32, built: i32) -> Option<String> {
    let fits = match built >= EXACT {
        // candle's kernels are text for `sm_90a` then, and the like.
        true => has == built,
        false => has >= built,
    };
    if fits {
        return None;
    }
    let needs = match built >= EXACT {
        true => format!("runs on {} only", dotted(built)),
        false => format!("needs {} or newer", dotted(built)),
    };
    let instead = match has >= OLDEST {
        true => format!("a binary that was built with CUDA_COMPUTE_CAP={OLDEST}"),
        false => format!("a card of compute capability {} or newer", dotted(OLDEST)),
    };
    Some(format!(
        "its compute capability is {}, and this binary {needs}; use {instead}",
        dotted(has)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_runs_what_was_built_for_it_or_for_an_older_one() {
        for (has, built) in [
            (75, 75),
            (80, 75),
            (100, 75),
            (89, 86),
            (90, 90),
            (120, 120),
        ] {
            assert_eq!(refusal(has, built), None, "{has} with a binary for {built}");
        }
    }

    #[test]
    fn a_card_that_is_too_old_is_refused() {
        assert_eq!(
            refusal(70, 75).as_deref(),
            Some(
                "its compute capability is 7.0, and this binary needs 7.5 or newer; use a card of compute capability 7.5 or newer"
            )
        );
        assert_eq!(
            refusal(75, 80).as_deref(),
            Some(
                "its compute capability is 7.5, and this binary needs 8.0 or newer; use a binary that was built with CUDA_COMPUTE_CAP=75"
            )
        );
    }

    #[test]
    fn from_hopper_on_a_binary_runs_on_no_other_card() {
        for (has, built) in [(100, 90), (120, 90), (89, 90), (90, 100), (121, 120)] {
            assert!(refusal(has, built).is_some(), "{has} with one for {built}");
        }
        assert_eq!(
            refusal(100, 90).as_deref(),
            Some(
                "its compute capability is 10.0, and this binary runs on 9.0 only; use a binary that was built with CUDA_COMPUTE_CAP=75"
            )
        );
    }
}
