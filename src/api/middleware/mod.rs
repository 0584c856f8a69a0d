//! Layers around the routes, in the order in which `router.rs` stacks them.

pub mod admission;
pub mod auth;
pub mod lingering_close;
pub mod observe;
pub mod problems;
pub mod spare_connection;
