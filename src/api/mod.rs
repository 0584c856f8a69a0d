//! The HTTP interface: requests in, answers, streams and problem documents out.
//!
//! [`routes`] lists all routes, and [`router`](mod@router) puts the layers of [`middleware`] around
//! them. A task's request is admitted and read by [`extract`]; its route in [`routes`] writes the
//! prompts; [`job`] prepares the images and submits everything to the engine; [`respond`] sends what
//! the task's parser makes of the output. [`openai`] does the same for OpenAI's routes, and
//! [`openapi`] describes all of it. [`platforms`] has the routes of serving platforms.
//!
//! Below them: what the routes share ([`state`]), and whatever fails on the way ([`error`]).

mod admission;
mod error;
mod extract;
mod fetching;
mod guarded_body;
mod image_fetcher;
mod job;
mod kept_images;
mod keys;
mod middleware;
mod openai;
mod openapi;
mod platforms;
mod readiness;
mod request_id;
mod request_usage;
mod respond;
mod router;
mod routes;
mod state;
mod unknown;
mod uploads;

pub use admission::Admission;
pub use error::{ErrorCode, RETRY_AFTER_MS};
pub use fetching::fetching;
pub use guarded_body::GuardedBody;
pub use image_fetcher::ImageFetcher;
pub use keys::{KeyFileError, Keys};
pub use middleware::spare_connection::SpareConnection;
pub use respond::protocol_problem::protocol_problem;
pub use router::{document, router};
pub use state::{AppState, StartError};
