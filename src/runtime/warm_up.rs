//! A GPU's first steps. Kernels are translated and libraries loaded in them, which takes longer than
//! an answer, so they come before the first request.

use std::iter::successors;
use std::ops::Range;

use candle_core::{Result, bail};

use crate::kernels::likeliest;
use crate::models::{AdapterId, DecodeRow, EVERYTHING, Model, Picture, Prefix, StepOutput, waves};

/// The shortest prompt, for which every context has room.
const PROMPT: [u32; 2] = [0; 2];

/// Images and prompts at once. More take the same kernels.
const MOST_TOGETHER: usize = 8;

/// Steps of an engine's sizes: none takes more memory than the engine's own do.
#[derive(Debug, Clone, Copy)]
pub(super) struct WarmUp {
    /// The engine's slots and the tokens of each, so that its cache finds the memory of this one.
    pub slots: usize,
    pub context: usize,
    /// Tokens that are prefilled together.
    pub batch_tokens: usize,
    /// The side of a picture.
    pub image_size: usize,
}

impl WarmUp {
    /// Runs the steps, some of them for a resident adapter if there is one.
    ///
    /// # Errors
    /// When the model fails, or memory runs out.
    pub fn run<M: Model>(&self, model: &M, adapter: Option<AdapterId>) -> Result<()> {
        let mut steps = Steps {
            cache: model.new_cache(self.slots, self.context)?,
            image_size: self.image_size,
            model,
        };
        let prefix = model.image_tokens() + PROMPT.len();
        // As few keys as there can be, and as many.
        let positions = [prefix, self.context - 1];
        steps.prefill(0..1, None, &[])?;
        if self.together(prefix) > 1 {
            steps.prefill(0..self.together(prefix), None, &[])?;
        }
        for rows in self.decode_rows() {
            for position in positions {
                steps.decode(&decode_rows(0..rows, position, None))?;
            }
        }
        if self.slots > 1 {
            steps.prefill(0..1, None, &decode_rows(1..2, prefix, None))?;
        }
        if adapter.is_some() {
            steps.prefill(0..1, adapter, &[])?;
            for rows in [1, self.slots] {
                for position in positions {
                    steps.decode(&decode_rows(0..rows, position, adapter))?;
                }
            }
        }
        Ok(())
    }

    /// How many prefixes of so many tokens an engine would prefill together.
    fn together(&self, prefix: usize) -> usize {
        let fit = self.slots.min(self.batch_tokens / prefix);
        fit.clamp(1, MOST_TOGETHER)
    }

    /// 1, 2, 4 and so on up to the number of slots.
    fn decode_rows(&self) -> impl Iterator<Item = usize> + use<> {
        let slots = self.slots;
        successors(Some(1), move |rows| {
            (*rows < slots).then(|| (2 * rows).min(slots))
        })
    }
}

/// A row for each of these slots.
fn decode_rows(slots: Range<usize>, position: usize, adapter: Option<AdapterId>) -> Vec<DecodeRow> {
    let row = |slot| DecodeRow {
        slot,
        position,
        token: 0,
        adapter,
    };
    slots.map(row).collect()
}

/// A model and its cache.
struct Steps<'a, M: Model> {
    model: &'a M,
    cache: M::Cache,
    image_size: usize,
}

impl<M: Model> Steps<'_, M> {
    /// An image and a prompt for each of these slots, prefilled while `decode` rows get a token.
    fn prefill(
        &mut self,
        slots: Range<usize>,
        adapter: Option<AdapterId>,
        decode: &[DecodeRow],
    ) -> Result<()> {
        let side = self.image_size;
        let pixels: Vec<Vec<u8>> = slots.clone().map(|slot| waves(side, slot)).collect();
        let pictures = pixels.iter().map(|pixels| Picture { pixels, adapter });
        let mut encode = self.model.begin_encode(&pictures.collect::<Vec<_>>())?;
        self.model.advance_encode(&mut encode, EVERYTHING)?;
        let features = self.model.finish_encode(encode)?;
        let prefixes = slots.zip(&features).map(|(slot, features)| Prefix {
            slot,
            adapter,
            features,
            tokens: &PROMPT,
            generated: &[],
        });
        let mut prefill = self.model.begin_prefill(&prefixes.collect::<Vec<_>>())?;
        let work = Some((&mut prefill, EVERYTHING));
        choose(self.model.step(&mut self.cache, work, decode)?)
    }

    /// A token for each row.
    fn decode(&mut self, rows: &[DecodeRow]) -> Result<()> {
        choose(self.model.step(&mut self.cache, None, rows)?)
    }
}

