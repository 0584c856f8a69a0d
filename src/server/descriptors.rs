//! How many connections the operating system lets this process have.

/// Descriptors for all else: the listener, logs, weights that are read, images that are fetched, and
/// spare connections.
const OTHERS: u64 = 80;
/// More than one process serves well.
const MOST: u64 = 10_000;

/// The bound on connections: the operator's, or as many as there are file descriptors for. Raises the
/// limit on descriptors as far as the system lets it.
pub fn connections(wanted: Option<usize>) -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit on file descriptors is unknown");
            MOST
        }
    };
    // Even a process with few descriptors answers somebody.
    let possible = limit.saturating_sub(OTHERS).max(limit / 4).max(1);
    match wanted {
        Some(wanted) if wanted as u64 > possible => {
            tracing::warn!(
                max_connections = wanted,
                possible,
                "the limit on file descriptors ({limit}) allows fewer connections; raise it with ulimit -n or LimitNOFILE"
            );
            possible as usize
        }
        Some(wanted) => wanted,
        None => possible.min(MOST) as usize,
    }
}
