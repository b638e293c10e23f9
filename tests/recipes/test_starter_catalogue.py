from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiogen.audio.mastering import integrated_lufs
from audiogen.data.manifest import read_manifest, validate
from audiogen.interfaces import CHORD_QUALITIES, INSTRUMENTS, MOODS, SECTIONS, STYLES, AudiogenError
from recipes.starter_catalogue import make, render
from recipes.starter_catalogue.compose import compose, outline
from recipes.starter_catalogue.form import LONGEST_SECONDS, SHORTEST_SECONDS
from recipes.starter_catalogue.model import Note, Part, Piece, Section
from recipes.starter_catalogue.moods import EFFECTS
from recipes.starter_catalogue.patches import PATCHES
from recipes.starter_catalogue.rhythm import steps, swing
from recipes.starter_catalogue.styles import VARIANTS
from recipes.starter_catalogue.theory import Harmony, chord_scale, numeral, progression, voicing

GOLDEN = {  # index of a piece of seed 1 → the head of its MIDI file's SHA-256
    0: "5a6837bcb5ac10e0", 1: "5676ab87d4d83565", 2: "7fbdd3ba46add563", 3: "cbb34726024ea1b0", 4: "a71573b7bf7ee3a5",
    5: "01b7106ff7d8bfad", 6: "8d4cee9bb77d7ffd", 7: "0d21149bc0c9911f", 8: "601628baeae38817", 9: "d4f719e25affbfbb",
    22: "4400b955858299ba",
}  # fmt: skip
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pieces() -> list[Piece]:
    return [compose(1, index) for index in range(40)]


# --- theory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "root", "quality"),
    [
        ("I", 0, "maj"),
        ("bVII7", 10, "7"),
        ("ii9", 2, "min9"),
        ("viio7", 11, "dim7"),
        ("iih7", 2, "hdim7"),
        ("bVI5", 8, "5"),
    ],
)
def test_numerals(text: str, root: int, quality: str) -> None:
    assert numeral(text) == (root, quality)


@pytest.mark.parametrize("text", ["VIII", "Hb", "imaj7", "", "Iv"])
def test_bad_numerals(text: str) -> None:
    with pytest.raises(ValueError, match=r"numeral|quality"):
        numeral(text)


def test_a_progression_shares_bars_by_commas() -> None:
    assert progression("ii7,V7 Imaj7", tonic=2) == [[(4, "min7"), (9, "7")], [(2, "maj7")]]


def test_the_scale_bends_to_the_chord() -> None:
    c_minor = (0, 2, 3, 5, 7, 8, 10)
    g_seven = Harmony(0, 4, 7, "7").tones
    assert chord_scale(g_seven, c_minor) == (2, 3, 5, 7, 8, 11)  # B comes in, its neighbours Bb and C go


@pytest.mark.parametrize("quality", list(CHORD_QUALITIES))
def test_voicings_hold_chord_tones_in_range_and_move_little(quality: str) -> None:
    before: tuple[int, ...] = ()
    for root in (0, 5, 7, 0):
        chord = Harmony(0, 4, root, quality)
        notes = voicing(chord, 48, 79, 4, before)
        assert {note % 12 for note in notes} <= set(chord.tones)
        assert list(notes) == sorted(set(notes))
        assert notes[0] >= 48
        assert notes[-1] <= 79
        if before:
            assert max(min(abs(note - other) for other in before) for note in notes) <= 6
        before = notes


# --- rhythm ---------------------------------------------------------------------------------------------------------


def test_steps_hold_and_divide_the_bar() -> None:
    assert steps("X--.x...", 4) == (((0.0, 1.5, "X"), (2.0, 0.5, "x")),)
    assert steps("x..|.x.", 3) == (((0.0, 1.0, "x"),), ((1.0, 1.0, "x"),))


def test_swing_moves_only_what_lies_off_the_beat() -> None:
    assert swing(3.0, 2 / 3, 0.5) == 3.0
    assert swing(3.5, 2 / 3, 0.5) == pytest.approx(3 + 2 / 3)
    assert swing(3.5, 0.5, 0.5) == 3.5


# --- styles ---------------------------------------------------------------------------------------------------------


