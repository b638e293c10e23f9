from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest
from safetensors.numpy import load_file

from audiogen.data.manifest import read_manifest, write_manifest
from audiogen.interfaces import INSTRUMENTS, AudiogenError
from recipes.starter_catalogue.parts import labels_of, main, midi_path, parts_playing
from tests import tiny


def midi(*parts: tuple[int, int, list[tuple[float, float]]]) -> mido.MidiFile:
    """(channel, program, [(start, end) in beats of half a second])."""
    made = mido.MidiFile(type=1, ticks_per_beat=100)
    made.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)]))
    for channel, program, notes in parts:
        events = [(at, kind, 60) for start, end in notes for at, kind in ((start, "note_on"), (end, "note_off"))]
        track, now = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)]), 0.0
        for at, kind, note in sorted(events):
            time = round(100 * (at - now))
            track.append(mido.Message(kind, channel=channel, note=note, velocity=80, time=time))
            now = at
        made.tracks.append(track)
    return made


def test_names_of_programs() -> None:
    assert labels_of(0, False, ("piano", "drums")) == {"piano"}
    assert labels_of(0, True, ("piano", "drums")) == {"drums"}
    assert labels_of(0, True, ("percussion",)) == {"percussion"}
    assert labels_of(90, False, ("pad", "pluck")) == {"pad", "pluck"}  # could be either
    assert labels_of(46, False, ("piano",)) == set()


def test_a_note_plays_while_it_is_held_and_a_little_after() -> None:
    found = parts_playing(midi((0, 46, [(4, 6), (12, 12.5)]), (9, 8, [(0, 1)])), ("harp", "drums"), 8.0)
    assert found.shape == (29, 100)
    harp = np.flatnonzero(found[INSTRUMENTS.index("harp")])
    assert harp[0] == 25 and list(harp[harp < 60]) == list(range(25, 41))  # 2 to 3.25 s
    assert harp[-1] / 12.5 == pytest.approx(6.5, abs=0.1)
    assert found[INSTRUMENTS.index("drums")].sum() == 10 and found.sum() == len(harp) + 10


def test_a_file_for_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = [
        track.model_copy(update={"path": f"audio/folk/{track.path}", "instruments": ("harp", "flute")})
        for track in tiny.catalogue(tmp_path)
    ]
    write_manifest(tmp_path / "manifest.jsonl", tracks)
    (tmp_path / "midi" / "folk").mkdir(parents=True)
    with pytest.raises(AudiogenError, match="there is no such file"):
        main(tmp_path / "manifest.jsonl", tmp_path / "parts.safetensors")
    for track in read_manifest(tmp_path / "manifest.jsonl"):
        midi((0, 46, [(0, 4)])).save(midi_path(tmp_path, track))
    main(tmp_path / "manifest.jsonl", tmp_path / "parts.safetensors")
    parts = load_file(tmp_path / "parts.safetensors")
    assert set(parts) == {track.sha256 for track in tracks}
    assert parts[tracks[0].sha256].shape == (29, 50) and parts[tracks[0].sha256].dtype == np.uint8
    assert "listed but never played: flute in 3" in capsys.readouterr().out
