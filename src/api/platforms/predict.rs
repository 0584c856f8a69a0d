//! Instances in, predictions out: `{"instances": [{"prompt", "image"}]}` to `{"predictions": [{"response"}]}`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::{Arrival, Common, json_bytes, receive};
use crate::api::extract::fields::Fields;
use crate::api::extract::image_source::ImageSource;
use crate::api::extract::json::{Entries, Json as Value};
use crate::api::extract::json_body::{read_entries, read_task};
use crate::api::extract::options::Options;
use crate::api::extract::task_fields::{ONE_IMAGE, TaskFields};
use crate::api::job::{Job, Prompt, Task, Wording};
use crate::api::openapi::ImageJson;
use crate::api::respond::whole::collect_texts;
use crate::api::state::AppState;

/// What is asked of each instance.
#[derive(Debug, Deserialize, ToSchema)]
pub struct InstanceFields {
    /// The prompt as PaliGemma sees it, without the newline that ends it.
    #[schema(example = "caption en")]
    prompt: String,
}

impl TaskFields for InstanceFields {
    const IMAGE_FIELDS: &'static [&'static str] = ONE_IMAGE;
}

/// An instance has no options of its own; those of `parameters` are for all.
#[derive(Deserialize, ToSchema)]
pub struct NoOptions {}

/// A request for predictions.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct PredictJson {
    /// Prompts, each with its image.
    #[schema(min_items = 1)]
    instances: Vec<ImageJson<InstanceFields, NoOptions>>,
    /// Of all of them; `stream` is not for predictions.
    parameters: Option<Options>,
}

/// Predictions in the order of their instances.
#[derive(Debug, Serialize, ToSchema)]
pub struct Predictions {
    predictions: Vec<Prediction>,
}

/// The answer to one instance.
#[derive(Debug, Serialize, ToSchema)]
pub struct Prediction {
    /// Exactly as the tokenizer decodes it.
    #[schema(example = "a red circle")]
    response: String,
}

/// A request for predictions, as it was read.
#[derive(Debug)]
pub struct Instances {
    prompts: Vec<Prompt>,
    common: Common,
}

impl FromRequest<AppState> for Instances {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let reading = async |request| json_bytes(request, state).await;
        let (arrival, body) = receive(request, state, reading).await?;
        Self::read(arrival, &body, state)
    }
}

impl Instances {
    /// Reads instances and parameters.
    ///
    /// # Errors
    /// JSON that is none, fields that are unknown, missing, repeated or of a wrong type, and more
    /// instances than a request may have images.
    pub fn read(arrival: Arrival, body: &Bytes, state: &AppState) -> Result<Self, ApiError> {
        let (mut instances, mut options) = (None, None);
        for (name, value) in read_entries(body)? {
            let repeated = match name.as_ref() {
                "instances" => instances
                    .replace(list(value, state.settings.max_images)?)
                    .is_some(),
                "parameters" => options.replace(parameters(value)?).is_some(),
                other => return Err(unknown(other)),
            };
            if repeated {
                let detail = format!("`{name}` was sent more than once");
                return Err(ApiError::new(ErrorCode::RepeatedField, detail).param(name));
            }
        }
        let Some(instances) = instances else {
            let detail = "`instances` is missing: a list of objects with `prompt` and `image`";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("instances"));
        };
        let (mut images, mut prompts) = (Vec::new(), Vec::new());
        for (index, instance) in instances.into_iter().enumerate() {
            let at = |param: &str| format!("instances[{index}].{param}");
            let (image, prompt) = read_instance(instance, body).map_err(|error| {
                let param = at(error.param.as_deref().unwrap_or_default());
                error.param(param.trim_end_matches('.'))
            })?;
            images.push(image.within(&at("")));
            prompts.push(Prompt {
                image: index,
                wording: Wording::Text(prompt),
                param: at("prompt"),
            });
        }
        let common = Common {
            images,
            options: options.unwrap_or_default(),
            arrival,
        };
        Ok(Self { prompts, common })
    }

    /// The same for the model or adapter of that name, whatever the parameters say.
    pub fn of_model(mut self, model: String) -> Self {
        self.common.options.model = Some(model);
        self
    }

    /// Answers all of them.
    ///
    /// # Errors
    /// The first failure.
    pub async fn predict(self, state: &AppState) -> Result<Json<Predictions>, ApiError> {
        let task = Task {
            name: "predict",
            prompts: self.prompts,
            needs_probabilities: false,
        };
        let job = Job::start(state, task, self.common).await?;
        let texts = collect_texts(job).await?;
        let predictions = texts.into_iter();
        let predictions = predictions.map(|(response, ..)| Prediction { response });
        Ok(Json(Predictions {
            predictions: predictions.collect(),
        }))
    }
}

fn list(value: Value<'_>, most: usize) -> Result<Vec<Value<'_>>, ApiError> {
    let Value::List(instances) = value else {
        let detail = "`instances` has to be a list of objects with `prompt` and `image`";
        return Err(ApiError::new(ErrorCode::InvalidField, detail).param("instances"));
    };
    match instances.len() {
        count if (1..=most).contains(&count) => Ok(instances),
        count => {
            let detail = format!("`instances` has {count}; allowed is 1 to {most} in one request");
            Err(ApiError::new(ErrorCode::OutOfRange, detail).param("instances"))
        }
    }
}

fn read_instance(instance: Value<'_>, body: &Bytes) -> Result<(ImageSource, String), ApiError> {
    let Value::Object(entries) = instance else {
        let detail = "an instance has to be an object with `prompt` and `image`";
        return Err(ApiError::new(ErrorCode::InvalidField, detail));
    };
    let (mut images, fields, NoOptions {}) = read_task::<InstanceFields, _>(entries, body, 1)?;
    let Some(image) = images.pop() else {
        let detail = "an instance needs an `image`: base64, a `data:` URL, an https URL, or the `image_key` of one that was sent before";
        return Err(ApiError::new(ErrorCode::MissingField, detail).param("image"));
    };
    Ok((image, fields.prompt))
}

fn parameters(value: Value<'_>) -> Result<Options, ApiError> {
    let entries: Entries<'_> = match value {
        Value::Null => Vec::new(),
        Value::Object(entries) => entries,
        _ => {
            let detail = "`parameters` has to be an object, such as {\"max_tokens\": 64}";
            return Err(ApiError::new(ErrorCode::InvalidField, detail).param("parameters"));
        }
    };
    let within = |error: ApiError| {
        let param = error.param.clone().unwrap_or_default();
        error.param(format!("parameters.{param}"))
    };
    let (NoOptions {}, options): (_, Options) = Fields::Json(entries).parse(&[]).map_err(within)?;
    match options.stream() {
        false => Ok(options),
        true => Err(ApiError::out_of_range(
            "parameters.stream",
            "true",
            "false, because predictions are not streamed",
        )),
    }
}

fn unknown(field: &str) -> ApiError {
    let detail = format!("unknown field `{field}`; allowed are `instances`, `parameters`");
    ApiError::new(ErrorCode::UnknownField, detail).param(field)
}