def test_every_style_is_there_and_names_only_known_things() -> None:
    assert tuple(VARIANTS) == STYLES
    for variants in VARIANTS.values():
        for style in variants:
            for layer in style.layers:
                assert set(layer.patches) <= set(PATCHES)
                assert set(layer.only) | set(layer.rests) <= set(SECTIONS)
            for mode in ("major", "minor"):
                assert set(style.moods[mode]) <= set(EFFECTS)
                for pool in style.progressions[mode].values():
                    for text in pool:
                        assert progression(text, 0)
    assert set(EFFECTS) == set(MOODS)
    assert {patch.instrument for patch in PATCHES.values()} == set(INSTRUMENTS)


# --- pieces ---------------------------------------------------------------------------------------------------------


def test_composing_is_a_function_of_seed_and_index() -> None:
    first, again, other = compose(5, 13), compose(5, 13), compose(6, 13)
    assert first == again
    assert first != other


def test_the_same_bytes_on_any_machine() -> None:
    """Golden parity. Make it anew, after a deliberate change of the music, with
    `hashlib.sha256(render.midi_bytes(compose(1, index), render.SOUNDFONT)).hexdigest()[:16]`."""
    midis = {index: render.midi_bytes(compose(1, index), render.SOUNDFONT) for index in GOLDEN}
    assert {index: hashlib.sha256(data).hexdigest()[:16] for index, data in midis.items()} == GOLDEN


def test_prefixes_are_balanced_over_styles_and_splits(pieces: list[Piece]) -> None:
    assert [piece.style for piece in pieces[:10]] == list(STYLES)
    assert set(Counter(piece.style for piece in pieces).values()) == {4}
    splits = Counter(("validation" if t % 25 == 3 else "test" if t % 25 == 7 else "train") for t in range(100))
    assert splits == {"train": 92, "validation": 4, "test": 4}
    assert {piece.split for piece in pieces[30:40]} == {"validation"}


def test_keys_go_round(pieces: list[Piece]) -> None:
    plans = [outline(1, index) for index in range(240)]
    assert len({(plan.tonic, plan.mode) for plan in plans}) == 24
    for place in range(10):
        assert len({plan.tonic for plan in plans[place:120:10]}) == 12


def test_lengths_tempos_and_forms(pieces: list[Piece]) -> None:
    for piece in pieces:
        assert SHORTEST_SECONDS <= piece.seconds <= LONGEST_SECONDS + 5
        assert piece.tempo_bpm * 2 == round(piece.tempo_bpm * 2)
        assert 60 / piece.tempo_bpm == pytest.approx(piece.beat_seconds, abs=1e-6)
        assert piece.sections[0].start == 0
        for before, after in zip(piece.sections, piece.sections[1:], strict=False):
            assert after.start == before.start + before.bars
        assert piece.bars == piece.sections[-1].start + piece.sections[-1].bars + 1
        assert piece.sections[-1].label == "outro"
        assert len({section.label for section in piece.sections}) >= 3
        energies = [energy for section in piece.sections for energy in section.energy]
        assert max(energies) - min(energies) >= 0.15


def test_notes_lie_within_the_piece_and_the_keyboard(pieces: list[Piece]) -> None:
    for piece in pieces:
        end = piece.bars * piece.beats_per_bar + 0.1
        for part in piece.parts:
            for note in part.notes:
                assert 0 <= note.pitch <= 127
                assert 0 <= note.start < end
                assert note.length > 0
                assert 0 < note.velocity <= 1


def test_chord_labels_say_what_is_played(pieces: list[Piece]) -> None:
    for piece in pieces:
        total = inside = 0.0
        for part in (p for p in piece.parts if p.role == "chords"):
            for note in part.notes:
                middle = note.start + min(note.length, 0.5) / 2
                chord = max((c for c in piece.chords if c.start <= middle), key=lambda c: c.start)
                total += 1
                inside += note.pitch % 12 in chord.tones
        assert inside / total > 0.97, piece.id


