//! Packed weights in memory, which are the only copy there.

use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};
use rayon::prelude::*;

use super::layout::{Arrangement, DEPTH, PackedFormat, PackedShape, pack_column, value};

/// A weight `[out, in]`, packed.
#[derive(Debug)]
pub struct PackedWeight {
    pub shape: PackedShape,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Own(MmapMut),
    File(MappedBytes),
}

/// A part of a mapped file.
#[derive(Debug, Clone)]
pub struct MappedBytes {
    file: Arc<Mmap>,
    range: Range<usize>,
}

impl MappedBytes {
    /// Bytes `range` of the file.
    ///
    /// # Panics
    /// When the file is shorter.
    pub fn new(file: &Arc<Mmap>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= file.len());
        let file = Arc::clone(file);
        Self { file, range }
    }
}

impl Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

impl PackedWeight {
    /// Packs rows of equal length: `out_features` of `in_features` values.
    ///
    /// # Errors
    /// When memory runs out, or the weight can't be quantised.
    ///
    /// # Panics
    /// When half of the rows should be a gate, and they have no half.
    pub fn new(
        rows: &[&[f32]],
        format: PackedFormat,
        arrangement: Arrangement,
    ) -> candle_core::Result<Self> {
        assert!(arrangement == Arrangement::InOrder || rows.len().is_multiple_of(2));
        let shape = PackedShape {
            format,
            arrangement,
            out_features: rows.len(),
            in_features: rows.first().map_or(0, |row| row.len()),
        };
        let mut memory = allocate(shape.size())?;
        memory
            .par_chunks_mut(shape.panel_bytes().max(1))
            .enumerate()
            .try_for_each(|(panel, bytes)| {
                let rows = &rows[shape.rows_of(panel)];
                rows.iter()
                    .enumerate()
                    .try_for_each(|(column, row)| pack_column(row, column, format, bytes))
            })?;
        Ok(Self {
            shape,
            memory: Memory::Own(memory),
        })
    }

    /// A weight that was packed before; `None` when the bytes aren't as many as its shape has.
    pub fn mapped(shape: PackedShape, bytes: MappedBytes) -> Option<Self> {
        (bytes.len() == shape.size()).then_some(Self {
            shape,
            memory: Memory::File(bytes),
        })
    }

    /// Whether it lies in a file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.memory, Memory::File(_))
    }

    /// The bytes of every panel, one after the other.
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Own(memory) => &memory[..self.shape.size()],
            Memory::File(bytes) => bytes,
        }
    }

    /// Row `row` of the weight, as it is after rounding; `to` takes `in_features` values.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn unpack_row(&self, row: usize, to: &mut [f32]) {
        let shape = self.shape;
        assert!(row < shape.out_features, "no row {row}");
        assert_eq!(to.len(), shape.in_features);
        let (panel, column) = shape.place_of(row);
        let panel = &self.bytes()[panel * shape.panel_bytes()..][..shape.panel_bytes()];
        let blocks = panel.chunks(shape.format.block_bytes());
        for (block, to) in blocks.zip(to.chunks_mut(DEPTH)) {
            for (k, to) in to.iter_mut().enumerate() {
                *to = value(shape.format, block, column, k);
            }
        }
    }
}

/// Zeroed memory, aligned to a page, in large pages where the system has them.
fn allocate(bytes: usize) -> std::io::Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes.max(1))?;
    // Miri knows no advice.
    #[cfg(all(target_os = "linux", not(miri)))]
    if let Err(error) = memory.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%error, "weights don't lie in large pages");
    }
    Ok(memory)
}
