from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen import Generator
from audiogen.audio.io import read, write
from audiogen.generation import continuation
from audiogen.generation.continuation import continue_recording, cross_fade, render_continuation
from audiogen.generation.render import from_record
from audiogen.interfaces import INSTRUMENTS, AudiogenError, Key, Waveform
from audiogen.storage import read_json
from audiogen.style.tagger import Tagger, Tags
from tests.tiny import MINI, RATE, notes


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    write(tmp_path / "in.wav", Waveform(notes(6.03), RATE), "FLOAT")
    return tmp_path / "in.wav"


def audio(generator: Generator, path: Path, chunk: int = 25, **told: object) -> torch.Tensor:
    made = continue_recording(generator, path, "calm folk", 2.5, 4, **told)  # type: ignore[arg-type]
    return torch.cat([part.samples for part in made.play(generator, chunk)], 1)


def test_the_recording_is_kept_and_goes_on_for_as_long_as_asked(generator: Generator, recording: Path) -> None:
    whole, clip = read(recording).samples, audio(generator, recording)
    assert clip.shape == (2, whole.shape[1] + round(2.5 * RATE))
    untouched = whole.shape[1] - round(0.5 * RATE)
    assert torch.equal(clip[:, :untouched], whole[:, :untouched])
    assert float(clip[:, whole.shape[1] :].abs().max()) > 1e-3


def test_the_chunk_size_does_not_matter(generator: Generator, recording: Path) -> None:
    torch.testing.assert_close(audio(generator, recording, 3), audio(generator, recording, 1000), atol=1e-5, rtol=0)


def test_the_stream_begins_with_the_codes_of_the_end(generator: Generator, recording: Path) -> None:
    made = continue_recording(generator, recording, None, 1.0, 1)
    hop = generator.model.codec.hop_length
    assert made.request.begun is not None and made.request.begun.shape == (4, 25)  # a second; the window is shorter
    assert made.context_samples == 25 * hop
    session = generator.session(made.request)
    assert session.lead is not None
    played = torch.cat([session.lead.samples, session.advance(1).samples], 1)
    offline = generator.model.codec.decode(made.request.begun[None])[0]
    early = offline.shape[1] - 2 * hop  # what no later frame reaches into
    torch.testing.assert_close(played[:, :early], offline[:, :early], atol=1e-5, rtol=0)


def test_beat_and_key_run_on(generator: Generator, tmp_path: Path) -> None:
    beat = np.zeros((2, 12 * RATE), np.float32)
    for start in np.arange(0.2, 11.5, 0.6):
        time = np.arange(1600) / RATE
        beat[:, round(start * RATE) :][:, :1600] += 0.4 * np.sin(2 * np.pi * 220 * time) * np.exp(-30 * time)
    write(tmp_path / "beat.wav", Waveform(torch.from_numpy(beat), RATE))
    made = continue_recording(generator, tmp_path / "beat.wav", "calm folk", 8.0, 1, key_name="F minor")
    assert made.grid is not None and made.request.attributes.tempo_bpm == pytest.approx(made.grid.tempo_bpm)
    assert min(abs(made.grid.tempo_bpm / (100 * octave) - 1) for octave in (0.5, 1, 2)) < 0.01
    assert made.request.attributes.key == Key.parse("F minor")
    score = made.request.score
    steps = np.diff(score.beats_seconds)
    assert np.allclose(steps, steps[0], atol=1e-3)  # one grid, through the join and the plan
    join = made.context_samples / RATE
    onset = (12 - 0.2) % 0.3  # of the recording's beats and off-beats, before its end
    offs = (score.beats_seconds - (join - onset)) / 0.3
    assert np.abs(offs - np.rint(offs)).max() * 0.3 < 0.03
    faster = continue_recording(generator, tmp_path / "beat.wav", "calm folk, 137 bpm", 8.0, 1)
    assert faster.request.attributes.tempo_bpm == 137