def test_choruses_are_fuller_than_intros(pieces: list[Piece]) -> None:
    fuller = counted = 0
    for piece in pieces:
        notes = Counter(int(note.start // piece.beats_per_bar) for part in piece.parts for note in part.notes)
        bars: dict[str, list[int]] = {}
        for section in piece.sections:
            bars.setdefault(section.label, []).extend(range(section.start, section.start + section.bars))
        mean = {label: np.mean([notes[bar] for bar in numbers]) for label, numbers in bars.items()}
        if "chorus" in mean and "intro" in mean:
            counted += 1
            fuller += mean["chorus"] > mean["intro"]
    assert fuller / counted > 0.9


def test_labels_say_who_plays(pieces: list[Piece]) -> None:
    for piece in pieces:
        changes = piece.playing(4)
        assert changes[0][0] == 0 and {name for _, names in changes for name in names} == set(piece.instruments)
        edges = [start for start, _ in changes] + [piece.bars * piece.beats_per_bar]
        for (start, names), end in zip(changes, edges[1:], strict=True):
            assert start % piece.beats_per_bar == 0
            sounding = [p.patch.instrument for p in piece.parts for n in p.notes if start + 0.5 <= n.start < end - 0.5]
            assert set(sounding) <= set(names)


def test_captions_differ_and_tell_the_truth(pieces: list[Piece]) -> None:
    for piece in pieces:
        assert 4 <= len(piece.captions) <= 6
        assert len(set(piece.captions)) == len(piece.captions)
        for caption in piece.captions:
            assert piece.style in caption.lower()
            words = set(re.findall("[a-z]+", caption.lower()))
            assert words & set(MOODS) <= set(piece.moods)
            if "bpm" in words:
                assert f"{piece.tempo_bpm:g} bpm" in caption
    everything = " ".join(caption for piece in pieces for caption in piece.captions)
    assert "bpm" in everything
    assert "minor" in everything


def test_styles_differ_in_tempo_and_density(pieces: list[Piece]) -> None:
    tempo = {style: np.mean([p.tempo_bpm for p in pieces if p.style == style]) for style in STYLES}
    assert tempo["ambient"] < tempo["lo-fi"] < tempo["house"] < tempo["techno"] < tempo["drum and bass"]
    drums = {style: np.mean([any(x.drums for x in p.parts) for p in pieces if p.style == style]) for style in STYLES}
    assert drums["ambient"] == drums["classical piano"] == 0
    assert drums["house"] == drums["rock"] == drums["jazz"] == 1


def test_labels_read_as_a_track(pieces: list[Piece]) -> None:
    piece = pieces[6]
    track = make.labels(piece, 1, Path("audio/jazz/x.wav"), "0" * 64)
    assert track.seconds == pytest.approx(piece.seconds, abs=1e-4)
    assert len(track.beats_seconds) == piece.bars * piece.beats_per_bar
    assert track.downbeats_seconds == track.beats_seconds[:: piece.beats_per_bar]
    assert track.chords[0][0] == 0
    assert all(start in track.downbeats_seconds for start, _ in track.sections)
    assert track.score().energy[-1][1] == 0


# --- MIDI and sound -------------------------------------------------------------------------------------------------


def test_midi_says_tempo_metre_and_notes(pieces: list[Piece]) -> None:
    piece = pieces[4]
    midi = render.to_midi(piece)
    head = {message.type: message for message in midi.tracks[0]}
    assert head["set_tempo"].tempo == round(60e6 / piece.tempo_bpm)
    assert head["time_signature"].numerator == piece.beats_per_bar
    strikes = sum(m.type == "note_on" for track in midi.tracks for m in track)
    assert strikes == sum(len(part.notes) for part in piece.parts)
    assert midi.length == pytest.approx(piece.seconds, abs=0.01)
    channels = {m.channel for track in midi.tracks for m in track if m.type == "note_on"}
    assert (9 in channels) == any(part.drums for part in piece.parts)


def test_narrow_turns_down_only_what_is_too_wide() -> None:
    noise = np.random.default_rng(0).standard_normal((1_000, 2)).astype(np.float32)
    out_of_phase = noise * np.array([1, -1], dtype=np.float32) + 0.3 * noise.mean(axis=1, keepdims=True)
    narrowed = render.narrow(out_of_phase)
    middle, side = narrowed.sum(axis=1), narrowed[:, 0] - narrowed[:, 1]
    assert np.linalg.norm(side) / np.linalg.norm(middle) == pytest.approx(0.6, rel=1e-3)
    mono = np.repeat(noise[:, :1], 2, axis=1)
    assert render.narrow(mono) is mono


def test_missing_tools_are_named_with_their_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.shutil, "which", lambda _: None)
    with pytest.raises(AudiogenError, match="apt-get install fluidsynth"):
        render.check_tools(tmp_path)
    monkeypatch.setattr(render.shutil, "which", lambda name: name)
    with pytest.raises(AudiogenError, match=r"none\.sf2.*--soundfont"):
        render.check_tools(tmp_path / "none.sf2")


def _short(piece: Piece) -> Piece:
    """The first bars of a piece, enough to hear."""
    piece.parts = [
        Part(p.patch, p.role, [n for n in p.notes if n.start < 8], p.pan, p.reverb, p.chorus, p.volume, p.pump)
        for p in piece.parts
    ]
    piece.sections, piece.bars = [Section("outro", 0, 1, (0.5, 0.5))], 2
    piece.chords = [chord for chord in piece.chords if chord.start < 8]
    return piece


@pytest.mark.needs_fluidsynth
def test_rendered_beats_lie_where_the_labels_say(tmp_path: Path) -> None:
    piece = _short(compose(1, 8))
    click = Part(PATCHES["standard kit"], "drums", [Note(float(b), 0.5, 76, 0.9) for b in range(8)], 64, 0, 0, 110)
    piece.parts = [click]
    render.render(piece, tmp_path / "a.mid", tmp_path / "a.wav", render.SOUNDFONT)
    audio, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == 48_000
    assert audio.shape == (round(piece.seconds * rate), 2)
    level = np.abs(audio).max(axis=1)
    assert level.max() <= 10 ** (-1 / 20) + 1e-4
    assert level[-4:].max() == 0
    for beat in range(8):
        at = round(beat * piece.beat_seconds * rate)
        window = level[max(0, at - 2_400) : at + 4_800]
        onset = np.argmax(window > 0.2 * window.max()) + max(0, at - 2_400)
        assert 0 <= (onset - at) / rate < 0.006
    assert render.is_rendered(piece, tmp_path / "a.mid", tmp_path / "a.wav", render.SOUNDFONT)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-4])
    assert not render.is_rendered(piece, tmp_path / "a.mid", tmp_path / "a.wav", render.SOUNDFONT)


