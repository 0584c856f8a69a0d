//! Bodies in JSON: the first byte chooses the route, the rest is the body.
//!
//! Whatever it is, the service answers it, or says in a problem document what is wrong with it: no panic,
//! no 5xx, no hang.

#![no_main]

use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::service::{ROUTES, post};

fuzz_target!(|data: &[u8]| {
    let Some((&route, body)) = data.split_first() else {
        return;
    };
    let route = ROUTES[usize::from(route) % ROUTES.len()];
    post(route, "application/json", body.to_vec());
});
