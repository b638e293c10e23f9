from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from audiogen.audio.io import write
from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES, AudiogenError, Key, Waveform
from audiogen.style import tagger as tagger_module
from audiogen.style.ears import tempo_classes
from audiogen.style.hearing import hear
from audiogen.style.tagger import SHIPPED, Tagger, Tags, shipped_tagger, windows
from tests import tiny


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger(tiny.ears(), {"style": 0.8})


@pytest.fixture(scope="module")
def tags(tagger: Tagger) -> Tags:
    return tagger.waveform(Waveform(tiny.notes(24.0), tiny.RATE))


def test_windows_cover_everything_evenly() -> None:
    for frames in (37, 48, 127, 128, 129, 400, 2500, 45_000):
        starts, length = windows(frames)
        assert length <= 128 and length % 16 == 0 and starts[0] == 0 and starts[-1] + length <= frames
        assert frames - (starts[-1] + length) < 16
        assert all(0 < b - a <= length for a, b in pairwise(starts))
    with pytest.raises(AudiogenError, match="at least"):
        windows(15)


def test_chances_are_chances(tags: Tags) -> None:
    for name in ("style", "key", "tempo", "metre"):
        assert getattr(tags, name).sum() == pytest.approx(1, abs=1e-5)
    assert tags.moods.shape == (16,) and tags.instruments.shape == (29,)
    for values in (tags.moods, tags.instruments, tags.energy[:, 1]):
        assert values.min() >= 0 and values.max() <= 1
    assert tags.embeddings.shape == (3, 16) and tags.embedding.shape == (16,)
    assert tags.seconds == 24 and (np.diff(tags.energy[:, 0]) >= 0).all()
    assert tags.energy[0, 0] < 1 and tags.energy[-1, 0] > 22


def test_the_level_does_not_matter(tagger: Tagger, tags: Tags) -> None:
    quiet = tagger.waveform(Waveform(tiny.notes(24.0) * 0.3, tiny.RATE))
    np.testing.assert_allclose(quiet.style, tags.style, atol=0.02)
    np.testing.assert_allclose(quiet.energy, tags.energy, atol=0.03)


