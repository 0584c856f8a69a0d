//! The library, and servers in this process, as their users meet them: one binary, so that it is
//! linked once.

mod adapters;
mod any_input;
mod checkpoint;
mod company;
mod engine;
mod formats;
mod http;
mod layers;
mod masks;
mod model;
mod pixels;
mod settings;
mod weights_cache;