@pytest.mark.needs_fluidsynth
def test_the_script_writes_a_sound_catalogue_and_skips_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "compose", lambda seed, index: _short(compose(seed, index)))
    monkeypatch.setattr(make, "pieces_for", lambda hours, seed: 2)
    tracks = make.make(0.01, 1, tmp_path, render.SOUNDFONT, jobs=1)
    assert [track.style for track in tracks] == ["ambient", "cinematic"]
    assert validate(tmp_path / "manifest.jsonl", tmp_path, check_audio=True) == []
    assert read_manifest(tmp_path / "manifest.jsonl") == tracks
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name]
    for track in tracks:
        samples, rate = soundfile.read(tmp_path / track.path, dtype="float32")
        assert integrated_lufs(samples, rate) == pytest.approx(-16, abs=0.5)
    audio = sorted((tmp_path / "audio").rglob("*.wav"))
    written = [path.stat().st_mtime_ns for path in audio]
    (tmp_path / "midi/cinematic/00001-cinematic.mid").write_bytes(b"another piece")
    again = make.make(0.01, 1, tmp_path, render.SOUNDFONT, jobs=1)
    assert again == tracks  # the same bytes, so the same hashes
    now = [path.stat().st_mtime_ns for path in audio]
    assert now[0] == written[0]
    assert now[1] > written[1]


def test_bad_arguments_give_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "check_tools", lambda soundfont: None)
    with pytest.raises(AudiogenError, match="--hours -1"):
        make.make(-1, 1, tmp_path, render.SOUNDFONT, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(AudiogenError, match="output folder"):
        make.make(1, 1, tmp_path / "file" / "below", render.SOUNDFONT, 1)


def test_it_runs_as_a_script_and_as_a_module(tmp_path: Path) -> None:
    for command in (["recipes/starter_catalogue/make.py"], ["-m", "recipes.starter_catalogue.make"]):
        arguments = ["--soundfont", str(tmp_path / "no.sf2"), "-o", str(tmp_path / "x")]
        done = subprocess.run([sys.executable, *command, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "x").exists()
