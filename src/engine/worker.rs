//! The one thread that owns the model.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use candle_core::Tensor;

use super::answer::Answer;
use super::image_cache::ImageCache;
use super::sampler::{Choice, Row, fetch_rows};
use super::scheduler::{Limits, Plan};
use super::shared::{Desk, Shared};
use super::wave::{Prefilling, Wave};
use super::{EngineOptions, Failure};
use crate::models::{DecodeRow, Model, reason};
use crate::telemetry::metrics;

/// Loads the model and answers requests until the handle closes the engine or the model fails.
///
/// A panic of the model is caught like any other failure: nobody is left waiting.
pub(super) fn run<M, E>(
    shared: &Shared,
    options: &EngineOptions,
    vocab_size: usize,
    load: impl FnOnce() -> Result<M, E>,
) where
    M: Model,
    E: Display,
{
    let loaded = catch(|| {
        let model = load().map_err(|error| error.to_string())?;
        Worker::new(shared, options, vocab_size, model).map_err(|error| reason(&error))
    });
    let mut worker = match loaded {
        Ok(worker) => worker,
        Err(reason) => {
            shared.fail(&reason);
            return;
        }
    };
    shared.open();
    if let Err(reason) = catch(|| worker.serve()) {
        tracing::error!(reason, "the model failed: all requests end with an error");
        let waiting = shared.fail(&reason);
        for answer in worker.answers.drain(..).flatten().chain(waiting) {
            answer.fail(Failure::Model(reason.clone()));
        }
    }
}

/// Turns a panic into an error.
fn catch<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What may be left half changed by a panic is the model and its cache, which nobody uses again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

struct Worker<'a, M: Model> {
    shared: &'a Shared,
    limits: Limits,
    vocab_size: usize,
    model: M,
    cache: M::Cache,
    images: ImageCache,
    /// The answers in the model, by slot.
    answers: Vec<Option<Answer>>,
    /// The wave that is under way.
    wave: Option<Wave<M>>,
}

impl<'a, M: Model> Worker<'a, M> {
    fn new(
        shared: &'a Shared,
        options: &EngineOptions,
        vocab_size: usize,
        model: M,
    ) -> candle_core::Result<Self> {
        Ok(Self {
            shared,
            limits: options.limits(),
            vocab_size,
            cache: model.new_cache(options.slots, options.context)?,
            model,
            images: ImageCache::new(options.image_cache_bytes),
            answers: (0..options.slots).map(|_| None).collect(),
            wave: None,
        })
    }

    /// Works until the engine is closed and everything is answered.
    fn serve(&mut self) -> Result<(), String> {
        while let Some(plan) = self.next_plan() {
            let (batch, begin) = (plan.decode.len(), Instant::now());
            self.step(plan).map_err(|error| reason(&error))?;
            metrics::step(batch, begin.elapsed());
        }
        Ok(())
    }

    /// Ends what is over and says what to do next; sleeps while there is nothing to do. `None` when
    /// there never will be.
    fn next_plan(&mut self) -> Option<Plan<Answer>> {
        let mut desk = self.shared.lock();
        loop {
            self.end_what_is_over(&mut desk);
            let plan = desk.scheduler.plan();
            desk.report_load();
            if plan.is_some() {
                return plan;
            }
            if desk.closing {
                return None;
            }
            desk.pace.idle();
            desk = self.shared.wait(desk);
        }
    }

    /// Frees the places of all answers that nobody waits for, that are late, or that the engine
    /// may no longer finish because it closes.
    fn end_what_is_over(&mut self, desk: &mut Desk) {
        let now = Instant::now();
        desk.withdraw_ended(now);
        for slot in 0..self.answers.len() {
            if let Some(answer) = self.answers[slot].take_if(|answer| answer.is_over(now)) {
                self.release(desk, slot, now);
                answer.give_up();
            }
        }
        if desk.is_past_closing(now) {
            for slot in 0..self.answers.len() {
                if let Some(answer) = self.answers[slot].take() {
                    self.release(desk, slot, now);
                    answer.fail(Failure::ShuttingDown);
                }
            }
            for answer in desk.scheduler.withdraw(|_| true) {
                answer.fail(Failure::ShuttingDown);
            }
        }
    }

    fn release(&self, desk: &mut Desk, slot: usize, now: Instant) {
        desk.scheduler.release(slot);
        desk.pace.ended(now);
    }

