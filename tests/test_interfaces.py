from __future__ import annotations

import pytest
import torch

from audiogen.interfaces import CHORD_QUALITIES, PITCH_CLASSES, Chord, Key, Waveform, pitch_class


def test_note_names() -> None:
    assert [pitch_class(name) for name in PITCH_CLASSES] == list(range(12))
    assert pitch_class("B#") == 0 and pitch_class("cb") == 11 and pitch_class(" g♯ ") == 8 and pitch_class("E♭") == 3
    for name in ("H", "", "C##", "Cm", "12"):
        with pytest.raises(ValueError, match="is no note name"):
            pitch_class(name)


def test_keys_round_trip() -> None:
    for tonic in range(12):
        for mode in ("major", "minor"):
            assert Key.parse(str(Key(tonic, mode))) == Key(tonic, mode)  # type: ignore[arg-type]
    assert Key.parse("Am") == Key(9, "minor") and Key.parse("f# major") == Key(6, "major")
    assert Key.parse("Eb") == Key(3, "major") and Key.parse("bb-min") == Key(10, "minor")
    assert Key.parse("CM") == Key(0, "major")
    for text in ("H#", "minor", "D dorian", ""):
        with pytest.raises(ValueError, match="is no key"):
            Key.parse(text)


def test_chords_round_trip() -> None:
    for root in range(12):
        for quality, intervals in CHORD_QUALITIES.items():
            chord = Chord(1.5, root, quality)
            assert Chord.parse(1.5, chord.symbol) == chord
            assert chord.pitch_classes[0] == root and len(set(chord.pitch_classes)) == len(intervals)
    assert Chord.parse(0, "N") == Chord(0, None) and Chord(0, None).pitch_classes == ()
    assert Chord.parse(0, "G:7").pitch_classes == (7, 11, 2, 5)
    for symbol in ("D", "D:", "D:minor", "X:maj", ""):
        with pytest.raises(ValueError):
            Chord.parse(0, symbol)


def test_waveform_knows_its_shape() -> None:
    audio = Waveform(torch.zeros(2, 24_000), 48_000)
    assert audio.channels == 2 and audio.seconds == 0.5
    with pytest.raises(ValueError, match=r"\[channels, samples\].*\(5,\)"):
        Waveform(torch.zeros(5), 48_000)
