"""A recording goes on by a MusicGen: as transformers continues it, window after window, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen import AudiogenError, Generator, Waveform
from audiogen.audio.io import read, write
from audiogen.generation.continuation import continue_recording, render_continuation
from tests import tiny_musicgen
from tests.generation.test_musicgen_models import GREEDY, VARIANTS, command
from tests.tiny_musicgen import PROMPT

HEARD_RATE, HEARD_HOP = 8000, 160  # of what loudness can be told
HEARD = {"ratios": (8, 5, 4)}


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Generator]]:
    """transformers' model and ours."""
    made = {}
    for seed, (name, told) in enumerate(VARIANTS.items()):
        theirs = tiny_musicgen.model(seed, **HEARD, **told)
        folder = tiny_musicgen.save(theirs, tmp_path_factory.mktemp("heard") / name)
        made[name] = theirs, Generator.from_pretrained(folder, precision="float32", device="cpu")
    return made


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A second and a half, not a whole number of frames, in stereo, at the rate of the models."""
    sound = torch.randn(2, 12070, generator=torch.Generator().manual_seed(0)).cumsum(1).sin() * 0.2
    write(tmp_path / "begun.wav", Waveform(sound, HEARD_RATE), "FLOAT")
    return tmp_path / "begun.wav"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_recording_goes_on_as_in_transformers(
    heard: dict[str, tuple[Any, Generator]], name: str, begun: Path
) -> None:
    (theirs, generator), frames = heard[name], 200
    made = continue_recording(generator, begun, PROMPT, (frames - 75) * HEARD_HOP / HEARD_RATE, 1, sampling=GREEDY)
    sound = read(begun, HEARD_RATE, generator.channels).samples[:, -75 * HEARD_HOP :]
    assert made.request.begun is not None and made.request.begun.shape[1] == 75
    given = {"decoder_input_ids": made.request.begun} if name == "melody" else {"input_values": sound[None]}
    codes, audio = tiny_musicgen.generate(theirs, frames, 3.0, **given)  # theirs of a melody reads codes alone
    session = generator.session(made.request)
    assert torch.equal(made.request.begun, codes[0, :, :75])
    assert torch.equal(session.stream.advance(frames - 75), codes[:, :, 75:])
    assert codes[:, :, 75:].unique().numel() >= 8
    session = generator.session(made.request)
    assert session.lead is not None
    played = torch.cat([session.lead.samples, session.advance(40).samples, session.advance(500).samples], 1)
    assert session.finished and played.shape == audio[0].shape
    plain = played[:, : -HEARD_RATE // 50], audio[0, :, : -HEARD_RATE // 50]
    assert float(((plain[0] - plain[1]) * (plain[1].abs() <= 0.9)).abs().max()) <= 1e-4


def test_the_clip_is_the_recording_and_what_follows(
    heard: dict[str, tuple[Any, Generator]], begun: Path, tmp_path: Path
) -> None:
    _, generator = heard["stereo"]
    made = continue_recording(generator, begun, PROMPT, 2.5, 4)
    one, whole = (torch.cat([part.samples for part in made.play(generator, size)], 1) for size in (3, 1000))
    torch.testing.assert_close(one, whole, atol=1e-5, rtol=0)
    sound = read(begun).samples
    kept = sound.shape[1] - HEARD_RATE // 2  # half a second fades
    assert whole.shape == (2, 12070 + 20000) and torch.equal(whole[:, :kept], sound[:, :kept])
    assert float(whole[:, 12070:].std()) > 1e-3
    render_continuation(generator, made, begun, tmp_path / "out.wav", "FLOAT", False, lambda *_: None)
    told = json.loads((tmp_path / "out.json").read_text())
    torch.testing.assert_close(read(tmp_path / "out.wav").samples, whole, atol=1e-5, rtol=0)
    assert told["prompt"] == PROMPT and told["seed"] == 4
    assert told["continues"]["context_frames"] == 75 and told["continues"]["context_seconds"] == 1.5
    assert told["continues"]["heard_tempo_bpm"] is None and told["plan"]["seconds"] == 4.0


def test_the_condition_leaves_room_and_the_stream_goes_through_its_windows(tmp_path: Path, begun: Path) -> None:
    """Of a longer recording the end, as much as one window takes from another; each goes on as from its own codes."""
    made = tiny_musicgen.model(3, max_position_embeddings=104, **HEARD)
    generator = Generator.from_pretrained(tiny_musicgen.save(made, tmp_path / "short"), precision="float32")
    stride = 60
    going = continue_recording(generator, begun, PROMPT, 3.0, 1, sampling=GREEDY)
    assert going.request.begun is not None and going.request.begun.shape == (4, 100 - stride)
    window = whole = going.request.begun[None]
    for _ in range(2):
        window, _ = tiny_musicgen.generate(made, 100, 3.0, decoder_input_ids=window[0, :, -40:])
        whole = torch.cat([whole, window[:, :, 40:]], 2)
    ours = generator.session(going.request).stream.advance(120)
    assert torch.equal(ours, whole[:, :, 40:160])


@pytest.mark.parametrize(
    ("samples", "told", "message"),
    [
        (torch.zeros(1, 20000), {}, r"bad\.wav: is silent"),
        (torch.full((1, HEARD_HOP - 1), 0.3), {}, r"bad\.wav: 0\.0\d+ s of sound; a continuation needs 1 s"),
        (torch.full((1, 20000), 0.3), {"bpm": 120}, "follows its text alone"),
        (torch.full((1, 20000), 0.3), {"key_name": "A minor"}, "follows its text alone"),
        (torch.full((1, 20000), 0.3), {"prompt": None}, "say what comes"),
        (torch.full((1, 20000), 0.3), {"seed": -1}, "seed -1"),
        (None, {}, r"bad\.wav"),
    ],
)
def test_what_cannot_go_on(
    heard: dict[str, tuple[Any, Generator]],
    tmp_path: Path,
    samples: torch.Tensor | None,
    told: dict[str, Any],
    message: str,
) -> None:
    if samples is None:
        (tmp_path / "bad.wav").write_text("no sound")
    else:
        write(tmp_path / "bad.wav", Waveform(samples, HEARD_RATE))
    with pytest.raises(AudiogenError, match=message):
        continue_recording(heard["mono"][1], tmp_path / "bad.wav", **({"prompt": PROMPT, "seconds": 1.0} | told))


def test_the_command_that_continues(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_musicgen.save(tiny_musicgen.model(4, **HEARD), tmp_path / "model")
    command(monkeypatch, "continue", begun, PROMPT, "--model", "model", "--seconds", "1.5", "-o", "d.wav")
    assert read("d.wav").samples.shape == (1, 12070 + 12000)
    assert "begun.wav: goes on from its last 1.50 s" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="say what comes"):
        command(monkeypatch, "continue", begun, "--model", "model", "-o", "e.wav")
