//! Forms: the first byte chooses the route, the rest is a body whose boundary is `b`.
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
    post(route, "multipart/form-data; boundary=b", body.to_vec());
});
