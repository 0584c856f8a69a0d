//! The server as its clients meet it: real requests on a real port.

#[allow(dead_code, reason = "the model's own test reads more of it")]
#[path = "../support/golden.rs"]
mod golden;
#[path = "../support/server.rs"]
mod server;
#[allow(dead_code, reason = "the engine's own test asks more of it")]
#[path = "../support/toy_model.rs"]
mod toy_model;

mod bodies;
mod demo;
mod detect;
mod held;
mod images;
mod leaving;
mod limits;
mod openai;
mod overload;
mod picture;
mod playground;
mod region;
mod segment;
mod service;
mod sse;
mod streams;
mod tasks;
