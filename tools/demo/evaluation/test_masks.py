"""The mask decoder, against masks that PyTorch decoded for the server's tests."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from masks import Masks  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


def test_codes_become_the_same_masks():
    golden = safetensors.load_file(ROOT / "tests" / "goldens" / "masks" / "golden.safetensors")
    masks = Masks(ROOT / "models" / "demo" / "vae-oid.safetensors")
    for codes, wanted in zip(golden["codes"].tolist(), golden["masks"]):
        assert torch.allclose(torch.from_numpy(masks.decode(codes)), wanted, atol=1e-3)


def test_a_mask_fills_its_box_of_the_picture():
    masks = Masks(ROOT / "models" / "demo" / "vae-oid.safetensors")
    masks.decode = lambda codes: torch.ones(64, 64).numpy()
    whole = masks.whole((0.25, 0.0, 0.5, 0.5), [0] * 16, width=40, height=20)
    assert whole.shape == (20, 40) and whole.sum() == 10 * 10 and whole[:10, 10:20].all()