/// Chooses each row's token, and so waits for the step's end.
fn choose(output: StepOutput) -> Result<()> {
    let Some(logits) = output.logits else {
        bail!("a whole step gives logits")
    };
    likeliest(&logits, &vec![None; logits.dim(0)?])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::checkpoint::Adapter;
    use crate::models::{Budget, Progress};

    const IMAGE_TOKENS: usize = 16;

    /// Computes nothing, and notes the sizes that it is asked for.
    #[derive(Default)]
    struct Noted(RefCell<Vec<String>>);

    impl Noted {
        fn note(&self, text: String) {
            self.0.borrow_mut().push(text);
        }
    }

    impl Model for Noted {
        type Encode = usize;
        type Prefill = usize;
        type Cache = (usize, usize);

        fn image_tokens(&self) -> usize {
            IMAGE_TOKENS
        }

        fn new_cache(&self, slots: usize, context: usize) -> Result<(usize, usize)> {
            self.note(format!("{slots} slots of {context}"));
            Ok((slots, context))
        }

        fn clear_slot(&self, _: &mut (usize, usize), _: usize) -> Result<()> {
            Ok(())
        }

        fn add_adapter(&mut self, _: AdapterId, _: &Adapter) -> Result<usize> {
            Ok(0)
        }

        fn remove_adapter(&mut self, _: AdapterId) {}

        fn begin_encode(&self, images: &[Picture<'_>]) -> Result<usize> {
            Ok(images.len())
        }

        fn advance_encode(&self, _: &mut usize, _: Budget) -> Result<Progress> {
            Ok(Progress {
                token_layers: 0,
                done: true,
            })
        }

        fn finish_encode(&self, images: usize) -> Result<Vec<Tensor>> {
            let features = Tensor::zeros((IMAGE_TOKENS, 1), DType::F32, &Device::Cpu)?;
            Ok(vec![features; images])
        }

        fn begin_prefill(&self, prefixes: &[Prefix<'_>]) -> Result<usize> {
            Ok(prefixes.len())
        }

        fn step(
            &self,
            (slots, context): &mut (usize, usize),
            prefill: Option<(&mut usize, Budget)>,
            decode: &[DecodeRow],
        ) -> Result<StepOutput> {
            let prefixes = prefill.map_or(0, |(prefixes, _)| *prefixes);
            let mut text = format!("{prefixes} + {}", decode.len());
            for row in decode {
                assert!(row.slot < *slots && row.position < *context, "{row:?}");
            }
            if let Some(row) = decode.first() {
                text += &format!(" at {}", row.position);
                text += row.adapter.map_or("", |_| " of an adapter");
            }
            self.note(text);
            let logits = Tensor::zeros((prefixes + decode.len(), 4), DType::F32, &Device::Cpu)?;
            Ok(StepOutput {
                logits: Some(logits),
                prefill: None,
            })
        }
    }

    fn noted(warm_up: WarmUp, adapter: Option<AdapterId>) -> Vec<String> {
        let model = Noted::default();
        warm_up.run(&model, adapter).unwrap();
        model.0.into_inner()
    }

    const WARM_UP: WarmUp = WarmUp {
        slots: 1,
        context: IMAGE_TOKENS + 3,
        batch_tokens: 1,
        image_size: 4,
    };

    #[test]
    fn one_slot_of_the_smallest_context_is_enough() {
        let steps = ["1 slots of 19", "1 + 0", "0 + 1 at 18", "0 + 1 at 18"];
        assert_eq!(noted(WARM_UP, None), steps);
    }

    #[test]
    fn steps_have_the_sizes_of_the_engines() {
        let warm_up = WarmUp {
            slots: 5,
            context: 40,
            batch_tokens: 3 * (IMAGE_TOKENS + 2),
            ..WARM_UP
        };
        let steps = [
            "5 slots of 40",
            "1 + 0",
            "3 + 0",
            "0 + 1 at 18",
            "0 + 1 at 39",
            "0 + 2 at 18",
            "0 + 2 at 39",
            "0 + 4 at 18",
            "0 + 4 at 39",
            "0 + 5 at 18",
            "0 + 5 at 39",
            "1 + 1 at 18",
            "1 + 0",
            "0 + 1 at 18 of an adapter",
            "0 + 1 at 39 of an adapter",
            "0 + 5 at 18 of an adapter",
            "0 + 5 at 39 of an adapter",
        ];
        assert_eq!(noted(warm_up, Some(AdapterId(1))), steps);
    }

    #[test]
    fn as_many_prefixes_together_as_an_engine_takes_but_no_more_than_eight() {
        let together = |slots, batch_tokens| {
            let warm_up = WarmUp {
                slots,
                batch_tokens,
                ..WARM_UP
            };
            warm_up.together(264)
        };
        assert_eq!(together(64, 4096), 8);
        assert_eq!(together(64, 1000), 3);
        assert_eq!(together(2, 4096), 2);
        assert_eq!(together(64, 100), 1);
    }
}
