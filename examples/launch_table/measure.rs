//! Runs the engine over a checkpoint, and counts what its stages take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use paligemma_server::checkpoint::{Adapter, CheckpointError};
use paligemma_server::engine::{
    Answerer, EngineHandle, EngineOptions, Event, MaxTokens, Request, Sampling, State,
};
use paligemma_server::kernels::{GraphChoice, Placement};
use paligemma_server::models::{Pretrained, WeightFormat, waves};
use paligemma_server::pixels::Pixels;

use crate::counts::{Counts, FakeDriver};
use crate::recorder::{Recorded, Recorder, Stage};

/// Requests that come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub rows: usize,
    pub asked: Asked,
}

/// Whom a case's requests ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Base,
    /// The base, whose decode steps are recorded as CUDA graphs.
    Recorded,
    /// The base, at a temperature.
    Sampled,
    Adapter,
    /// The base and both adapters in turn.
    All,
}

pub const CASES: [Case; 6] = [
    Case::new(1, Asked::Base),
    Case::new(64, Asked::Base),
    Case::new(64, Asked::Sampled),
    Case::new(1, Asked::Adapter),
    Case::new(64, Asked::Adapter),
    Case::new(64, Asked::All),
];
const RECORDED: [Case; 2] = [
    Case::new(1, Asked::Recorded),
    Case::new(64, Asked::Recorded),
];

impl Case {
    const fn new(rows: usize, asked: Asked) -> Self {
        Self { rows, asked }
    }

    /// Sampling is a matter of decoding alone, and so is recording.
    fn stages(self) -> Vec<Stage> {
        let rows = self.rows;
        match self.asked {
            Asked::Recorded | Asked::Sampled => vec![Stage::Decode(rows)],
            Asked::Base | Asked::Adapter | Asked::All => vec![
                Stage::Decode(rows),
                Stage::Prefill(rows),
                Stage::Encode(rows),
            ],
        }
    }
}

/// Tokens of each answer: steps that are followed by others are among them.
const TOKENS: usize = 4;

/// What a stage of a case took.
pub type Measured = Vec<(Stage, Option<Case>, Counts)>;

/// What all cases take of the checkpoint in `folder` with its two adapters.
pub async fn measure(folder: &Path, format: WeightFormat, driver: FakeDriver) -> Result<Measured> {
    let mut measured = answered(folder, format, GraphChoice::Off, driver, &CASES).await?;
    let recorded = answered(folder, format, GraphChoice::On, driver, &RECORDED).await?;
    let of_a_case = |(_, case, _): &(Stage, Option<Case>, Counts)| case.is_some();
    measured.extend(recorded.into_iter().filter(of_a_case));
    Ok(measured)
}

/// Loads the checkpoint, and answers these cases.
async fn answered(
    folder: &Path,
    format: WeightFormat,
    graphs: GraphChoice,
    driver: FakeDriver,
    cases: &[Case],
) -> Result<Measured> {
    let pretrained = Pretrained::open(folder)?;
    for name in ["adapter-1", "adapter-2"] {
        pretrained.add_adapter(name, Adapter::open(&folder.join(name))?)?;
    }
    let answerers = pretrained.adapters.all();
    let answerers: Vec<Answerer> = answerers.iter().map(Answerer::from).collect();
    let side = pretrained.config.vision.image_size;
    let options = options(pretrained.config.image_tokens());
    let recorder = Recorder::new(driver);
    let engine = start(pretrained, format, graphs, options, recorder.clone());
    ready(&engine).await?;

    let mut measured = Vec::new();
    let taken = |stage: Stage| {
        let counts = recorder.last(stage);
        counts.with_context(|| format!("{stage:?} never came in one step"))
    };
    measured.push((Stage::Load, None, taken(Stage::Load)?));
    // The engine's first steps are short, since it doesn't know yet what they cost; and some memory is allocated once.
    answer(&engine, requests(cases[0], &answerers, side)).await?;
    for &case in cases {
        for _ in 0..2 {
            answer(&engine, requests(case, &answerers, side)).await?;
        }
        for stage in case.stages() {
            measured.push((stage, Some(case), taken(stage)?));
        }
    }
    engine.shutdown(Duration::from_secs(60)).await;
    Ok(measured)
}

/// All rows of a case are one batch, and each of its stages is one step.
fn options(image_tokens: usize) -> EngineOptions {
    EngineOptions {
        slots: 64,
        queue: 64,
        context: image_tokens + 32,
        max_token_gap: Duration::from_secs(3600),
        prefill_batch_tokens: usize::MAX,
        image_cache_bytes: 0,
        model_restarts: 0,
        step_timeout: Duration::from_secs(600),
    }
}

fn start(
    pretrained: Pretrained,
    format: WeightFormat,
    graphs: GraphChoice,
    options: EngineOptions,
    recorder: Recorder,
) -> EngineHandle {
    let tokenizer = Arc::clone(&pretrained.tokenizer);
    let placement = Placement {
        gpu: Some(0),
        format,
    };
    let unusable = |error: String| CheckpointError::Weights(error);
    EngineHandle::start(options, tokenizer, move || {
        let begun = recorder.begin(Stage::Load);
        begun.map_err(|error| unusable(error.to_string()))?;
        let device = placement.open_device(graphs);
        let device = device.map_err(|error| unusable(error.to_string()))?;
        let mut model = pretrained.load(&device, placement.format)?;
        model
            .record_steps(graphs)
            .map_err(|error| unusable(error.to_string()))?;
        Ok::<_, CheckpointError>(Recorded {
            model,
            recorder: recorder.clone(),
        })
    })
}

async fn ready(engine: &EngineHandle) -> Result<()> {
    let mut states = engine.watch_state();
    let state = states.wait_for(|state| *state != State::Loading).await?;
    match &*state {
        State::Ready => Ok(()),
        other => bail!("the model is not ready: {other:?}"),
    }
}

/// The requests of a case, each with a picture of its own.
fn requests(case: Case, adapters: &[Answerer], side: usize) -> Vec<Request> {
    let adapter = |row: usize| match case.asked {
        Asked::Base | Asked::Recorded | Asked::Sampled => None,
        Asked::Adapter => adapters.first().copied(),
        Asked::All => match row % (1 + adapters.len()) {
            0 => None,
            turn => Some(adapters[turn - 1]),
        },
    };
    let request = |row: usize| Request {
        image: Arc::new(Pixels {
            data: waves(side, row),
            side: side as u32,
            width: side as u32,
            height: side as u32,
            hash: [row as u8; 32],
        }),
        adapter: adapter(row),
        prompt: "caption en".to_owned(),
        max_tokens: MaxTokens::Exactly(TOKENS),
        sampling: match case.asked {
            Asked::Sampled => Sampling {
                temperature: 1.0,
                seed: Some(row as u64),
                ..Sampling::greedy()
            },
            _ => Sampling::greedy(),
        },
        stop: Vec::new(),
        logprobs: None,
        neighbours: None,
        deadline: None,
    };
    (0..case.rows).map(request).collect()
}

/// Submits requests together and waits for their answers.
async fn answer(engine: &EngineHandle, requests: Vec<Request>) -> Result<()> {
    for mut generation in engine.submit_all(requests)? {
        let mut finished = false;
        while let Some(event) = generation.next().await {
            match event {
                Event::Delta { .. } => {}
                Event::Finished(_) => finished = true,
                Event::Failed(failure) => bail!("a request failed: {failure:?}"),
            }
        }
        if !finished {
            bail!("an answer has no end");
        }
    }
    Ok(())
}
