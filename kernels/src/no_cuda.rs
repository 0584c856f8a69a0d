//! Stands for the kernels of a GPU in a binary that was built without them. No tensor lies on a GPU
//! then, so nothing here is ever called.

use candle_core::{Device, Error, Result, Tensor};

use super::attention::{CachedRows, RowPlaces, Scoring};
use super::{Card, Epilogue, Likeliest, Norm, Report};

pub(crate) use super::no_graph::Graph;

pub(crate) fn card(_: usize) -> Result<Card> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn places(
    _: &[(u32, u32)],
    _: &[(u32, u32)],
    _: usize,
    _: &Device,
) -> Result<RowPlaces> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn attend_rows(
    _: &Tensor,
    _: (&Tensor, &Tensor),
    _: (&Tensor, &Tensor),
    _: &CachedRows<'_>,
    _: Scoring,
) -> Result<Tensor> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn attend_images(_: &Tensor, _: usize, _: usize, _: Scoring) -> Result<Tensor> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn rms_norm(_: &Tensor, _: &Tensor, _: Option<&Tensor>, _: f32) -> Result<Tensor> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn layer_norm(_: &Tensor, _: &Tensor, _: &Tensor, _: f32) -> Result<Tensor> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn product(
    _: &Tensor,
    _: Option<Norm<'_>>,
    _: &Tensor,
    _: bool,
    _: Epilogue<'_>,
) -> Result<Tensor> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn finish(_: &Tensor, _: bool, _: Epilogue<'_>) -> Result<Tensor> {
    Err(Error::NotCompiledWithCudaSupport)
}

#[expect(dead_code, reason = "kernels of a GPU read them")]
pub(crate) struct LowRankRows<'a> {
    pub down: &'a Tensor,
    pub up: &'a Tensor,
    pub bias: Option<&'a Tensor>,
    pub rows: &'a Tensor,
}

pub(crate) fn add_low_rank(_: &Tensor, _: &Tensor, _: &[LowRankRows<'_>]) -> Result<()> {
    Err(Error::NotCompiledWithCudaSupport)
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Tiles {}

impl Tiles {
    pub(crate) fn new(_: &[&[f32]], _: bool, _: &Device) -> Result<Self> {
        Err(Error::NotCompiledWithCudaSupport)
    }

    pub(crate) fn product(
        &self,
        _: &Tensor,
        _: Option<Norm<'_>>,
        _: usize,
        _: Epilogue<'_>,
    ) -> Result<Tensor> {
        match *self {}
    }

    pub(crate) fn rows(&self, _: &Tensor) -> Result<Tensor> {
        match *self {}
    }
}

pub(crate) fn logits(_: &Tensor, _: usize, _: Option<f64>) -> Result<Tensor> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub(crate) fn likeliest(_: &Tensor, _: &[Option<Report>]) -> Result<Vec<Likeliest>> {
    Err(Error::NotCompiledWithCudaSupport)
}