def test_a_file_is_heard_as_its_samples_are(tagger: Tagger, tags: Tags, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", Waveform(tiny.notes(24.0), tiny.RATE), "FLOAT")
    from_file = tagger.file(tmp_path / "a.wav")
    assert from_file.to_json() == tags.to_json()


def test_many_windows_at_once_are_as_each_alone(tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch ends does not show."""
    monkeypatch.setattr(tagger_module, "_AT_ONCE", 3)
    heard = hear(Waveform(tiny.notes(37.0, 8000), 8000))
    whole = tagger.tag(heard)
    starts, length = windows(heard.frames)
    assert len(starts) == 4
    for index in (0, 2, 3):
        alone = tagger.tag(heard.cut(starts[index], length), heard.loudest_db())
        np.testing.assert_allclose(alone.embeddings[0], whole.embeddings[index], atol=1e-4)


def made(**values: np.ndarray) -> Tags:
    """Tags that say nothing but `values`."""
    even = {"style": 10, "moods": 16, "instruments": 29, "key": 24, "tempo": 58, "metre": 2}
    arrays = {name: np.full(count, 1 / count) for name, count in even.items()} | values
    return Tags(
        10.0, **arrays, energy=np.array([[0.5, 0.2], [1.5, 0.4]]), embeddings=np.ones((1, 4)),
        tempos_bpm=tempo_classes().numpy(),
    )  # fmt: skip


def test_tempo_between_two_classes_lies_between_them() -> None:
    classes = tempo_classes().numpy()
    for bpm in (60.0, 97.3, 120.0, 174.0):
        chances = np.exp(-0.5 * (np.log(classes / bpm) / np.log(classes[0] / classes[1]) / 0.7) ** 2)
        heard = made(tempo=chances / chances.sum())
        assert heard.tempo_bpm == pytest.approx(bpm, rel=0.002)
        assert heard.tempo_sure > 0.9
    first = made(tempo=np.eye(58)[0])
    assert first.tempo_bpm == pytest.approx(float(classes[0]))


def test_names_and_what_is_likely() -> None:
    instruments = np.zeros(29)
    instruments[[2, 7, 11]] = 0.6, 0.9, 0.49
    heard = made(instruments=instruments, key=np.eye(24)[14], metre=np.array([0.7, 0.3]), style=np.eye(10)[9])
    assert list(heard.likely("instruments")) == [INSTRUMENTS[7], INSTRUMENTS[2]]
    assert heard.likely("moods") == {}
    assert heard.key_name == Key(2, "minor") and heard.beats_per_bar == 3 and heard.style_name == "techno"


def test_json_is_json(tags: Tags) -> None:
    told = json.loads(json.dumps(tags.to_json(), allow_nan=False))
    assert set(told["style"]) == set(STYLES) and set(told["moods"]) == set(MOODS)
    shares = list(told["instruments"].values())
    assert shares == sorted(shares, reverse=True)
    assert 40 < told["tempo_bpm"]["heard"] < 250 and len(told["energy"]) == len(tags.energy)


def test_temperature_moves_confidence_and_not_the_answer(tags: Tags) -> None:
    unsure = Tagger(tiny.ears(), {"style": 3.2}).waveform(Waveform(tiny.notes(24.0), tiny.RATE))
    assert unsure.style.max() < tags.style.max() and unsure.style.argmax() == tags.style.argmax()
    expected = tags.style ** (0.8 / 3.2)
    np.testing.assert_allclose(unsure.style, expected / expected.sum(), atol=1e-5)


def test_saved_is_loaded_within_half_precision(tagger: Tagger, tags: Tags, tmp_path: Path) -> None:
    tagger.save(tmp_path / "t.safetensors")
    loaded = Tagger.load(tmp_path / "t.safetensors")
    assert loaded.temperatures == tagger.temperatures and loaded.ears.config == tiny.EARS
    assert loaded.fingerprint != tagger.fingerprint  # rounded
    again = loaded.waveform(Waveform(tiny.notes(24.0), tiny.RATE))
    np.testing.assert_allclose(again.style, tags.style, atol=0.02)
    loaded.save(tmp_path / "u.safetensors")
    assert Tagger.load(tmp_path / "u.safetensors").fingerprint == loaded.fingerprint


@pytest.mark.parametrize("damage", ["absent", "cut", "text", "foreign", "shape", "nan", "no tensor", "config"])
def test_damaged_weights_are_refused_by_name(tagger: Tagger, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "tagger.safetensors"
    tagger.save(path)
    tensors = load_file(path)
    told = {"kind": "tagger 1", "config": tiny.EARS.model_dump_json(), "temperatures": "{}"}
    if damage == "absent":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("not weights")
    elif damage == "foreign":
        save_file(tensors, path, told | {"kind": "codec"})
    elif damage == "config":
        save_file(tensors, path, told | {"config": '{"breadth": 3}'})
    else:
        name = "style.weight"
        if damage == "shape":
            tensors[name] = tensors[name][:, :3].clone()
        elif damage == "nan":
            tensors[name][0, 0] = math.nan
        else:
            del tensors[name]
        save_file(tensors, path, told)
    with pytest.raises(AudiogenError, match=r"tagger\.safetensors: "):
        Tagger.load(path)


def test_the_embedding_tells_a_recording_from_another(tagger: Tagger, tags: Tags) -> None:
    noise = torch.randn(2, 24 * tiny.RATE, generator=torch.Generator().manual_seed(1)) * 0.05
    other = tagger.waveform(Waveform(noise, tiny.RATE)).embedding
    same = tagger.waveform(Waveform(tiny.notes(24.0, seed=5), tiny.RATE)).embedding
    assert np.linalg.norm(same - tags.embedding) < 0.3 * np.linalg.norm(other - tags.embedding)


# --- the weights that come with audiogen ---------------------------------------------------------------------------


def test_shipped_weights_are_small_and_know_our_names() -> None:
    assert SHIPPED.stat().st_size <= 4 * 2**20
    shipped = shipped_tagger()
    assert set(shipped.temperatures) == {"style", "key", "tempo", "metre"}
    assert all(0.5 <= value <= 4 for value in shipped.temperatures.values())


def pulse(bpm: float, beats: int, semitones: int = 0) -> Waveform:
    """A chord of A minor on a soft bass, and noise strokes on every beat, the first of each bar louder."""
    rate, chance = 24_000, torch.Generator().manual_seed(3)
    time = torch.arange(16 * rate) / rate
    place = time * bpm / 60
    strokes = torch.exp(-25 * (place % 1) * 60 / bpm) * torch.where(place.floor() % beats == 0, 1.0, 0.4)
    up = 2 ** (semitones / 12)
    chords = [(110.0, 261.63, 329.63), (146.83, 349.23, 440.0), (164.81, 415.3, 493.88), (110.0, 261.63, 329.63)]
    bar = (place / beats).floor().long() % 4
    tone = torch.zeros(len(time))
    for index, chord in enumerate(chords):
        for hz in chord:
            voice = sum(torch.sin(2 * math.pi * hz * up * part * time) / part**1.5 for part in range(1, 5))
            tone += torch.where(bar == index, voice, 0.0)
    audio = 0.05 * tone + 0.3 * strokes * torch.randn(len(time), generator=chance)
    return Waveform(audio[None], rate)


@pytest.mark.parametrize("bpm", [80.0, 100.0, 125.0])
def test_shipped_weights_hear_a_tempo_octaves_aside(bpm: float) -> None:
    heard = shipped_tagger().waveform(pulse(bpm, 4)).tempo_bpm
    assert min(abs(heard / bpm / ratio - 1) for ratio in (0.5, 1.0, 2.0)) < 0.04


def test_shipped_weights_hear_a_key_move_with_the_pitch() -> None:
    at_home, up = (shipped_tagger().waveform(pulse(100, 4, semitones)).key_name for semitones in (0, 3))
    assert at_home == Key(9, "minor") and up == Key(0, "minor")


def test_shipped_weights_follow_energy() -> None:
    loud = pulse(120, 4).samples
    faded = Waveform(torch.cat([loud * 0.03, loud], 1), 24_000)
    energy = shipped_tagger().waveform(faded).energy
    assert energy[energy[:, 0] > 18, 1].mean() > energy[energy[:, 0] < 14, 1].mean() + 0.1


def test_nothing_changes_hands(tags: Tags) -> None:
    with pytest.raises(AttributeError):
        tags.seconds = 3.0  # type: ignore[misc]
    assert replace(tags, seconds=3.0).seconds == 3


def test_a_clip_of_any_length_is_heard_silence_too(tagger: Tagger) -> None:
    for samples in (tiny.notes(0.4), tiny.notes(1.0), torch.zeros(2, 20_000)):
        heard = tagger.excerpt(Waveform(samples, tiny.RATE))
        assert np.isfinite(heard.style).all() and next(iter(heard.styles)) == heard.style_name
        assert list(heard.styles.values()) == sorted(heard.style.tolist(), reverse=True)
    with pytest.raises(AudiogenError, match="got none"):
        tagger.excerpt(Waveform(torch.zeros(2, 0), tiny.RATE))
