//! A hub id or a folder becomes a configuration, weights and a tokenizer.

pub mod hub;
