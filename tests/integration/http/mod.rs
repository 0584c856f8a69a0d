//! The server as its clients meet it: real requests on a real port.

mod adapters;
mod bodies;
mod demo;
mod detect;
mod faults;
mod held;
mod image_keys;
mod images;
mod label_studio;
mod leaving;
mod limits;
mod log_lines;
mod openai;
mod overload;
mod picture;
mod platforms;
mod playground;
mod queue_position;
mod region;
mod segment;
mod service;
mod sse;
mod streams;
mod tasks;
mod traces;
