//! Packed weights that are kept on disk give the model that the checkpoint gives.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use paligemma_server::models::{
    Budget, Model, PaliGemma, Picture, Prefix, Pretrained, WeightFormat,
};
use paligemma_test_support::golden::Golden;
use tempfile::TempDir;

const FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4K];

fn golden() -> Golden {
    Golden::all().swap_remove(0)
}

fn load(folder: &Path, cache: Option<&Path>, format: WeightFormat) -> PaliGemma {
    let mut checkpoint = Pretrained::open(folder).unwrap();
    checkpoint.weights_cache = cache.map(Path::to_owned);
    checkpoint.load(&Device::Cpu, format).unwrap()
}

/// The bits of an image's features and of a prompt's logits.
fn answer(golden: &Golden, model: &PaliGemma) -> Vec<u32> {
    let all = Budget {
        token_layers: usize::MAX,
    };
    let pixels = golden.pixels(0);
    let picture = Picture::from(pixels.as_slice());
    let mut encode = model.begin_encode(&[picture]).unwrap();
    while !model.advance_encode(&mut encode, all).unwrap().done {}
    let features = model.finish_encode(encode).unwrap().remove(0);
    let prefix = Prefix {
        slot: 0,
        adapter: None,
        features: &features,
        tokens: &golden.cases[0].prompt_ids,
        generated: &[],
    };
    let mut cache = model.new_cache(1, model.image_tokens() + 64).unwrap();
    let mut prefill = model.begin_prefill(&[prefix]).unwrap();
    let logits = loop {
        let step = model
            .step(&mut cache, Some((&mut prefill, all)), &[])
            .unwrap();
        if let Some(logits) = step.logits {
            break logits;
        }
    };
    let values = [features, logits].map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    values.concat().into_iter().map(f32::to_bits).collect()
}

/// The files of packed weights.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "safetensors"))
        .collect();
    files.sort();
    files
}

/// A folder into which a format's weights were packed.
fn filled(golden: &Golden, format: WeightFormat) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    load(&golden.folder, Some(folder.path()), format);
    let mut files = files(folder.path());
    assert_eq!(files.len(), 1, "{files:?}");
    (folder, files.remove(0))
}

fn copy_of(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

#[test]
fn cached_weights_answer_as_those_that_were_just_packed() {
    let golden = golden();
    for format in FORMATS {
        let expected = answer(&golden, &load(&golden.folder, None, format));
        let (folder, file) = filled(&golden, format);
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let model = load(&golden.folder, Some(folder.path()), format);
        assert_eq!(answer(&golden, &model), expected, "{format}");
        // Nothing was written again, so nothing was packed again.
        let again = fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(again, written, "{format}");
    }
}

#[test]
fn damage_is_noticed_and_mended() {
    let golden = golden();
    let format = WeightFormat::Q8_0;
    let expected = answer(&golden, &load(&golden.folder, None, format));
    let (folder, file) = filled(&golden, format);
    let good = fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damages = [
        ("the last byte is wrong", flipped(good.len() - 1)),
        ("a byte in the middle is wrong", flipped(good.len() / 2)),
        ("the header is no JSON", flipped(8)),
        ("the end is missing", good[..good.len() - 100].to_vec()),
        ("it is empty", Vec::new()),
        ("it is text", b"hello".to_vec()),
    ];
    for (damage, bytes) in damages {
        fs::write(&file, bytes).unwrap();
        let model = load(&golden.folder, Some(folder.path()), format);
        assert_eq!(answer(&golden, &model), expected, "{damage}");
        assert_eq!(fs::read(&file).unwrap().len(), good.len(), "{damage}");
        let model = load(&golden.folder, Some(folder.path()), format);
        assert_eq!(answer(&golden, &model), expected, "{damage}, mended");
    }
}

#[test]
fn a_format_has_a_file_of_its_own() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    for (i, format) in FORMATS.into_iter().enumerate() {
        load(&golden.folder, Some(folder.path()), format);
        assert_eq!(files(folder.path()).len(), i + 1);
    }
}

#[test]
fn weights_that_were_changed_in_place_are_packed_anew() {
    let golden = golden();
    let checkpoint = copy_of(&golden.folder);
    let (folder, _) = filled(&golden, WeightFormat::F32);
    load(checkpoint.path(), Some(folder.path()), WeightFormat::F32);
    assert_eq!(files(folder.path()).len(), 1, "a copy has the same content");
    // One bit of the last tensor; neither a size nor a shape changes.
    let weights = checkpoint.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let at = bytes.len() - 2;
    bytes[at] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let cached = load(checkpoint.path(), Some(folder.path()), WeightFormat::F32);
    assert_eq!(files(folder.path()).len(), 2);
    let fresh = load(checkpoint.path(), None, WeightFormat::F32);
    assert_eq!(answer(&golden, &cached), answer(&golden, &fresh));
}

#[test]
fn a_folder_that_cannot_be_written_costs_only_the_cache() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    load(
        &golden.folder,
        Some(&file.join("cache")),
        WeightFormat::Q8_0,
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "no folder");
}
