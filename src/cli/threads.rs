//! The number of threads that compute on the CPU.

use std::env;
use std::thread::available_parallelism;

use paligemma_server::settings::Settings;

/// The variables that rayon and candle read when they start their threads.
const RAYON: &str = "RAYON_NUM_THREADS";
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Passes the setting to rayon and candle. Call it before any thread starts.
///
/// By default they start a thread per core of the machine. In a container limited to two of 64
/// cores, those threads would mostly wait for each other.
pub fn set(settings: &Settings) {
    let threads = match settings.threads {
        Some(threads) => threads,
        // The user's own choice wins.
        None if env::var_os(RAYON).is_some() || env::var_os(CANDLE).is_some() => return,
        None => {
            let cores = candle_core::utils::get_num_threads();
            available_parallelism().map_or(cores, |usable| cores.min(usable.get()))
        }
    };
    for name in [RAYON, CANDLE] {
        // SAFETY: no other thread exists yet that could read the environment.
        unsafe { env::set_var(name, threads.to_string()) };
    }
}
