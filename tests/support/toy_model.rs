//! A model that a test holds in its hands: what it answers is simple to tell, it stops before each
//! piece of work for as long as the test wants, and it fails on demand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use candle_core::{Device, Result, Tensor, bail};
use paligemma_server::checkpoint::Adapter;
use paligemma_server::models::{
    AdapterId, Budget, DecodeRow, Model, Picture, Prefix, Progress, StepOutput,
};

/// Longer than any piece of work takes: a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const IMAGE_TOKENS: usize = 4;
const VISION_LAYERS: usize = 3;
const TEXT_LAYERS: usize = 4;

/// A piece of work that the model was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// So many images go through some more layers of the vision tower.
    Encode { images: usize },
    /// A step: slots that decode, and slots whose prefixes get some more layers.
    Step {
        decode: Vec<usize>,
        prefill: Vec<usize>,
    },
}

/// What goes wrong in steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    Panic,
    Error,
    /// Steps fail in which a sequence with this prompt takes part.
    ErrorOn(Vec<u32>),
    /// This slot's logits hold a NaN, until the slot is cleared.
    NanInSlot(usize),
}

/// The test's end of a [`Toy`].
pub struct Control {
    gate: Mutex<Gate>,
    changed: Condvar,
    ask: Sender<Work>,
    asked: Mutex<Receiver<Work>>,
    scripts: Mutex<HashMap<Vec<u32>, Vec<u32>>>,
    /// The fault, and in how many steps it still happens.
    fault: Mutex<Option<(Fault, usize)>>,
    builds: AtomicUsize,
    build_error: Mutex<Option<String>>,
    prompts: Mutex<Vec<Vec<u32>>>,
}

struct Gate {
    open: bool,
    allowed: usize,
    builds_open: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    pub fn new() -> Self {
        let (ask, asked) = channel();
        Self {
            gate: Mutex::new(Gate {
                open: true,
                allowed: 0,
                builds_open: true,
            }),
            changed: Condvar::new(),
            ask,
            asked: Mutex::new(asked),
            scripts: Mutex::default(),
            fault: Mutex::default(),
            builds: AtomicUsize::new(0),
            build_error: Mutex::default(),
            prompts: Mutex::default(),
        }
    }

    /// From now on the model waits before each piece of work until it is allowed.
    pub fn hold(&self) {
        self.gate.lock().unwrap().open = false;
    }

    /// Lets the model do one piece of work.
    pub fn allow_one(&self) {
        self.gate.lock().unwrap().allowed += 1;
        self.changed.notify_all();
    }

