from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from laws import failed_save_changes_nothing
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from audiogen.interfaces import AudiogenError
from audiogen.storage import (
    HugePages,
    Storage,
    TensorFile,
    Weights,
    fill_module,
    fingerprint,
    is_finite,
    load_weights,
    save_weights,
)


def tensors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(96, 64, generator=random) * torch.logspace(-6, 1, 96)[:, None]
    rows[5] = 0
    return {
        "table": rows,
        "small": torch.randn(8, 8, generator=random),
        "bias": torch.randn(64, generator=random),
        "steps": torch.tensor([1, 2**40]),
    }


def saved(folder: Path, storage: Storage = "float32") -> Path:
    save_weights(folder / "model", "thing", {"size": 3}, tensors(), storage)
    return folder / "model"


def test_float32_is_exact(tmp_path: Path) -> None:
    config, found = load_weights(saved(tmp_path), "thing")
    assert config == {"size": 3} and found.keys() == tensors().keys()
    for name, value in tensors().items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_rounding_is_bounded(tmp_path: Path, storage: Storage) -> None:
    _, found = load_weights(saved(tmp_path, storage), "thing")
    assert torch.equal(found["steps"], tensors()["steps"])
    for name in ("table", "small", "bias"):
        value, back = tensors()[name], found[name]
        assert back.dtype == torch.float32 and back.shape == value.shape
        allowed = value.abs() * 2**-11 + 2**-25  # half a unit in the last place of float16
        if storage == "int8" and name == "table":
            top = value.abs().amax(1, keepdim=True)
            allowed = top / 254 * 1.001 + top * 2**-11 + 127 * 2**-25  # half a level, and the scale's own rounding
        assert bool(((back - value).abs() <= allowed).all()), name
    assert not found["table"][5].any()


def test_int8_takes_a_quarter_and_a_little(tmp_path: Path) -> None:
    weight = {"weight": torch.randn(512, 512)}
    size = {}
    for storage in ("float32", "int8"):
        save_weights(tmp_path / storage, "thing", {}, weight, storage)  # type: ignore[arg-type]
        size[storage] = sum(path.stat().st_size for path in (tmp_path / storage).iterdir())
    assert size["int8"] < 0.27 * size["float32"]


def test_shards_stay_small_and_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiogen.storage._SHARD_BYTES", 20_000)
    many = {f"layer{index:02d}": torch.full((1000,), float(index)) for index in range(12)} | {"big": torch.ones(9000)}
    save_weights(tmp_path / "model", "thing", {}, many, "float32")
    shards = sorted((tmp_path / "model").glob("*.safetensors"))
    assert len(shards) == 4 and shards[0].name == "model-00001-of-00004.safetensors"
    assert all(path.stat().st_size < 21_000 for path in shards[1:])  # only a single large tensor may be larger
    _, found = load_weights(tmp_path / "model", "thing")
    assert found.keys() == many.keys() and all(torch.equal(found[name], many[name]) for name in many)


def test_saving_again_replaces(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model" / "stale.safetensors").write_bytes(b"")
    saved(tmp_path, "int8")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json", "model-00001-of-00001.safetensors",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_failed_save_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):  # once with nothing there, once over a model
        failed_save_changes_nothing(
            lambda: saved(tmp_path), tmp_path / "model", "safetensors.torch.save_file", monkeypatch
        )
        saved(tmp_path)


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(AudiogenError, match=r"model: the model could not be written.*No space"):
        saved(tmp_path)


def test_missing_foreign_and_broken_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"nowhere/config.json: there is no such file"):
        load_weights(tmp_path / "nowhere", "thing")
    folder = saved(tmp_path)
    with pytest.raises(AudiogenError, match=r"model: not a other of format 1"):
        load_weights(folder, "other")
    for text, words in (
        ('{"format": 1, "kind": "thi', "not readable as JSON"),
        ("[1, 2]", "not a thing"),
        ('{"architectures": ["Llama"], "model_type": "llama"}', "not a thing"),
        ('{"format": 1, "kind": "thing"}', "not a thing"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(AudiogenError, match=words):
            load_weights(folder, "thing")


def test_a_truncated_shard_and_a_missing_one_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    shard = folder / "model-00001-of-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(AudiogenError, match=r"model-00001-of-00001.safetensors: missing or damaged"):
        load_weights(folder, "thing")
    shard.unlink()
    with pytest.raises(AudiogenError, match=r"model-00001-of-00001.safetensors: missing or damaged"):
        load_weights(folder, "thing")


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ""])
def test_a_shard_name_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path)
    (folder / "model-00001-of-00001.safetensors").rename(tmp_path / "outside.safetensors")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"shards": [name]}))
    with pytest.raises(AudiogenError, match=r"leads out of the folder|missing or damaged"):
        load_weights(folder, "thing")


