from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from audiogen.data.heard import prepare_heard
from audiogen.data.manifest import Track, read_manifest, write_manifest
from audiogen.interfaces import INSTRUMENTS, STYLES, AudiogenError
from audiogen.style.ears import tempo_classes
from audiogen.style.tagger import Tagger
from audiogen.training import tagger_trainer
from audiogen.training.hearing_changes import UNCHANGED, Change
from audiogen.training.tagger_trainer import TaggerTask, TaggerTrainingConfig, answers, calibrated, recordings, tagged
from audiogen.training.trainer import Trainer
from tests import tiny


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heard tracks: a folk one, a jazz one, and one of folk to validate with."""
    root = tmp_path_factory.mktemp("music")
    tracks = tiny.catalogue(root, seconds=6.0)
    tracks[1] = tracks[1].model_copy(update={"style": "jazz", "key": "D major", "instruments": ("drums",), "parts": ()})
    write_manifest(root / "manifest.jsonl", tracks)
    tiny.prepared(root, tracks)
    for _ in prepare_heard(tracks, root, root / "codes", root / "codec", 3, 4.0, root / "heard"):
        pass
    return root


def config(root: Path, **trainer: object) -> TaggerTrainingConfig:
    values = {
        "manifest": str(root / "manifest.jsonl"), "root": str(root), "codes": str(root / "codes"),
        "codec": str(root / "codec"), "codebooks": 3, "excerpt_seconds": 4.0, "heard": str(root / "heard"),
        "ears": tiny.EARS.model_dump(), "window_frames": 32,
        "trainer": {"max_steps": 4, "batch_size": 4, "lr": 3e-3, "warmup_steps": 1, "validate_every": 4,
                    "mixed_precision": "no", "ema_decay": 0.9} | trainer,
    }  # fmt: skip
    return TaggerTrainingConfig.build(values, "test")


def test_answers_follow_the_change(root: Path) -> None:
    track = read_manifest(root / "manifest.jsonl")[0]  # folk, A minor, 240 bpm
    told = answers(track, UNCHANGED)
    assert told["style"] == STYLES.index("folk") and told["key"] == 9 + 12 and told["metre"] == 1
    assert told["instruments"].nonzero()[0].tolist() == [INSTRUMENTS.index("harp")]
    slower = answers(track, Change(-2, 0.5, np.zeros(37), None, 0.0))
    assert slower["key"] == 7 + 12
    assert abs(np.log(float(tempo_classes()[int(slower["tempo"].argmax())]) / 120)) < 0.016
    assert slower["tempo"].sum() == pytest.approx(1, abs=1e-3)


def test_a_track_without_labels_teaches_nothing(root: Path) -> None:
    bare = read_manifest(root / "manifest.jsonl")[0].model_dump()
    for name in ("style", "key", "tempo_bpm", "beats_per_bar"):
        bare[name] = None
    told = answers(Track.model_validate(bare), UNCHANGED)
    assert told["style"] == told["key"] == told["metre"] == -1 and told["tempo"].sum() == 0


def test_batches_follow_the_position(root: Path) -> None:
    task = TaggerTask(config(root))
    first, again, next_one = task.batch(range(4)), task.batch(range(4)), task.batch(range(4, 8))
    assert first["mel"].shape == (4, 2, 64, 128) and first["semitones"].shape == (4, 2, 84, 32)
    assert first["energy"].shape == (4, 2, 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mel"], next_one["mel"])
    assert set(first["style"].tolist()) == {STYLES.index("folk"), STYLES.index("jazz")}


def test_energy_is_that_of_the_window(root: Path) -> None:
    """The curve rises from 0.2 to 0.6 over the track."""
    task = TaggerTask(config(root))
    energies = torch.cat([task.batch(range(first, first + 4))["energy"] for first in range(0, 16, 4)])
    assert float(energies.min()) >= 0.2 and float(energies.max()) <= 0.6
    assert bool((energies.diff(dim=2) > 0).all()) and float(energies.std()) > 0.02


def test_who_plays_in_a_step_is_read_from_the_frames_it_is_made_of(root: Path) -> None:
    told = config(root)
    [(own, coded)] = recordings(told, [t for t in read_manifest(told.manifest) if t.split == "validation"])
    assert (tagger_trainer.playing(own, 0, 32, 1.0) == -1).all()  # nobody told
    parts = np.zeros((29, 75), np.uint8)
    parts[3, 20:23] = 1
    own, late = replace(own, parts=parts), replace(coded, parts=parts, start_seconds=1.28)
    found = tagger_trainer.playing(own, 4, 48, 1.0)
    assert found.shape == (3, 29) and found.sum() == 1 and found[1, 3] == 1  # frames 20 to 35
    assert tagger_trainer.playing(own, 18, 48, 1.0)[0, 3] == 1
    assert tagger_trainer.playing(own, 21, 48, 1.0).sum() == 0  # two frames of sixteen are too few
    assert tagger_trainer.playing(late, 4, 32, 1.0)[0, 3] == 1  # from 1.28 s on
    assert tagger_trainer.playing(own, 0, 32, 0.5)[:, 3].tolist() == [0, 0]  # steps of eight frames
    assert tagger_trainer.playing(own, 15, 32, 0.5)[:, 3].tolist() == [1, 0]
    assert tagger_trainer.playing(own, 70, 48, 1.0).sum() == 0  # past the end nobody plays


def test_known_parts_are_what_is_asked_of_the_windows(root: Path, tmp_path: Path) -> None:
    """Told that the harp never plays, the loss of a network that hears none is small; told by the track, it is not."""
    tracks = read_manifest(root / "manifest.jsonl")
    save_file({track.sha256: np.zeros((29, 75), np.uint8) for track in tracks}, tmp_path / "parts.safetensors")
    ears = tiny.ears()
    with torch.no_grad():
        ears.instruments.weight.zero_()
        ears.instruments.bias.fill_(-8.0)
    for parts, expected in ((None, 4 * 9.2 / 29), (str(tmp_path / "parts.safetensors"), 0.0)):
        task = TaggerTask(config(root).model_copy(update={"parts": parts}))
        _, metrics = task.loss(ears, task.batch(range(4)), 0)
        assert float(metrics["loss_instruments"]) == pytest.approx(expected, abs=0.3)
        assert ("loss_steps" in metrics) == (parts is not None)
    with pytest.raises(AudiogenError, match=r"none\.safetensors: missing"):
        TaggerTask(config(root).model_copy(update={"parts": "none.safetensors"}))


def test_it_learns_and_resumes_to_the_same_weights(root: Path, tmp_path: Path) -> None:
    told = config(root, max_steps=20, validate_every=20)
    whole = Trainer(TaggerTask(told), tmp_path / "a", told)
    losses = [report.metrics["loss"] for report in whole.steps()]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    first = Trainer(TaggerTask(told), tmp_path / "b", told)
    for report in first.steps():
        if report.global_step == 7:
            break
    second = Trainer(TaggerTask(told), tmp_path / "b", told)
    assert second.global_step == 7
    *_, last = second.steps()
    assert {"validation_style", "validation_codec_key", "validation_instruments_map"} <= set(last.metrics)
    assert whole.ema.keys() == second.ema.keys()
    for name, ours in whole.ema.items():
        torch.testing.assert_close(ours, second.ema[name])


def test_windows_of_one_track_share_an_instrument(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss asks that one of them has it, not all."""
    task = TaggerTask(config(root))
    seen: list[tuple[int, ...]] = []
    pooled = tagger_trainer.instruments_present

    def spy(logits: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(logits.shape))
        return pooled(logits, attention)

    monkeypatch.setattr(tagger_trainer, "instruments_present", spy)
    task.loss(task.module, task.batch(range(4)), 0)
    assert seen == [(4, 4, 29)]  # two windows of two steps each


