//! How many threads compute on the CPU.

use std::env;
use std::thread::available_parallelism;

use paligemma_server::settings::Settings;

/// What rayon and candle read when they start their threads.
const RAYON: &str = "RAYON_NUM_THREADS";
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Passes the setting on to rayon and candle. To be called before anything else is started.
///
/// By themselves they count the machine's cores. In a container that may use two cores of 64 they
/// would wait for each other most of the time.
pub fn set(settings: &Settings) {
    let threads = match settings.threads {
        Some(threads) => threads,
        // Whoever sets these knows better.
        None if env::var_os(RAYON).is_some() || env::var_os(CANDLE).is_some() => return,
        None => {
            let cores = candle_core::utils::get_num_threads();
            available_parallelism().map_or(cores, |usable| cores.min(usable.get()))
        }
    };
    for name in [RAYON, CANDLE] {
        // SAFETY: the process has no other thread yet that could read its environment.
        unsafe { env::set_var(name, threads.to_string()) };
    }
}
