//! Quantised weights that are damaged, or made to harm, are refused in one line and never panic.

use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use super::{assert_says, checkpoint, golden, refusal};

/// The layer whose tensors are changed.
const LAYER: &str = "language_model.model.layers.0.mlp.down_proj";
const STATE: &str = "weight.quant_state.bitsandbytes__nf4";

/// A tensor that a test may change.
struct Owned {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The refusal of a checkpoint whose file has other tensors; `change` gets the names and what they name.
fn refusal_after(name: &str, change: impl FnOnce(&mut Vec<(String, Owned)>)) -> String {
    let folder = checkpoint(&golden(name));
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |view: TensorView<'_>| Owned {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    let mut tensors: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), owned(view)))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, it)| {
        let view = TensorView::new(it.dtype, it.shape.clone(), &it.bytes);
        (name, view.unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    refusal(folder.path())
}

/// The same with another content of one tensor of the layer, as bytes of a flat tensor.
fn refusal_with(name: &str, tensor: &str, change: impl FnOnce(&mut Owned)) -> String {
    let wanted = format!("{LAYER}.{tensor}");
    let error = refusal_after(name, |tensors| {
        let found = tensors.iter_mut().find(|(name, _)| *name == wanted);
        change(&mut found.unwrap_or_else(|| panic!("no {wanted}")).1);
    });
    assert_says(&error, &["layers.0.mlp.down_proj.weight"]);
    error
}

/// The same with other fields in the JSON of the layer.
fn refusal_of_state(name: &str, change: impl FnOnce(&mut Value)) -> String {
    refusal_with(name, STATE, |tensor| {
        let mut state = serde_json::from_slice(&tensor.bytes).unwrap();
        change(&mut state);
        replace(tensor, state.to_string().into_bytes());
    })
}

fn replace(tensor: &mut Owned, bytes: Vec<u8>) {
    let width = tensor.bytes.len() / tensor.shape.iter().product::<usize>().max(1);
    tensor.shape = vec![bytes.len() / width];
    tensor.bytes = bytes;
}

fn cut(tensor: &mut Owned, bytes: usize) {
    let mut kept = tensor.bytes.clone();
    kept.truncate(kept.len() - bytes);
    replace(tensor, kept);
}

#[test]
fn tensors_of_another_length_than_the_shape_asks_for() {
    for (name, tensor, bytes, words) in [
        ("nf4", "weight", 1, ["767 bytes", "takes 768"]),
        ("nf4", "weight.absmax", 4, ["absmax", "23 values of F32"]),
        ("nf4-double", "weight.absmax", 1, ["absmax", "of U8"]),
        (
            "nf4-double",
            "weight.nested_absmax",
            4,
            ["nested_absmax", "0 values"],
        ),
        (
            "nf4-double",
            "weight.nested_quant_map",
            4,
            ["nested_quant_map", "255"],
        ),
        ("nf4", "weight.quant_map", 4, ["quant_map", "15 values"]),
        ("int8", "SCB", 4, ["SCB", "23 values"]),
        ("int8", "weight", 24, ["down_proj.weight", "shape"]),
    ] {
        let error = refusal_with(name, tensor, |tensor| cut(tensor, bytes));
        assert_says(&error, &words);
    }
}

#[test]
fn tensors_of_another_dtype() {
    for (name, tensor) in [
        ("nf4", "weight.absmax"),
        ("nf4", "weight.quant_map"),
        ("int8", "SCB"),
    ] {
        let error = refusal_with(name, tensor, |tensor| tensor.dtype = Dtype::I32);
        assert_says(&error, &["of I32", "of F32"]);
    }
    let error = refusal_with("int8", "weight", |tensor| tensor.dtype = Dtype::U8);
    assert_says(&error, &["SCB", "U8"]);
    let error = refusal_with("nf4", STATE, |tensor| tensor.dtype = Dtype::I8);
    assert_says(&error, &["quant_state", "I8"]);
}

#[test]
fn tensors_that_are_not_there() {
    for (name, tensor) in [
        ("nf4", "weight"),
        ("nf4", "weight.absmax"),
        ("nf4", "weight.quant_map"),
        ("nf4", STATE),
        ("nf4-double", "weight.nested_absmax"),
        ("nf4-double", "weight.nested_quant_map"),
        ("int8", "weight"),
    ] {
        let wanted = format!("{LAYER}.{tensor}");
        let error = refusal_after(name, |tensors| tensors.retain(|(name, _)| *name != wanted));
        assert_says(&error, &["layers.0.mlp.down_proj.weight", "bitsandbytes"]);
    }
    // Codes alone are no weights.
    let error = refusal_after("int8", |tensors| {
        tensors.retain(|(name, _)| !name.ends_with(".SCB") && !name.ends_with("weight_format"));
    });
    assert_says(&error, &["stored as I8", "bf16, f16 or f32"]);
}

#[test]
fn blocks_of_a_size_that_none_has() {
    for size in [json!(0), json!(63), json!(8192), json!(u64::MAX)] {
        let error = refusal_of_state("nf4", |state| state["blocksize"] = size.clone());
        assert_says(&error, &["blocksize", &size.to_string()]);
        let error = refusal_of_state("nf4-double", |state| {
            state["nested_blocksize"] = size.clone();
        });
        assert_says(&error, &["nested_blocksize", &size.to_string()]);
    }
    // A size that others have is not this weight's.
    let error = refusal_of_state("nf4", |state| state["blocksize"] = json!(128));
    assert_says(&error, &["absmax", "24 values", "12 of F32"]);
    refusal_of_state("nf4", |state| state["blocksize"] = json!(-64));
    refusal_of_state("nf4", |state| state["blocksize"] = json!(64.5));
}

#[test]
fn shapes_that_the_codes_do_not_have() {
    for shape in [
        json!([24, 65]),
        json!([]),
        json!([0, 64]),
        json!([u64::MAX, u64::MAX]),
        json!([1u64 << 32, 1u64 << 32]),
    ] {
        let error = refusal_of_state("nf4", |state| state["shape"] = shape);
        assert_says(&error, &["shape"]);
    }
    // As many numbers, but not what config.json asks for.
    let error = refusal_of_state("nf4", |state| state["shape"] = json!([64, 24]));
    assert_says(&error, &["[64, 24]", "config.json says [24, 64]"]);
}

#[test]
fn states_that_bitsandbytes_never_writes() {
    for (field, value) in [
        ("quant_type", json!("nf3")),
        ("quant_type", json!("fp4")),
        ("quant_type", json!("two\nlines")),
        ("dtype", json!("float8")),
        ("dtype", json!(null)),
        ("nested_dtype", json!("float16")),
        ("nested_offset", json!(null)),
        ("nested_blocksize", json!(null)),
    ] {
        let error = refusal_of_state("nf4-double", |state| state[field] = value);
        assert_says(&error, &["bitsandbytes"]);
    }
    for bytes in [&b""[..], b"[]", b"{", b"{\"quant_type\": NaN}", &[0xff; 64]] {
        let error = refusal_with("nf4", STATE, |tensor| replace(tensor, bytes.to_vec()));
        assert_says(&error, &["quant_state.bitsandbytes__nf4"]);
    }
    let error = refusal_after("nf4", |tensors| {
        let old = format!("{LAYER}.{STATE}");
        let state = tensors.iter_mut().find(|(name, _)| *name == old).unwrap();
        state.0 = old.replace("nf4", "nf5");
    });
    assert_says(&error, &["nf5"]);
    let error = refusal_with("int8", "weight_format", |tensor| tensor.bytes = vec![2]);
    assert_says(&error, &["weight_format", "[2]"]);
}

#[test]
fn numbers_that_are_not_finite() {
    for (name, tensor) in [
        ("nf4", "weight.absmax"),
        ("nf4", "weight.quant_map"),
        ("nf4-double", "weight.nested_absmax"),
        ("nf4-double", "weight.nested_quant_map"),
        ("int8", "SCB"),
    ] {
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            // The largest number times a code's overflows where the code is beyond 1.
            if bad == f32::MAX && name != "int8" {
                continue;
            }
            let error = refusal_with(name, tensor, |tensor| {
                for number in tensor.bytes.as_chunks_mut().0 {
                    *number = bad.to_le_bytes();
                }
            });
            assert_says(&error, &["not finite"]);
        }
    }
    let error = refusal_of_state("nf4-double", |state| state["nested_offset"] = json!(1e300));
    assert_says(&error, &["not finite"]);
}

#[test]
fn a_file_that_is_cut_off() {
    for name in ["nf4", "int8"] {
        let folder = checkpoint(&golden(name));
        let path = folder.path().join("model.safetensors");
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 7).unwrap();
        assert_says(&refusal(folder.path()), &["cut off"]);
    }
}

#[test]
fn what_the_configuration_says_of_it_does_not_count() {
    let folder = checkpoint(&golden("nf4"));
    let path = folder.path().join("config.json");
    let load = |path: &Path| paligemma_server::models::Pretrained::open(path).map(drop);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config
        .as_object_mut()
        .unwrap()
        .remove("quantization_config");
    fs::write(&path, config.to_string()).unwrap();
    load(folder.path()).unwrap();
    config["quantization_config"] = json!({"load_in_8bit": true, "llm_int8_threshold": "high"});
    fs::write(&path, config.to_string()).unwrap();
    load(folder.path()).unwrap();
}
