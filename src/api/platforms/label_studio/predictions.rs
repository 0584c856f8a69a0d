//! A request for predictions and its answer.

use std::iter;

use axum::body::Bytes;
use axum::extract::Request;

use super::plan::{Plan, Texts};
use super::regions::LabelledRegion;
use super::request::PredictBody;
use super::{LabelStudioPredictions, TaskError, TaskPrediction};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::{Arrival, json_bytes, receive};
use crate::api::kept_images::AnsweredKeys;
use crate::api::state::AppState;

/// A request for predictions, as it was read.
pub(super) struct PredictRequest {
    plan: Plan,
    tasks: Vec<Texts>,
    arrival: Arrival,
}

impl PredictRequest {
    pub(super) async fn receive(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let reading = async |request| json_bytes(request, state).await;
        let (arrival, body) = receive(request, state, reading).await?;
        Self::read(arrival, &body, state)
    }

    fn read(arrival: Arrival, body: &Bytes, state: &AppState) -> Result<Self, ApiError> {
        let read = PredictBody::read(body)?;
        let Some(xml) = read.label_config.and_then(|text| text.0) else {
            let detail = "`label_config` is missing: the project's label config, in XML";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("label_config"));
        };
        let Some(tasks) = read.tasks else {
            let detail = "`tasks` is missing: a list of objects with `data`";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("tasks"));
        };
        if tasks.is_empty() {
            let detail = "`tasks` is empty; at least one is needed";
            return Err(ApiError::new(ErrorCode::OutOfRange, detail).param("tasks"));
        }
        let plan = Plan::read(&xml, state).map_err(|error| error.param("label_config"))?;
        Ok(Self {
            tasks: tasks.iter().map(|task| plan.texts(task, body)).collect(),
            plan,
            arrival,
        })
    }

    /// Labels the tasks, a few at a time: however many there are, they take no more memory for images and no
    /// more places in the queue than another request.
    pub(super) async fn predict(
        self,
        state: &AppState,
    ) -> Result<LabelStudioPredictions, ApiError> {
        let Self {
            plan,
            tasks,
            mut arrival,
        } = self;
        let most = plan.most_at_once(state);
        let parts = tasks.len().div_ceil(most);
        if parts > 1 {
            // The answer's header would be too long for some clients with the keys of all images.
            arrival.image_keys = AnsweredKeys::default();
        }
        let mut predicted = Vec::with_capacity(tasks.len());
        let mut tasks = tasks.into_iter();
        for arrival in iter::repeat_n(arrival, parts) {
            let part = tasks.by_ref().take(most).collect();
            let first = predicted.len();
            predicted.extend(plan.predict(part, first, state, arrival).await);
        }
        if let Some(Err(error)) = predicted.first()
            && predicted.iter().all(Result::is_err)
        {
            return Err(error.clone());
        }
        let model_version = state.model.name.clone();
        let results = predicted.into_iter().map(|prediction| match prediction {
            Ok(result) => TaskPrediction::made(&model_version, result),
            Err(error) => TaskPrediction::failed(error),
        });
        Ok(LabelStudioPredictions {
            results: results.collect(),
            model_version: model_version.clone(),
        })
    }
}

impl TaskPrediction {
    fn made(model_version: &str, result: Vec<LabelledRegion>) -> Self {
        let scores: Vec<f32> = result.iter().filter_map(|region| region.score).collect();
        let mean = scores.iter().sum::<f32>() / scores.len() as f32;
        Self::Made {
            model_version: model_version.to_owned(),
            score: (!scores.is_empty()).then_some(mean),
            result,
        }
    }

    fn failed(error: ApiError) -> Self {
        let ApiError {
            code,
            detail,
            param,
            ..
        } = error;
        let error = TaskError {
            code,
            detail,
            param,
        };
        Self::Failed { error }
    }
}