    /// One step: every sequence that decodes gets its next token, while the wave gets some layers
    /// further, in the vision tower or in the decoder.
    fn step(&mut self, plan: Plan<Answer>) -> candle_core::Result<()> {
        if !plan.wave || !plan.start.is_empty() {
            self.drop_wave()?;
        }
        if !plan.start.is_empty() {
            self.begin_wave(plan.start)?;
        }
        let decode = self.decode_rows(&plan.decode);
        let prefill = match self.wave.take() {
            Some(Wave::Encoding(encoding)) => {
                self.wave = Some(encoding.advance(
                    &self.model,
                    &self.limits,
                    &mut self.images,
                    &mut self.answers,
                )?);
                None
            }
            Some(Wave::Prefilling(prefilling)) => Some(prefilling),
            None => None,
        };
        if decode.is_empty() && prefill.is_none() {
            return Ok(());
        }
        self.decode_and_prefill(&decode, prefill)
    }

    fn begin_wave(&mut self, start: Vec<(usize, Answer)>) -> candle_core::Result<()> {
        let now = Instant::now();
        let mut slots = Vec::with_capacity(start.len());
        for (slot, mut answer) in start {
            answer.start(now);
            self.answers[slot] = Some(answer);
            slots.push(slot);
        }
        let wave = Wave::begin(&self.model, &mut self.images, &self.answers, slots)?;
        self.wave = Some(wave);
        Ok(())
    }

    /// Nobody waits for the wave any more. What is not finite in its unfinished prefixes must not
    /// spoil the next sequences in their places.
    fn drop_wave(&mut self) -> candle_core::Result<()> {
        if let Some(Wave::Prefilling(prefilling)) = self.wave.take() {
            for slot in prefilling.slots {
                self.model.clear_slot(&mut self.cache, slot)?;
            }
        }
        Ok(())
    }

    fn decode_rows(&self, slots: &[usize]) -> Vec<DecodeRow> {
        let row = |&slot: &usize| Some(self.answers[slot].as_ref()?.decode_row(slot));
        slots.iter().filter_map(row).collect()
    }

    /// Runs the decoder, and hands the tokens out to which that leads.
    fn decode_and_prefill(
        &mut self,
        decode: &[DecodeRow],
        mut prefill: Option<Prefilling<M>>,
    ) -> candle_core::Result<()> {
        let budget = self.limits.budget();
        let work = prefill.as_mut().map(|prefill| (&mut prefill.work, budget));
        let output = self.model.step(&mut self.cache, work, decode)?;
        let mut slots: Vec<usize> = decode.iter().map(|row| row.slot).collect();
        match prefill {
            Some(prefill) if output.prefill_done => {
                self.shared.lock().scheduler.finish_wave();
                slots.extend(prefill.slots);
            }
            Some(prefill) => self.wave = Some(Wave::Prefilling(prefill)),
            None => {}
        }
        match output.logits {
            Some(logits) => self.deliver(&logits, &slots),
            None => Ok(()),
        }
    }

    /// Hands out the tokens that follow from `logits`, whose rows belong to `slots`.
    fn deliver(&mut self, logits: &Tensor, slots: &[usize]) -> candle_core::Result<()> {
        let rows = self.fetch(logits, slots)?;
        let mut choices = Vec::with_capacity(slots.len());
        for (&slot, row) in slots.iter().zip(&rows) {
            if !row.finite {
                // What this sequence left behind must not spoil the next one in its place.
                self.model.clear_slot(&mut self.cache, slot)?;
            }
            // There is no answer if its client left while the wave was under way.
            if let Some(mut answer) = self.answers[slot].take() {
                choices.push((slot, answer.choose(row), answer));
            }
        }
        self.hand_out(choices);
        Ok(())
    }

    fn fetch(&self, logits: &Tensor, slots: &[usize]) -> candle_core::Result<Vec<Row>> {
        let expected = (slots.len(), self.vocab_size);
        if logits.dims2()? != expected {
            candle_core::bail!(
                "the logits' shape is {:?}, and {expected:?} was expected (sequences, tokens)",
                logits.dims()
            );
        }
        let needs_logits = |&slot: &usize| {
            let answer = self.answers[slot].as_ref();
            answer.is_some_and(Answer::needs_logits)
        };
        let needs_logits: Vec<bool> = slots.iter().map(needs_logits).collect();
        fetch_rows(logits, &needs_logits)
    }

    /// A slot is free before its client hears of the end, so that it finds room for a next request.
    fn hand_out(&mut self, choices: Vec<(usize, Result<Choice, Failure>, Answer)>) {
        let mut desk = self.shared.lock();
        let now = Instant::now();
        for (slot, choice, mut answer) in choices {
            match choice.map(|choice| answer.push(choice, now)) {
                Ok(None) => self.answers[slot] = Some(answer),
                Ok(Some(reason)) => {
                    self.release(&mut desk, slot, now);
                    answer.finish(reason, now);
                }
                Err(failure) => {
                    self.release(&mut desk, slot, now);
                    answer.fail(failure);
                }
            }
        }
        desk.report_load();
    }
}
