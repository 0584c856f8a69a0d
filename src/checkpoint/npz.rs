//! NumPy's `.npz`: named arrays in a ZIP archive.

use std::collections::HashMap;
use std::io::{self, Read, Seek};

use candle_core::{Device, Tensor};
use half::f16;
use npyz::{NpyFile, Order};
use zip::ZipArchive;

/// All arrays of an archive, as f32 on the CPU.
///
/// # Errors
/// When it is no such archive, is compressed, or holds arrays other than of f16 or f32, row by row.
pub fn read(file: impl Read + Seek) -> io::Result<HashMap<String, Tensor>> {
    let mut archive = ZipArchive::new(file)?;
    let mut arrays = HashMap::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let Some(name) = entry.name()?.strip_suffix(".npy").map(str::to_owned) else {
            continue;
        };
        arrays.insert(name, tensor(NpyFile::new(entry)?)?);
    }
    Ok(arrays)
}

fn tensor(file: NpyFile<impl Read>) -> io::Result<Tensor> {
    let shape: Vec<usize> = file.shape().iter().map(|&length| length as usize).collect();
    if file.order() != Order::C {
        return Err(io::Error::other("an array is stored column by column"));
    }
    let dtype = file.dtype().descr();
    let values: Vec<f32> = match dtype.as_str() {
        "'<f4'" => file.into_vec()?,
        "'<f2'" => file.into_vec::<f16>()?.into_iter().map(f32::from).collect(),
        other => {
            return Err(io::Error::other(format!(
                "an array of {other}; allowed are f2 and f4"
            )));
        }
    };
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(io::Error::other)
}
