from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen.audio.io import write
from audiogen.evaluation import clap
from audiogen.evaluation.clap import NotAtHand, embeddings, find_weights
from audiogen.interfaces import AudiogenError, Waveform
from tests import tiny


def quiet(done: float, total: float) -> None:
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLAP of random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clap")
    audio = {
        "depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2, "hidden_size": 32,
        "patch_embeds_hidden_size": 16, "window_size": 8, "num_mel_bins": 64,
    }  # fmt: skip
    text = {
        "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=24)
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50).save_pretrained(folder)
    return folder


def test_a_row_for_each_window_and_none_is_made_twice(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "short.wav", tmp_path / "long.wav"]
    for path, seconds in zip(paths, (4.0, 21.0), strict=True):
        write(path, Waveform(tiny.notes(seconds, seed=round(seconds)), tiny.RATE))
    found = embeddings(weights, paths, tmp_path / "kept", 1, quiet)
    assert found.shape == (3, 24) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.abs(found[1] - found[2]).max() > 1e-4  # windows are heard, not their number
    monkeypatch.setattr(clap, "_embed", lambda folder, path: pytest.fail("made twice"))
    assert np.array_equal(embeddings(weights, paths, tmp_path / "kept", 1, quiet), found)


def test_its_vectors_are_those_of_the_whole_model(weights: Path, tmp_path: Path) -> None:
    import transformers

    path = tmp_path / "ten.wav"
    write(path, Waveform(tiny.notes(10.0, seed=3), 48_000))
    model = transformers.ClapModel.from_pretrained(weights).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(weights)
    from audiogen.audio.io import read

    given = extractor(read(path, 48_000, 1).samples[0].numpy()[:480_000], sampling_rate=48_000, return_tensors="pt")
    with torch.inference_mode():
        told = model(input_ids=torch.zeros(1, 4, dtype=torch.long), attention_mask=torch.ones(1, 4), **given)
    found = embeddings(weights, [path], tmp_path / "kept", 1, quiet)
    assert np.allclose(found[0], told.audio_embeds[0].numpy(), atol=1e-5)


def test_weights_that_are_there_and_weights_that_are_not(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_weights(str(weights)) == weights
    monkeypatch.setattr(clap, "cached", lambda name: None)
    with pytest.raises(NotAtHand, match=r"save_pretrained\('clap'\)"):
        find_weights(None)
    monkeypatch.setattr(clap, "cached", lambda name: weights)
    assert find_weights(None) == weights

    def unreachable(name: str) -> Path:
        raise AudiogenError("no network")

    monkeypatch.setattr(clap, "fetch", unreachable)
    with pytest.raises(NotAtHand, match="someone/clap"):
        find_weights("someone/clap")
    with pytest.raises(AudiogenError, match="holds no config"):
        find_weights(str(tmp_path))
    with pytest.raises(AudiogenError, match="neither a folder"):
        find_weights("nowhere")


def test_weights_of_something_else(weights: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", Waveform(tiny.notes(4.0), tiny.RATE))
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (broken / name).write_bytes((weights / name).read_bytes())
    (broken / "model.safetensors").write_bytes(b"half")
    with pytest.raises(AudiogenError, match="broken"):
        embeddings(broken, [tmp_path / "a.wav"], tmp_path / "kept", 1, quiet)