def test_who_is_heard_plays_on(generator: Generator, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def players(prompt: str) -> tuple[str, ...]:
        ((start, names),) = continue_recording(generator, recording, prompt, 1.0, 1).request.score.parts
        assert start == 0
        return names

    loud = Tagger.excerpt

    def hears_two(self: Tagger, end: Waveform) -> Tags:
        chances = np.array([name in ("flute", "drums") for name in INSTRUMENTS], np.float32)
        return replace(loud(self, end), instruments=0.1 + 0.8 * chances)

    monkeypatch.setattr(Tagger, "excerpt", hears_two)
    assert players("calm folk") == ("drums", "flute")
    assert players("calm folk with a harp, no drums") == ("flute", "harp")


def test_silence_at_the_end_is_left_out_and_the_level_is_kept(generator: Generator, tmp_path: Path) -> None:
    quiet = torch.cat([0.02 * notes(5.0), torch.zeros(2, 2 * RATE)], 1)
    write(tmp_path / "quiet.wav", Waveform(quiet, RATE), "FLOAT")
    made = continue_recording(generator, tmp_path / "quiet.wav", None, 1.0, 1)
    assert 1.8 < made.cut_seconds < 2.3 and made.recording.seconds < 5.2


def test_the_level_is_kept_and_does_not_matter(generator: Generator, tmp_path: Path) -> None:
    for name, gain in (("loud", 1.0), ("quiet", 0.25)):
        write(tmp_path / f"{name}.wav", Waveform(gain * notes(5.0), RATE), "FLOAT")
    loud, quiet = (continue_recording(generator, tmp_path / f"{n}.wav", None, 1.0, 1) for n in ("loud", "quiet"))
    assert quiet.gain / loud.gain == pytest.approx(0.25, rel=0.01)
    assert torch.equal(quiet.request.begun, loud.request.begun)  # type: ignore[arg-type]


def test_mono_and_another_rate_are_taken(generator: Generator, tmp_path: Path) -> None:
    write(tmp_path / "old.wav", Waveform(notes(3.0, 8000)[:1], 8000))
    clip = audio(generator, tmp_path / "old.wav")
    assert clip.shape == (2, round(5.5 * RATE))


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (torch.zeros(2, RATE * 3), "is silent"),
        (notes(0.03), r"0\.030 s of sound"),
        (torch.cat([notes(0.5), torch.zeros(2, RATE)], 1), "of sound"),
    ],
)
def test_what_cannot_be_continued(generator: Generator, tmp_path: Path, samples: torch.Tensor, problem: str) -> None:
    write(tmp_path / "bad.wav", Waveform(samples, RATE))
    with pytest.raises(AudiogenError, match=f"bad.wav.*{problem}"):
        continue_recording(generator, tmp_path / "bad.wav", None, 1.0, 1)


def test_bad_settings(generator: Generator, recording: Path) -> None:
    for told in ({"seconds": -1.0}, {"bpm": 7.0}, {"key_name": "H major"}, {"seed": -3}):
        with pytest.raises(AudiogenError):
            continue_recording(generator, recording, **told)  # type: ignore[arg-type]


def test_files(generator: Generator, recording: Path, tmp_path: Path) -> None:
    made = continue_recording(generator, recording, "calm folk", 1.0, 2)
    done = render_continuation(generator, made, recording, tmp_path / "out.wav", "PCM_16", False, lambda a, b: None)
    assert done.seconds == pytest.approx(made.seconds) and read(tmp_path / "out.wav").seconds == pytest.approx(7.03)
    told = read_json(tmp_path / "out.json")
    assert told["continues"]["file"] == "in.wav" and told["continues"]["join_seconds"] == pytest.approx(6.03)
    with pytest.raises(AudiogenError, match="audiogen continue"):
        from_record(tmp_path / "out.json", generator)


def test_a_fade_keeps_the_power_of_like_and_unlike_signals() -> None:
    one, other = (torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 20_000))).float() for seed in (0, 1))
    for into in (one, other):
        power = cross_fade(one, into).square().reshape(2, 10, -1).mean((0, 2))
        assert float((10 * power.log10()).abs().max()) < 0.5
    faded = cross_fade(one, other)
    assert torch.equal(faded[:, 0], one[:, 0]) and torch.equal(faded[:, -1], other[:, -1])


def test_the_shipped_model_joins_without_a_click(tmp_path: Path) -> None:
    generator = Generator.from_pretrained(MINI)
    tone = torch.sin(2 * torch.pi * 220 * torch.arange(3 * 48_000) / 48_000) * 0.2
    write(tmp_path / "tone.wav", Waveform(tone.expand(2, -1), 48_000), "FLOAT")
    made = continue_recording(generator, tmp_path / "tone.wav", None, 1.0, 1)
    clip = torch.cat([part.samples for part in made.play(generator, 25)], 1)
    around = clip[:, 3 * 48_000 - 24_100 : 3 * 48_000 + 100]  # what follows may begin with a stroke of its own
    assert float(around.diff(dim=1).abs().max()) < 0.05  # a tone of that level moves by 0.006 a sample


def test_the_first_beginning_whose_join_is_hidden_is_taken(
    generator: Generator, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ranks, drawn, taken in (([0.5], 1, 0), ([0.97, 0.3, 0.1], 2, 1), ([0.99, 0.98, 0.92, 0.95, 0.96, 1.0], 6, 2)):
        left = iter(ranks)
        monkeypatch.setattr(continuation, "_shown", lambda before, after, left=left: next(left))
        made = continue_recording(generator, recording, "calm folk", 2.5, 4)
        assert (made.beginnings, made.seed) == (drawn, 4)
        assert made.request.seed == 4 + taken * continuation._APART


def test_what_follows_is_led_to_the_loudness_of_the_recording(generator: Generator, recording: Path) -> None:
    made = continue_recording(generator, recording, "calm folk", 12.0, 4)
    assert made.change_db != 0
    plain, led = (
        torch.cat([part.samples for part in one.play_join(generator, 25)], 1)
        for one in (replace(made, change_db=0), made)
    )
    before, late = plain[:, : made.fade_samples], slice(made.fade_samples + 6 * RATE, None)
    assert torch.equal(led[:, : made.fade_samples], before)  # nothing changes until the join
    raised = plain[:, late] * 10 ** (made.change_db / 20)
    ratio = (led[:, late] / raised)[raised.abs() > 0.01]
    assert float(ratio.max()) < 1.001 and float(ratio.median()) > 0.999  # but for what is limited
