//! What to say when the GPU's memory is full.

use bytesize::ByteSize;

use crate::kernels::is_out_of_memory;

/// `reason` as it is; or, if it is that the memory is full, what to do about it. `free` is how many bytes
/// there are now, where that is known.
pub(super) fn explained(reason: String, free: impl FnOnce() -> Option<u64>) -> String {
    if !is_out_of_memory(&reason) {
        return reason;
    }
    let free = match free() {
        Some(bytes) => format!(" ({} are free now)", ByteSize(bytes)),
        None => String::new(),
    };
    format!(
        "the GPU ran out of memory{free}: use fewer slots, a smaller prefill_batch_tokens or a smaller context; {reason}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_memory_is_explained() {
        let full = r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#;
        assert_eq!(
            explained(full.to_owned(), || Some(12 << 20)),
            r#"the GPU ran out of memory (12.0 MiB are free now): use fewer slots, a smaller prefill_batch_tokens or a smaller context; DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#
        );
        let text = explained(full.to_owned(), || None);
        assert!(text.starts_with("the GPU ran out of memory: use"), "{text}");
        let other = "shape mismatch".to_owned();
        assert_eq!(explained(other.clone(), || Some(1)), other);
    }
}
