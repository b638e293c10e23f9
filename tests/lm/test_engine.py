"""Which device, precision and engine a machine settles on."""

from __future__ import annotations

import pytest
import torch
from tiny import LSTM, language_model

from audiogen.interfaces import AudiogenError
from audiogen.lm.engine import EagerEngine, make_engine, settle_device, settle_precision
from audiogen.lm.graphed import GraphedEngine


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, built: str | None = "13.0") -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.version.cuda", built)


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert settle_device("auto") == settle_device("cpu") == torch.device("cpu")
    gpus(monkeypatch, 2)
    assert settle_device("auto") == settle_device("cuda") == torch.device("cuda", 0)
    assert settle_device("cuda:1") == torch.device("cuda", 1) and settle_device("cpu") == torch.device("cpu")
    assert settle_device("auto", "int8") == torch.device("cpu")  # which only the CPU computes


@pytest.mark.parametrize(
    ("device", "count", "built", "message"),
    [
        ("cuda", 0, None, "is built without CUDA: install a build for CUDA, or use cpu"),
        ("cuda:1", 0, "13.0", r"device cuda:1: .* finds no GPU here: install NVIDIA's driver"),
        ("cuda:2", 2, "13.0", "this machine's GPUs are cuda:0 to cuda:1"),
        ("gpu", 1, "13.0", "device 'gpu': expected auto, cpu, cuda, or cuda:1"),
        ("cuda:-1", 1, "13.0", "device 'cuda:-1': expected"),
        ("", 1, "13.0", "device '': expected"),
    ],
)
def test_devices_that_are_not_there(
    device: str, count: int, built: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, count, built)
    with pytest.raises(AudiogenError, match=message):
        settle_device(device)


def test_int8_is_not_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 1)
    with pytest.raises(AudiogenError, match="int8 is for CPUs"):
        settle_device("cuda", "int8")
    for ours in (True, False):
        assert settle_precision("auto", ours, device=torch.device("cuda", 0)) == "bfloat16"


@pytest.mark.gpu
def test_engines_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    assert isinstance(make_engine(language_model(), "bfloat16", device=device), GraphedEngine)
    assert isinstance(make_engine(language_model(config=LSTM), "bfloat16", device=device), EagerEngine)
