//! Mask codes to masks, against PyTorch: see `tests/goldens/masks/README.md`.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use paligemma_server::models::MASK_SIDE;
use paligemma_server::models::{demo_mask_decoder, mask_decoder_in, open_mask_decoder};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes the demo's decoder as NumPy does, and returns the file's bytes.
fn published_file(path: &Path) -> Vec<u8> {
    let tensors = root().join("models/demo/vae-oid.safetensors");
    let tensors = candle_core::safetensors::load(tensors, &Device::Cpu).unwrap();
    Tensor::write_npz(&tensors.into_iter().collect::<Vec<_>>(), path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn masks_equal_those_of_the_reference() {
    let path = root().join("tests/goldens/masks/golden.safetensors");
    let golden = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let codes = golden["codes"].to_vec2::<u8>().unwrap();
    let masks = golden["masks"].to_dtype(DType::F32).unwrap();
    let decoder = demo_mask_decoder().unwrap();
    assert_eq!(codes.len(), 16);
    for (index, codes) in codes.iter().enumerate() {
        let expected: Vec<f32> = masks
            .get(index)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let mask = decoder.decode(codes).unwrap();
        assert_eq!(mask.len(), MASK_SIDE * MASK_SIDE);
        let worst = mask
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-4, "mask {index} is off by {worst}");
    }
}

#[test]
fn a_file_is_read_as_the_embedded_one_is() {
    let codes: Vec<u8> = (0..16).collect();
    let embedded = demo_mask_decoder().unwrap().decode(&codes).unwrap();
    let published = tempfile::tempdir().unwrap();
    published_file(&published.path().join("vae-oid.npz"));
    for folder in [&root().join("models/demo"), published.path()] {
        let decoder = mask_decoder_in(folder).unwrap().unwrap();
        assert_eq!(decoder.decode(&codes).unwrap(), embedded);
    }
}

#[test]
fn a_folder_without_the_file_has_no_decoder() {
    let folder = tempfile::tempdir().unwrap();
    assert!(mask_decoder_in(folder.path()).unwrap().is_none());
}

#[test]
fn an_array_that_claims_to_be_huge_is_refused_before_it_has_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vae-oid.npz");
    let array = Tensor::zeros(&[1; 10], DType::F32, &Device::Cpu).unwrap();
    Tensor::write_npz(&[("decoder.0.bias", array)], &path).unwrap();
    let file = std::fs::read(&path).unwrap();
    let shape = b"1,1,1,1,1,1,1,1,1,1,";
    let at = file.windows(shape.len()).position(|bytes| bytes == shape);
    let at = at.expect("the shape stands in the file as text");
    for huge in [b"4294967296,65536000,", b"9999999999,999999999"] {
        let mut file = file.clone();
        file[at..at + huge.len()].copy_from_slice(huge);
        std::fs::write(&path, file).unwrap();
        let message = open_mask_decoder(&path).unwrap_err().to_string();
        assert!(
            message.contains("larger than any mask decoder"),
            "{message}"
        );
    }
}

#[test]
fn a_file_that_is_not_a_decoder_is_refused_with_its_name_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = std::fs::read(root().join("models/demo/vae-oid.safetensors")).unwrap();
    let archive = published_file(&folder.path().join("whole.npz"));
    for (path, words) in [
        (write("text.npz", b"not an archive"), "archive"),
        (write("cut.npz", &archive[..archive.len() / 2]), "archive"),
        (write("text.safetensors", b"no tensors"), "header"),
        (
            write("cut.safetensors", &whole[..whole.len() / 2]),
            "incomplete",
        ),
        (
            root().join("tests/goldens/masks/nowhere.npz"),
            "No such file",
        ),
    ] {
        let message = open_mask_decoder(&path).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains(words), "{message}");
    }
}
