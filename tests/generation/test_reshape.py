from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import RATE, codec, notes

from audiogen.audio.io import read, write
from audiogen.codec.latents import decode_latents, encode_latents
from audiogen.generation import reshape
from audiogen.generation.reshape import morph, upsample
from audiogen.interfaces import AudiogenError, Waveform


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    codec().save(tmp_path / "codec", "float32")
    write(tmp_path / "a.wav", Waveform(notes(3.0, seed=1), RATE))
    write(tmp_path / "b.wav", Waveform(notes(4.0, seed=2), RATE))
    write(tmp_path / "low.wav", Waveform(notes(3.0, 8000, seed=1), 8000))
    return tmp_path


def test_a_morph_begins_as_the_first_and_ends_as_the_second(folder: Path) -> None:
    told: list[tuple[float, float]] = []
    seconds = morph(folder / "a.wav", folder / "b.wav", folder / "m.wav", folder / "codec", lambda *x: told.append(x))
    made = read(folder / "m.wav").samples
    assert seconds == 3.0 and made.shape == (2, 3 * RATE) and told[-1] == (3.0, 3.0)
    latents = encode_latents(codec(), read(folder / "a.wav").samples[None])
    first = torch.cat(list(decode_latents(codec(), latents)), 2)[0]
    start = slice(0, RATE // 8)
    assert float((made - first)[:, start].norm() / first[:, start].norm()) < 0.02


def test_between_two_ways_in_blocks() -> None:
    begin = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(0))
    end = begin + torch.tensor([1.0, -2.0, 3.0])
    made = torch.cat(list(reshape._between(begin.split(7, 1), end.split(7, 1), 40)), 1)
    assert torch.equal(made[:, 0], begin[:, 0]) and torch.equal(made[:, -1], end[:, -1])
    share = (made - begin) / (end - begin)
    torch.testing.assert_close(share, share[:, :, :1].expand_as(share), atol=1e-3, rtol=0)
    assert (share[0, 1:, 0] > share[0, :-1, 0]).all() and abs(float(share[0, 19:21, 0].mean()) - 0.5) < 0.01


def test_upsampling_keeps_what_was_recorded_and_adds_above(folder: Path) -> None:
    cut_hz = upsample(folder / "low.wav", folder / "up.wav", folder / "codec", lambda done, total: None)
    made, given = read(folder / "up.wav").samples[0].numpy(), read(folder / "low.wav", RATE, 2).samples[0].numpy()
    assert made.shape == given.shape and cut_hz == pytest.approx(3760)
    spectra = [np.abs(np.fft.rfft(x * np.hanning(len(x)))) for x in (made, given)]
    hz = np.fft.rfftfreq(len(made), 1 / RATE)
    low, high = hz < 3500, hz > 4300
    assert np.linalg.norm((spectra[0] - spectra[1])[low]) < 0.01 * np.linalg.norm(spectra[1][low])
    assert spectra[0][high].mean() > 20 * spectra[1][high].mean()


def test_mono_stays_mono(folder: Path) -> None:
    write(folder / "mono.wav", Waveform(notes(1.0, 8000)[:1], 8000))
    upsample(folder / "mono.wav", folder / "up.wav", folder / "codec", lambda done, total: None)
    assert read(folder / "up.wav").samples.shape == (1, RATE)


def test_the_high_pass_has_no_delay_and_no_seams() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, 20_000), dtype=np.float32))
    whole = torch.cat(list(reshape._above([noise], 2, 4000.0, 48_000)), 2)
    parts = torch.cat(list(reshape._above(noise.split([1, 300, 4000, 15_699], 2), 2, 4000.0, 48_000)), 2)
    torch.testing.assert_close(parts, whole, atol=2e-5, rtol=0)
    middle = slice(2000, 18_000)
    spectrum = torch.fft.rfft(noise[0, 0])
    hz = torch.arange(len(spectrum)) * 48_000 / 20_000
    ideal = torch.fft.irfft(spectrum * (hz > 4000))
    rest = (whole[0, 0] - ideal)[middle]
    assert float(rest.square().mean() / ideal[middle].square().mean()) < 0.02


def test_bad_input_leaves_nothing_behind(folder: Path) -> None:
    write(folder / "short.wav", Waveform(notes(0.5), RATE))
    none = lambda done, total: None  # noqa: E731
    with pytest.raises(AudiogenError, match=r"short\.wav: 0\.50 s; a morph needs a second"):
        morph(folder / "a.wav", folder / "short.wav", folder / "m.wav", folder / "codec", none)
    write(folder / "cd.wav", Waveform(notes(0.5, 44_100), 44_100))
    with pytest.raises(AudiogenError, match="44100 Hz; upsample restores recordings of 8,000 to 16,000 Hz"):
        upsample(folder / "cd.wav", folder / "m.wav", folder / "codec", none)
    (folder / "text.wav").write_text("no audio")
    with pytest.raises(AudiogenError, match=r"text\.wav"):
        upsample(folder / "text.wav", folder / "m.wav", folder / "codec", none)
    assert not (folder / "m.wav").exists()


def test_interrupted_it_leaves_nothing_behind(folder: Path) -> None:
    def interrupt(done: float, total: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        morph(folder / "a.wav", folder / "b.wav", folder / "m.wav", folder / "codec", interrupt)
    assert not [path for path in folder.iterdir() if "m.wav" in path.name]