def test_weights_that_do_not_fit_or_are_not_numbers_are_named() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(AudiogenError, match=r"here: the weights do not fit.*bias"):
        fill_module(module, {"weight": torch.zeros(2, 3)}, "here")
    with pytest.raises(AudiogenError, match=r"here: the weights do not fit.*weight"):
        fill_module(module, {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "here")
    with pytest.raises(AudiogenError, match=r"here: weight hold NaN"):
        fill_module(module, {"weight": torch.full((2, 3), float("nan")), "bias": torch.zeros(2)}, "here")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 700, 2999])
def test_one_value_that_is_not_finite_is_seen(dtype: torch.dtype, value: float, place: int) -> None:
    weight = torch.linspace(-9, 9, 3000).to(dtype).view(60, 50)
    assert is_finite(weight) and is_finite(weight.T) and is_finite(weight[:0])
    weight.view(-1)[place] = value
    assert not is_finite(weight) and not is_finite(nn.Parameter(weight).T)


def test_looking_at_values_sets_nothing_aside() -> None:
    """Copies that come and go have left holes of a hundred megabytes in the heap."""
    made: list[int] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            values = found if isinstance(found, tuple) else (found,)
            made.extend(value.untyped_storage().nbytes() for value in values if isinstance(value, Tensor))
            return found

    weight = torch.randn(60, 50)
    with Watch():
        assert is_finite(weight)
    assert made and max(size for size in made if size != weight.untyped_storage().nbytes()) <= 8


def test_fingerprint_sees_names_shapes_and_values_but_not_order() -> None:
    a, b = torch.arange(6.0), torch.ones(2)
    print_ = fingerprint([("a", a), ("b", b)])
    assert print_ == fingerprint([("b", b), ("a", a)]) and len(print_) == 16
    changed = [[("a", a), ("c", b)], [("a", a.view(2, 3)), ("b", b)], [("a", a + 1e-6), ("b", b)], [("a", a)]]
    assert len({print_, *map(fingerprint, changed)}) == 5


# --- one tensor at a time ---------------------------------------------------------------------------------------------

KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool)


def test_a_tensor_is_read_as_it_was_written(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    made = {str(kind): (torch.randn(3, 7) * 9).to(kind) for kind in KINDS}
    made |= {"none": torch.zeros(0, 3), "one": torch.tensor(4.0), "large": torch.randn(600, 700).bfloat16()}
    save_file(made, path, metadata={"format": "pt"})
    file = TensorFile(path)
    assert sorted(file.names()) == sorted(made)
    for name, value in made.items():
        found = file.read(name)
        assert found.dtype == value.dtype and file.shape(name) == list(value.shape) and torch.equal(found, value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
def test_no_page_of_the_file_is_held(tmp_path: Path) -> None:
    save_weights(tmp_path / "model", "thing", {}, {"large": torch.randn(600, 700)}, "float32")
    weights = Weights(tmp_path / "model", "thing")
    value = weights.read("large")
    assert value.shape == (600, 700) and "model-00001" not in Path("/proc/self/maps").read_text()


def test_a_file_cut_while_it_is_read(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    weights, shard = Weights(folder, "thing"), folder / "model-00001-of-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(AudiogenError, match=r"00001\.safetensors: truncated while it was read"):
        weights.read("table")


def test_tensors_that_stay_lie_side_by_side() -> None:
    pages = HugePages()
    first, second, large = (pages.zeros(shape, torch.int8) for shape in ((3, 5), (70,), (40, 2**20)))
    values = pages.zeros((6, 4), torch.bfloat16)
    for tensor, value in ((first, 1), (second, 2), (large, 3), (values, 4)):
        assert not tensor.any() and tensor.data_ptr() % 64 == 0
        tensor.fill_(value)
    assert [int(t.sum()) for t in (first, second, large, values)] == [15, 140, 3 * 40 * 2**20, 96]
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert second.data_ptr() - first.data_ptr() == 64 and large.data_ptr() % 2**21 == 0
