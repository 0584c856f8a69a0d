//! Rows of attention heads.

/// Rows of heads, `[rows, heads, width]`, whose values lie side by side within a head.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    /// From the first head of the first row to the end of the last.
    pub values: &'a [f32],
    pub rows: usize,
    pub heads: usize,
    pub width: usize,
    /// From a row to the next, in values.
    pub row_stride: usize,
    /// From a head to the next, in values.
    pub head_stride: usize,
}

impl<'a> Heads<'a> {
    pub fn at(&self, row: usize, head: usize) -> &'a [f32] {
        &self.values[row * self.row_stride + head * self.head_stride..][..self.width]
    }

    /// # Panics
    /// When the values end before the last row does.
    pub fn check(&self) {
        if self.rows > 0 && self.heads > 0 {
            self.at(self.rows - 1, self.heads - 1);
        }
    }
}