    /// Lets the model work freely.
    pub fn open(&self) {
        self.gate.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    /// The next piece of work that the model is asked for; on hold, it hasn't begun it.
    pub fn next_work(&self) -> Work {
        let asked = self.asked.lock().unwrap();
        asked
            .recv_timeout(PATIENCE)
            .expect("the model is asked for work")
    }

    /// The next piece of work that the model was asked for, if there was one.
    pub fn work_done(&self) -> Option<Work> {
        self.asked.lock().unwrap().try_recv().ok()
    }

    /// On hold: lets the model work until it is asked for what `wanted` says, which it then has not
    /// begun.
    pub fn run_until(&self, wanted: impl Fn(&Work) -> bool) -> Work {
        loop {
            let work = self.next_work();
            if wanted(&work) {
                return work;
            }
            self.allow_one();
        }
    }

    /// After this prompt (its ids, `<bos>` to newline) the model says these tokens.
    pub fn script(&self, prompt: Vec<u32>, tokens: Vec<u32>) {
        self.scripts.lock().unwrap().insert(prompt, tokens);
    }

    /// From now on this goes wrong in every step.
    pub fn fail(&self, fault: Fault) {
        self.fail_times(fault, usize::MAX);
    }

    /// This goes wrong in the next `times` steps to which it applies.
    pub fn fail_times(&self, fault: Fault, times: usize) {
        *self.fault.lock().unwrap() = Some((fault, times));
    }

    /// From now on building a model waits for [`Self::open_builds`].
    pub fn hold_builds(&self) {
        self.gate.lock().unwrap().builds_open = false;
    }

    pub fn open_builds(&self) {
        self.gate.lock().unwrap().builds_open = true;
        self.changed.notify_all();
    }

    /// From now on the model can't be built, for this reason.
    pub fn fail_to_build(&self, reason: &str) {
        *self.build_error.lock().unwrap() = Some(reason.to_owned());
    }

    /// A model, for an engine's factory.
    pub fn build(self: &Arc<Self>, vocab_size: usize) -> std::result::Result<Toy, String> {
        self.builds.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.lock().unwrap();
        drop(
            self.changed
                .wait_while(gate, |gate| !gate.builds_open)
                .unwrap(),
        );
        match &*self.build_error.lock().unwrap() {
            Some(reason) => Err(reason.clone()),
            None => Ok(Toy {
                control: self.clone(),
                vocab_size,
            }),
        }
    }

    /// How often a model was built.
    pub fn builds(&self) -> usize {
        self.builds.load(Ordering::SeqCst)
    }

    /// The prompts (ids, `<bos>` to newline) whose prefill was begun, in order.
    pub fn prompts(&self) -> Vec<Vec<u32>> {
        self.prompts.lock().unwrap().clone()
    }

    fn ask(&self, work: Work) {
        let _ = self.ask.send(work);
        let gate = self.gate.lock().unwrap();
        let shut = |gate: &mut Gate| !gate.open && gate.allowed == 0;
        let waited = self.changed.wait_timeout_while(gate, PATIENCE, shut);
        let (mut gate, _) = waited.unwrap();
        gate.allowed = gate.allowed.saturating_sub(1);
    }
}

/// Says a script or, without one, tokens that depend on the image, the prompt and the place alone.
pub struct Toy {
    pub control: Arc<Control>,
    pub vocab_size: usize,
}

/// What a slot remembers.
#[derive(Debug, Clone)]
pub struct Sequence {
    image: f32,
    prompt: Vec<u32>,
    /// Tokens that were generated before its prefill.
    generated: usize,
}

pub struct Encode {
    images: Vec<f32>,
    layers_left: usize,
}

pub struct Prefill {
    sequences: Vec<(usize, Sequence)>,
    layers_left: usize,
}

impl Toy {
    fn logits(&self, sequence: &Sequence, position: usize) -> Vec<f32> {
        let index = position + 1 - IMAGE_TOKENS - sequence.prompt.len();
        let seed = sequence
            .prompt
            .iter()
            .fold(sequence.image as u64, |seed, &id| {
                mix(seed.wrapping_add(u64::from(id)))
            });
        let noise = |id: usize| (mix(seed ^ mix((index * 7919 + id) as u64)) % 1000) as f32 / 400.0;
        let mut logits: Vec<f32> = (0..self.vocab_size).map(noise).collect();
        let scripts = self.control.scripts.lock().unwrap();
        let scripted = scripts.get(&sequence.prompt);
        // Past the first 400 are no special tokens.
        let free = 400 + mix(seed.wrapping_add(index as u64)) as usize % 1000;
        let likeliest = scripted.map_or(free, |script| script[index] as usize);
        logits[likeliest] = 10.0;
        logits
    }

    /// The fault that happens in a step of sequences with these prompts.
    fn fault(&self, prompts: &[&Vec<u32>]) -> Option<Fault> {
        let mut planned = self.control.fault.lock().unwrap();
        let (fault, times) = planned.as_mut()?;
        if *times == 0 || matches!(fault, Fault::ErrorOn(prompt) if !prompts.contains(&&*prompt)) {
            return None;
        }
        *times = times.saturating_sub(1);
        Some(fault.clone())
    }
}

/// Takes from `left` the layers that `budget` allows for so many rows.
fn advance(left: &mut usize, rows: usize, budget: Budget) -> Progress {
    let layers = budget.layers(rows, *left);
    *left -= layers;
    Progress {
        token_layers: rows * layers,
        done: *left == 0,
    }
}

/// SplitMix64's finaliser.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Model for Toy {
    type Encode = Encode;
    type Prefill = Prefill;
    type Cache = Vec<Option<Sequence>>;

    fn image_tokens(&self) -> usize {
        IMAGE_TOKENS
    }

    fn new_cache(&self, slots: usize, _context: usize) -> Result<Self::Cache> {
        Ok(vec![None; slots])
    }

    fn clear_slot(&self, cache: &mut Self::Cache, slot: usize) -> Result<()> {
        cache[slot] = None;
        let mut fault = self.control.fault.lock().unwrap();
        fault.take_if(|(fault, _)| *fault == Fault::NanInSlot(slot));
        Ok(())
    }