def test_calibration_trusts_a_judge_as_far_as_it_is_right(root: Path) -> None:
    """A network that is always wrong and sure of it is trusted as little as may be."""
    told = config(root)
    ears = tiny.ears()
    with torch.no_grad():
        ears.style.weight.zero_()
        ears.style.bias.zero_()
        ears.style.bias[STYLES.index("rock")] = 9.0
    assert calibrated(told, ears).temperatures["style"] == pytest.approx(4.0)
    with torch.no_grad():
        ears.style.bias.zero_()
        ears.style.bias[STYLES.index("folk")] = 1.0
    assert calibrated(told, ears).temperatures["style"] == pytest.approx(0.5)


def test_excerpts_are_timed_from_the_beginning_of_the_track(root: Path) -> None:
    told = config(root)
    [(own, coded)] = recordings(told, [t for t in read_manifest(told.manifest) if t.split == "validation"])
    whole, part = tagged(Tagger(tiny.ears(), {}), [own, coded])
    assert whole.energy[0, 0] < 1 and part.energy[0, 0] == pytest.approx(coded.start_seconds + 0.64)


def test_nothing_to_validate_with_is_refused(root: Path, tmp_path: Path) -> None:
    tracks = [track for track in read_manifest(root / "manifest.jsonl") if track.split == "train"]
    write_manifest(tmp_path / "m.jsonl", tracks)
    told = config(root).model_copy(update={"manifest": str(tmp_path / "m.jsonl")})
    with pytest.raises(AudiogenError, match="none to validate"):
        TaggerTask(told)
