from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from laws import failed_save_changes_nothing, streamed_codec_is_the_offline_one
from safetensors.torch import load_file, save_file
from tiny import CODEC, RATE, codec, notes

from audiogen.codec.spectral import SpectralCodec, SpectralCodecConfig
from audiogen.interfaces import AudiogenError


@pytest.fixture(scope="module")
def made() -> SpectralCodec:
    return codec()


def test_training_and_use_are_the_same_computation(made: SpectralCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for phases, which begin anywhere in training: here they begin as in a stream."""
    monkeypatch.setattr("torch.rand_like", lambda phases: made.oscillators.first_phases(2))
    monkeypatch.setattr("torch.randint", lambda *bounds: torch.tensor(0))
    audio = torch.stack([notes(1.2, seed=5), notes(1.2, seed=6)])
    with torch.no_grad():
        trained = made(audio, torch.tensor([4, 2]))
    codes = made.encode(audio)
    assert torch.equal(trained.bottled.codes, codes)
    samples = audio.shape[2] - CODEC.late_samples
    assert trained.samples.shape == (2, 2, samples)
    for row, books in ((0, 4), (1, 2)):
        used = made.decode(codes[row : row + 1, :books])[0, :, :samples]
        torch.testing.assert_close(trained.samples[row], used, atol=1e-5, rtol=0)


def test_without_codebooks_the_latents_pass_and_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    fresh = SpectralCodec(CODEC)
    audio = notes(1.2)[None]
    made = fresh(audio, torch.tensor([4]), torch.ones(1))
    (made.samples.square().mean() + made.bottled.cost + sum(part.square().mean() for part in made.played)).backward()
    assert not made.bottled.codes.any()
    assert [name for name, weight in fresh.named_parameters() if weight.grad is None] == []


def test_the_output_stands_where_the_input_stood() -> None:
    fresh = codec()
    bins, window, hop = CODEC.bins, CODEC.window, CODEC.short_hop
    with torch.no_grad():
        fresh.dec_out.weight.zero_()
        fresh.dec_out.bias.fill_(-20.0)  # no tones, nothing free
        turn = -2 * np.pi * torch.arange(bins) * (window // 2) / window  # each frame: an impulse at its middle
        magnitude, phase = fresh.dec_out.bias[: 4 * bins].view(2, 2, bins)
        magnitude[0], phase[0] = 0.0, turn  # mid, and no side
    audio = fresh.decode(torch.zeros(1, 4, 6, dtype=torch.long))[0, 0]
    direct = torch.nonzero(audio > 0.5 * audio.max())[:, 0]
    # frame j of the codes ends with short hop j, so its middle is the start of short hop j - 1. It is drawn when the
    # codes of `lookahead_frames` more are known: 6 frames are 24 hops, here from hop 0 on.
    assert direct.tolist() == [hop * number for number in range(23)]


def test_a_held_code_sounds_a_steady_tone_of_any_frequency() -> None:
    """Constant codes, one oscillator open: no multiple of the frame rate, no beating (the trap in the facts)."""
    fresh = codec()
    which, deviation = 45, 0.3
    with torch.no_grad():
        fresh.dec_out.weight.zero_()
        fresh.dec_out.bias.fill_(-20.0)
        loudness, *across = fresh.dec_out.bias[-3 * CODEC.num_oscillators :].view(3, -1)
        loudness[which], across[0][which], across[1][which] = 4.0, 0.0, 0.0  # in the middle
        last = fresh.dec_pitch[-1]
        last.weight.zero_()
        last.bias.fill_(np.arctanh(deviation / 0.6))
    audio = fresh.decode(torch.zeros(1, 4, 200, dtype=torch.long))[0, 0].double().numpy()
    hz = CODEC.lowest_hz * 2 ** ((which + deviation) / 12)
    held = audio[RATE : RATE + 4 * RATE]
    time = np.arange(len(held)) / RATE
    waves = np.stack([np.cos(2 * np.pi * hz * time), np.sin(2 * np.pi * hz * time)], 1)
    fitted, *_ = np.linalg.lstsq(waves, held, rcond=None)
    rest = held - waves @ fitted
    assert 10 * np.log10((rest**2).mean() / (held**2).mean()) < -40
    assert np.hypot(*fitted) == pytest.approx(np.exp(4.0 - 6.0), rel=0.01)


def test_the_future_does_not_reach_the_past(made: SpectralCodec) -> None:
    audio = notes(2.0)[None]
    changed = audio.clone()
    changed[:, :, 20 * made.hop_length :] = 0
    assert torch.equal(made.encode(audio)[:, :, :20], made.encode(changed)[:, :, :20])
    assert not torch.equal(made.encode(audio), made.encode(changed))


def test_what_is_asked_to_be_restored_is_heard_otherwise() -> None:
    fresh, audio = codec(), notes(1.0)[None]
    with torch.no_grad():
        fresh.restoring.fill_(0.3)
    plain, asked = (fresh.encode_latents(audio, fresh.encoder_state(1), restore)[0] for restore in (False, True))
    assert torch.equal(fresh.quantizer.encode(plain), codec().encode(audio))  # not asked for, it changes nothing
    assert not torch.allclose(plain, asked, atol=1e-3)
    mixed = fresh._encode(audio.repeat(2, 1, 1), fresh.encoder_state(2), torch.tensor([0.0, 1.0]))[0]
    torch.testing.assert_close(mixed[:, :, : CODEC.latent_dim], torch.cat([plain, asked]), atol=1e-4, rtol=0)


def test_fewer_codebooks_still_decode(made: SpectralCodec) -> None:
    codes = made.encode(notes(1.0)[None])
    whole = made.decode(codes)
    for k in (1, 2, 3):
        part = made.decode(codes[:, :k])
        assert part.shape == whole.shape and bool(part.isfinite().all()) and not torch.equal(part, whole)


@pytest.mark.parametrize("samples", [1, 640, 641])
def test_silence_and_a_single_sample(made: SpectralCodec, samples: int) -> None:
    codes = made.encode(torch.zeros(1, 2, samples))
    assert codes.shape == (1, 4, -(-samples // 640))
    assert bool(made.decode(codes).isfinite().all())


def test_no_frames_decode_to_no_samples(made: SpectralCodec) -> None:
    assert made.decode(torch.zeros(1, 4, 0, dtype=torch.long)).shape == (1, 2, 0)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (torch.full((1, 2, 700), float("nan")), "NaN or infinite"),
        (torch.full((1, 2, 700), float("inf")), "NaN or infinite"),
        (torch.zeros(1, 8, 700), r"channels 2.*\[1, 8, 700\]"),
        (torch.zeros(1, 1, 700), r"channels 2.*\[1, 1, 700\]"),
        (torch.zeros(2, 700), r"\[2, 700\]"),
        (torch.zeros(1, 2, 0), "no samples"),
    ],
)
def test_bad_audio_is_refused(made: SpectralCodec, samples: torch.Tensor, words: str) -> None:
    with pytest.raises(AudiogenError, match=words):
        made.encode(samples)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (torch.full((1, 4, 3), 32), r"0…31, got 32…32"),
        (torch.full((1, 4, 3), -1), r"0…31, got -1…-1"),
        (torch.zeros(1, 5, 3, dtype=torch.long), "1 to 4 codebooks"),
        (torch.zeros(1, 0, 3, dtype=torch.long), "1 to 4 codebooks"),
        (torch.zeros(4, 3, dtype=torch.long), r"\[4, 3\]"),
    ],
)
def test_bad_codes_are_refused(made: SpectralCodec, codes: torch.Tensor, words: str) -> None:
    with pytest.raises(AudiogenError, match=words):
        made.decode(codes)


def test_a_wrong_batch_is_refused(made: SpectralCodec) -> None:
    with pytest.raises(AudiogenError, match="batch 2"):
        made.streaming_decoder(2).decode(torch.zeros(1, 4, 3, dtype=torch.long))
    with pytest.raises(AudiogenError, match="batch 2"):
        made.streaming_encoder(2).encode(torch.zeros(1, 2, 700))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hop_length": 1000}, "multiple of short_hop"),
        ({"long_window": 320}, "long_window"),
        ({"top_hz": 9000}, "half of sample_rate"),
        ({"num_oscillators": 96}, "highest oscillator"),
        ({"hops": 1}, "hops"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(AudiogenError, match=words):
        SpectralCodecConfig.build(CODEC.model_dump() | changes, "codec.toml")


def test_saved_and_loaded(made: SpectralCodec, tmp_path: Path) -> None:
    made.save(tmp_path / "codec", "float32")
    again = SpectralCodec.load(tmp_path / "codec")
    codes = made.encode(notes(1.0)[None])
    assert torch.equal(again.encode(notes(1.0)[None]), codes)
    assert torch.equal(again.decode(codes), made.decode(codes))
    assert again.fingerprint == made.fingerprint and again.config == made.config
    assert not any(weight.requires_grad for weight in again.parameters()) and not again.training


def test_the_fingerprint_is_of_what_decides_the_codes() -> None:
    made = codec()
    before = made.fingerprint
    made.dec_out.weight.add_(1)
    made.quantizer.counts.add_(1)
    assert made.fingerprint == before
    made.enc_in.bias[0] += 1e-3
    assert made.fingerprint != before


def test_a_folder_that_does_not_fit_is_refused(made: SpectralCodec, tmp_path: Path) -> None:
    folder = tmp_path / "codec"
    made.save(folder, "float16")
    told = json.loads((folder / "config.json").read_text())
    told["config"]["slow_dim"] = 24
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(AudiogenError, match=r"codec: the weights do not fit"):
        SpectralCodec.load(folder)


def test_failed_save_changes_nothing(made: SpectralCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save() -> None:
        made.save(tmp_path / "codec", "float16")

    for _ in range(2):  # once with nothing there, once over a model
        failed_save_changes_nothing(save, tmp_path / "codec", "safetensors.torch.save_file", monkeypatch)
        save()


@pytest.mark.needs_fluidsynth
def test_a_piece_of_the_catalogue_streams_as_it_encodes(tmp_path: Path) -> None:
    import mido

    from recipes.starter_catalogue.compose import compose
    from recipes.starter_catalogue.render import SAMPLE_RATE, SOUNDFONT, synthesise, to_midi

    midi = to_midi(compose(1, 0))
    for track in midi.tracks:  # the first 16 beats, then silence
        ends = np.cumsum([message.time for message in track])
        channels = {message.channel for message in track if not message.is_meta}
        track[:] = [message for message, end in zip(track, ends, strict=True) if end <= 16 * midi.ticks_per_beat]
        track += [mido.Message("control_change", channel=channel, control=120) for channel in channels]
    midi.save(tmp_path / "piece.mid")
    audio = synthesise(tmp_path / "piece.mid", 4 * SAMPLE_RATE, SOUNDFONT)
    assert float(np.abs(audio).max()) > 0.01
    sizes = {"sample_rate": 48_000, "hop_length": 1920, "short_hop": 480, "long_window": 3840}
    wide = codec(config=SpectralCodecConfig.model_validate(CODEC.model_dump() | sizes))
    streamed_codec_is_the_offline_one(wide, torch.from_numpy(audio.T.copy())[None], seeds=[0])


def test_weights_of_before_0_7_are_read_as_they_were_trained(made: SpectralCodec, tmp_path: Path) -> None:
    """They have nothing to restore with, and were told deviations wherever a tone leaks to."""
    old = SpectralCodec(CODEC.model_copy(update={"direct": False}))
    old.load_state_dict(made.state_dict(), strict=False)
    old.save(tmp_path / "codec", "float32")
    path = tmp_path / "codec" / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "direct"}))
    (weights,) = (tmp_path / "codec").glob("*.safetensors")
    tensors = load_file(weights)
    del tensors["restoring"]
    save_file(tensors, weights)
    again = SpectralCodec.load(tmp_path / "codec")
    assert not again.config.direct and not again.restoring.any() and again.fingerprint == old.fingerprint
    tone = 0.3 * torch.sin(2 * np.pi * 330 * torch.arange(RATE) / RATE).expand(1, 2, -1)
    assert torch.equal(again.encode(tone), old.eval().encode(tone))
    assert not torch.equal(again.latents_of(tone), made.latents_of(tone))