    fn add_adapter(&mut self, _: AdapterId, _: &Adapter) -> Result<usize> {
        candle_core::bail!("this model takes no adapters")
    }

    fn remove_adapter(&mut self, _: AdapterId) {}

    fn begin_encode(&self, images: &[Picture<'_>]) -> Result<Encode> {
        let first = |image: &Picture<'_>| f32::from(image.pixels[0]);
        Ok(Encode {
            images: images.iter().map(first).collect(),
            layers_left: VISION_LAYERS,
        })
    }

    fn advance_encode(&self, encode: &mut Encode, budget: Budget) -> Result<Progress> {
        let images = encode.images.len();
        self.control.ask(Work::Encode { images });
        Ok(advance(
            &mut encode.layers_left,
            images * IMAGE_TOKENS,
            budget,
        ))
    }

    fn finish_encode(&self, encode: Encode) -> Result<Vec<Tensor>> {
        assert_eq!(encode.layers_left, 0);
        let features = |&image| Tensor::full(image, (IMAGE_TOKENS, 1), &Device::Cpu);
        encode.images.iter().map(features).collect()
    }

    fn begin_prefill(&self, prefixes: &[Prefix<'_>]) -> Result<Prefill> {
        let sequence = |prefix: &Prefix<'_>| {
            let image = prefix.features.flatten_all()?.to_vec1()?[0];
            let prompt = prefix.tokens.to_vec();
            self.control.prompts.lock().unwrap().push(prompt.clone());
            let generated = prefix.generated.len();
            Ok((
                prefix.slot,
                Sequence {
                    image,
                    prompt,
                    generated,
                },
            ))
        };
        Ok(Prefill {
            sequences: prefixes.iter().map(sequence).collect::<Result<_>>()?,
            layers_left: TEXT_LAYERS,
        })
    }

    fn step(
        &self,
        cache: &mut Self::Cache,
        prefill: Option<(&mut Prefill, Budget)>,
        decode: &[DecodeRow],
    ) -> Result<StepOutput> {
        let mut slots: Vec<usize> = decode.iter().map(|row| row.slot).collect();
        self.control.ask(Work::Step {
            decode: slots.clone(),
            prefill: match &prefill {
                Some((prefill, _)) => prefill.sequences.iter().map(|(slot, _)| *slot).collect(),
                None => Vec::new(),
            },
        });
        let prompts = decode.iter().filter_map(|row| cache[row.slot].as_ref());
        let mut prompts: Vec<&Vec<u32>> = prompts.map(|sequence| &sequence.prompt).collect();
        if let Some((prefill, _)) = &prefill {
            prompts.extend(
                prefill
                    .sequences
                    .iter()
                    .map(|(_, sequence)| &sequence.prompt),
            );
        }
        let fault = self.fault(&prompts);
        match fault {
            Some(Fault::Panic) => panic!("the toy panics as it was told"),
            Some(Fault::Error | Fault::ErrorOn(_)) => bail!("the toy fails as it was told"),
            _ => {}
        }
        let mut rows = Vec::new();
        for row in decode {
            let sequence = cache[row.slot].as_ref().expect("a prefill went before");
            rows.push(self.logits(sequence, row.position));
        }
        let mut progress = None;
        if let Some((prefill, budget)) = prefill {
            let prefixes = prefill.sequences.iter();
            let tokens = prefixes
                .map(|(_, sequence)| IMAGE_TOKENS + sequence.prompt.len())
                .sum();
            let done = advance(&mut prefill.layers_left, tokens, budget);
            progress = Some(done);
            for (slot, sequence) in &prefill.sequences {
                cache[*slot] = Some(sequence.clone());
                if done.done {
                    slots.push(*slot);
                    let last = IMAGE_TOKENS + sequence.prompt.len() + sequence.generated - 1;
                    rows.push(self.logits(sequence, last));
                }
            }
        }
        for (slot, row) in slots.iter().zip(&mut rows) {
            if fault == Some(Fault::NanInSlot(*slot)) {
                row[7] = f32::NAN;
            }
        }
        let shape = (rows.len(), self.vocab_size);
        let logits = (!rows.is_empty())
            .then(|| Tensor::from_vec(rows.concat(), shape, &Device::Cpu))
            .transpose()?;
        Ok(StepOutput {
            logits,
            prefill: progress,
        })
    }
}
