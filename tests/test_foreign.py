"""Files in the layout of transformers: what is whole is read, what is not is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audiogen.foreign import Checkpoint
from audiogen.interfaces import AudiogenError

TENSORS = {"a.x": torch.arange(6.0).view(2, 3), "a.y": torch.ones(4), "b.z": torch.ones(2, 2, dtype=torch.bfloat16)}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "musicgen"}')
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    table = {"a.x": "one.safetensors", "a.y": "one.safetensors", "b.z": "two.safetensors"}
    for file in set(table.values()):
        save_file({name: TENSORS[name] for name in table if table[name] == file}, tmp_path / file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": table}))
    return tmp_path


@pytest.mark.parametrize("layout", ["whole", "sharded"])
def test_what_is_whole_is_read(layout: str, request: pytest.FixtureRequest) -> None:
    checkpoint = Checkpoint(request.getfixturevalue(layout))
    assert checkpoint.shapes == {name: list(value.shape) for name, value in TENSORS.items()}
    assert checkpoint.names("a.") == ["x", "y"]
    checkpoint.check("a.", {"x": [2, 3]}, ignored=["y", "z"])
    for name, value in TENSORS.items():
        read = checkpoint.read(name, torch.float32)
        assert read.dtype == torch.float32 and torch.equal(read, value.float())


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"x": [2, 3]}, r"tensors not known: a\.y"),
        ({"x": [2, 3], "y": [4], "w": [1]}, r"tensors missing: a\.w"),
        ({"x": [3, 2], "y": [4]}, r"a\.x is \[2, 3\] instead of \[3, 2\]"),
        ({f"w{n}": [1] for n in range(9)}, "and 6 more"),
    ],
)
def test_what_does_not_fit_is_named(whole: Path, expected: dict[str, list[int]], message: str) -> None:
    with pytest.raises(AudiogenError, match=message):
        Checkpoint(whole).check("a.", expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(whole: Path, value: float) -> None:
    save_file(TENSORS | {"a.y": torch.tensor([0, value, 0, 0])}, whole / "model.safetensors")
    checkpoint = Checkpoint(whole)
    checkpoint.read("a.x", torch.float32)
    with pytest.raises(AudiogenError, match=r"a\.y holds NaN or infinite"):
        checkpoint.read("a.y", torch.float32)


def test_integers_are_no_weights(whole: Path) -> None:
    save_file(TENSORS | {"a.y": torch.ones(4, dtype=torch.int64)}, whole / "model.safetensors")
    with pytest.raises(AudiogenError, match=r"a\.y is I64"):
        Checkpoint(whole)


def test_a_truncated_shard_is_named(sharded: Path) -> None:
    path = sharded / "two.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(AudiogenError, match=r"two\.safetensors: truncated or damaged"):
        Checkpoint(sharded)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "two.safetensors").unlink()
    with pytest.raises(AudiogenError, match=r"two\.safetensors: missing, although"):
        Checkpoint(sharded)


@pytest.mark.parametrize("name", ["../out.safetensors", "/etc/x.safetensors", "in/x.safetensors", "x.bin", "..", ""])
def test_an_index_that_leads_elsewhere(sharded: Path, name: str) -> None:
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a.x": name}}))
    save_file(TENSORS, sharded.parent / "out.safetensors")
    with pytest.raises(AudiogenError, match=r"index\.json: the shard .* leads out of the folder"):
        Checkpoint(sharded)


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "{"])
def test_an_index_that_is_none(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_text(text)
    with pytest.raises(AudiogenError, match=r"index\.json"):
        Checkpoint(sharded)


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    save_file(load_file(sharded / "one.safetensors"), sharded / "two.safetensors")
    with pytest.raises(AudiogenError, match=r"is in one\.safetensors too"):
        Checkpoint(sharded)


def test_a_pickle_is_refused_and_not_run(whole: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("the pickle ran",))

    (whole / "model.safetensors").unlink()
    (whole / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(AudiogenError, match=r"pytorch_model\.bin: a pickle, which can run any code"):
        Checkpoint(whole)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"config\.json: there is no such file"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(AudiogenError, match="expected a JSON object"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AudiogenError, match=r"neither model\.safetensors nor"):
        Checkpoint(tmp_path)
