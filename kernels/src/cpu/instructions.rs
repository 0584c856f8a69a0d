//! Which instructions the processor has, and which of them are used.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use thiserror::Error;

use super::self_check;

/// A set of instructions that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    Portable,
    Avx2,
    AvxVnni,
    Avx512Vnni,
    Amx,
}

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionsChoice {
    /// The quickest that the processor has.
    Auto,
    Instructions(Instructions),
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnusableInstructions {
    #[error(
        "cpu_instructions {0:?} is not known; it is auto, amx, avx512-vnni, avx-vnni, avx2 or portable"
    )]
    Unknown(String),
    #[error("cpu_instructions {asked} can't be used: this processor has {}", has.join(", "))]
    Missing {
        asked: Instructions,
        has: Vec<String>,
    },
    #[error("cpu_instructions {0} can't be used: they compute wrong results on this processor")]
    Wrong(Instructions),
}

static CHOSEN: OnceLock<Instructions> = OnceLock::new();

impl Instructions {
    /// Every set with its name, the quickest first.
    const NAMES: [(Self, &str); 5] = [
        (Self::Amx, "amx"),
        (Self::Avx512Vnni, "avx512-vnni"),
        (Self::AvxVnni, "avx-vnni"),
        (Self::Avx2, "avx2"),
        (Self::Portable, "portable"),
    ];

    /// The sets that this processor has, the quickest first; never empty.
    pub fn supported() -> impl Iterator<Item = Self> {
        let sets = Self::NAMES.into_iter().map(|(set, _)| set);
        sets.filter(|set| set.is_supported())
    }

    /// Whether this processor has them.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2,
                Self::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
                Self::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
                Self::Amx => Self::Avx512Vnni.is_supported() && super::amx::is_usable(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// Those that this process uses: what was chosen, or the quickest that compute rightly.
    pub fn chosen() -> Self {
        *CHOSEN.get_or_init(|| {
            Self::supported()
                .find(|&set| {
                    let passes = self_check::passes(set);
                    if !passes {
                        tracing::warn!(
                            instructions = %set,
                            "instructions compute wrong results on this processor and are not used; please report it"
                        );
                    }
                    passes
                })
                .unwrap_or(Self::Portable)
        })
    }
}

impl InstructionsChoice {
    /// Settles which instructions this process uses. Only the first call counts.
    ///
    /// # Errors
    /// When the processor does not have them, or computes wrongly with them.
    pub fn choose(self) -> Result<Instructions, UnusableInstructions> {
        let asked = match self {
            Self::Auto => return Ok(Instructions::chosen()),
            Self::Instructions(asked) => asked,
        };
        if !asked.is_supported() {
            let has = Instructions::supported()
                .map(|set| set.to_string())
                .collect();
            return Err(UnusableInstructions::Missing { asked, has });
        }
        if !self_check::passes(asked) {
            return Err(UnusableInstructions::Wrong(asked));
        }
        Ok(*CHOSEN.get_or_init(|| asked))
    }
}

impl FromStr for InstructionsChoice {
    type Err = UnusableInstructions;

    fn from_str(text: &str) -> Result<Self, UnusableInstructions> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let set = Instructions::NAMES.iter().find(|(_, name)| *name == text);
        set.map(|(set, _)| Self::Instructions(*set))
            .ok_or_else(|| UnusableInstructions::Unknown(text.to_owned()))
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(set, _)| set == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// Runs an expression with the [`Isa`](super::isa::Isa) of the instructions as a type.
///
/// # Panics
/// When the processor lacks the instructions.
macro_rules! dispatch {
    ($instructions:expr, $isa:ident => $run:expr) => {{
        use $crate::cpu;
        let instructions: cpu::Instructions = $instructions;
        assert!(instructions.is_supported(), "{instructions} is not there");
        match instructions {
            cpu::Instructions::Portable => {
                type $isa = cpu::portable::Portable;
                $run
            }
            #[cfg(target_arch = "x86_64")]
            cpu::Instructions::Avx2 => {
                type $isa = cpu::avx2::Avx2;
                $run
            }
            #[cfg(target_arch = "x86_64")]
            cpu::Instructions::AvxVnni => {
                type $isa = cpu::avx2::AvxVnni;
                $run
            }
            #[cfg(target_arch = "x86_64")]
            cpu::Instructions::Avx512Vnni => {
                type $isa = cpu::avx512::Avx512Vnni;
                $run
            }
            #[cfg(target_arch = "x86_64")]
            cpu::Instructions::Amx => {
                type $isa = cpu::avx512::Amx;
                $run
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("no other instructions are supported"),
        }
    }};
}
pub(super) use dispatch;
