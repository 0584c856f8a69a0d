//! All routes in one list, one file per route.

pub mod adapters;
pub mod caption;
pub mod detect;
pub mod docs;
pub mod document;
pub mod generate;
pub mod health;
pub mod metrics;
pub mod models;
pub mod ocr;
pub mod playground;
pub mod question;
pub mod segment;
mod text_task;
pub mod vqa;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use super::openai::{chat, completions};
use super::platforms::{kserve, label_studio, sagemaker};
use super::state::AppState;
use crate::settings::Settings;

/// Routes by what they need.
pub struct Routes {
    /// Use the model: a key if the operator has set any, and admission.
    pub inference: List,
    /// A key if the operator has set any.
    pub keyed: List,
    /// Change what is served: a key of the operator's own.
    pub admin: List,
    /// Nothing: for machines beside the server.
    pub open: List,
}

/// Routes, and the method and path of each.
#[derive(Default)]
pub struct List {
    pub router: OpenApiRouter<AppState>,
    pub listed: Vec<(&'static str, &'static str)>,
}

impl List {
    /// These, and `more` of them if they are `on`.
    fn and(self, on: bool, more: Self) -> Self {
        match on {
            true => Self {
                router: self.router.merge(more.router),
                listed: [self.listed, more.listed].concat(),
            },
            false => self,
        }
    }
}

/// Lists routes. Method and path are also in the handler's `utoipa::path`, which generates the
/// contract; a test compares them.
macro_rules! list {
    ($($method:ident $path:literal => $($handler:ident)::+,)*) => {
        List {
            router: OpenApiRouter::default()$(.routes(utoipa_axum::routes!($($handler)::+)))*,
            listed: vec![$((stringify!($method), $path),)*],
        }
    };
}

/// The routes that an operator turns on.
#[derive(Clone, Copy)]
pub struct Optional {
    pub admin: bool,
    pub kserve: bool,
    pub sagemaker: bool,
    pub label_studio: bool,
}

impl Optional {
    pub const ALL: Self = Self {
        admin: true,
        kserve: true,
        sagemaker: true,
        label_studio: true,
    };

    /// Those that are on.
    pub fn of(settings: &Settings) -> Self {
        Self {
            admin: settings.adapter_admin,
            kserve: settings.kserve_routes,
            sagemaker: settings.sagemaker_routes,
            label_studio: settings.label_studio_routes,
        }
    }
}

/// The routes of the contract, with those of `optional`.
pub fn routes(optional: Optional) -> Routes {
    let Optional {
        admin,
        kserve,
        sagemaker,
        label_studio,
    } = optional;
    Routes {
        inference: list! {
            POST "/v1/caption" => caption::caption,
            POST "/v1/vqa" => vqa::vqa,
            POST "/v1/question" => question::question,
            POST "/v1/ocr" => ocr::ocr,
            POST "/v1/detect" => detect::detect,
            POST "/v1/segment" => segment::segment,
            POST "/v1/generate" => generate::generate,
            POST "/v1/chat/completions" => chat::chat,
            POST "/v1/completions" => completions::completions,
        }
        .and(
            kserve,
            list! { POST "/v1/models/{*id}" => kserve::predict, },
        )
        .and(
            sagemaker,
            list! { POST "/invocations" => sagemaker::invocations, },
        )
        .and(
            label_studio,
            list! {
                POST "/label-studio/predict" => label_studio::predict,
                POST "/label-studio/setup" => label_studio::setup,
            },
        ),
        keyed: list! {
            GET "/v1/models" => models::models,
            GET "/v1/models/{*id}" => models::model,
        }
        .and(kserve, list! { GET "/v2/models/{*id}" => kserve::model, }),
        admin: List::default().and(
            admin,
            list! {
                POST "/v1/load_lora_adapter" => adapters::load,
                POST "/v1/unload_lora_adapter" => adapters::unload,
            },
        ),
        open: list! {
            GET "/health/live" => health::live,
            GET "/healthz" => health::healthz,
            GET "/health/ready" => health::ready,
            GET "/health" => health::health,
            GET "/readyz" => health::readyz,
            GET "/metrics" => metrics::metrics,
            GET "/openapi.yaml" => document::openapi_yaml,
            GET "/openapi.json" => document::openapi_json,
        }
        .and(
            kserve,
            list! {
                GET "/v2" => kserve::server,
                GET "/v2/health/live" => kserve::live,
                GET "/v2/health/ready" => kserve::ready,
            },
        )
        .and(sagemaker, list! { GET "/ping" => sagemaker::ping, })
        .and(
            label_studio,
            list! {
                GET "/label-studio/" => label_studio::root,
                GET "/label-studio/health" => label_studio::health,
                POST "/label-studio/webhook" => label_studio::webhook,
            },
        ),
    }
}

/// The pages and their files, which are not part of the contract.
pub fn pages() -> Router<AppState> {
    Router::new()
        .merge(playground::routes()) // GET / and its files
        .merge(docs::routes()) // GET /docs and its files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_the_methods_and_paths_of_the_contract() {
        let routes = routes(Optional::ALL);
        for list in [routes.inference, routes.keyed, routes.admin, routes.open] {
            assert!(!list.listed.is_empty());
            let document = list.router.into_openapi();
            let mut described = Vec::new();
            for (path, item) in &document.paths.paths {
                let methods = [("GET", &item.get), ("POST", &item.post)];
                let there = methods
                    .into_iter()
                    .filter(|(_, operation)| operation.is_some());
                described.extend(there.map(|(method, _)| (method, path.as_str())));
            }
            let mut listed = list.listed;
            described.sort_unstable();
            listed.sort_unstable();
            assert_eq!(listed, described);
        }
    }
}
