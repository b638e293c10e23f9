"""MusicGen through the same generator as our own models: loaded, played, steered, recorded, converted."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from audiogen import AudiogenError, Generator, Waveform, cli
from audiogen.audio.io import read, write
from audiogen.generation.models import load_model
from audiogen.generation.musicgen import convert
from audiogen.generation.render import from_record, record, render
from audiogen.generation.session import clip_limiter, limited
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.sampling import Sampling
from tests import tiny, tiny_musicgen
from tests.laws import memory_is_constant
from tests.tiny_musicgen import HOP, PROMPT, RATE

VARIANTS: dict[str, dict[str, Any]] = {"mono": {}, "stereo": {"channels": 2}, "melody": {"melody": True}}
GREEDY = Sampling(guidance=3.0, temperature=0)


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    return {name: tiny_musicgen.model(seed, **told) for seed, (name, told) in enumerate(VARIANTS.items())}


@pytest.fixture(scope="module")
def folders(theirs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tiny_musicgen.save(made, tmp_path_factory.mktemp("hub") / name) for name, made in theirs.items()}


@pytest.fixture(scope="module")
def generators(folders: dict[str, Path]) -> dict[str, Generator]:
    return {
        name: Generator.from_pretrained(folder, precision="float32", device="cpu") for name, folder in folders.items()
    }


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["mono"], tmp_path / "copy"))


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    write(tmp_path / "tune.wav", Waveform(tiny.notes(3.0), tiny.RATE))
    return tmp_path / "tune.wav"


# --- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_audio_is_that_of_transformers(theirs: dict[str, Any], generators: dict[str, Generator], name: str) -> None:
    generator, frames = generators[name], 80
    codes, audio = tiny_musicgen.generate(theirs[name], frames, 3.0)
    assert generator.sample_rate == RATE and generator.channels == audio.shape[1] == VARIANTS[name].get("channels", 1)
    assert audio.std() > 0.05
    assert float((generator.model.codec.decode(codes) - audio).abs().max()) <= 1e-4
    # and the whole way from the prompt to the end, but for the fade of 20 ms
    made = generator.generate(PROMPT, frames * HOP / RATE, seed=1, sampling=GREEDY).samples
    assert made.shape == audio[0].shape
    expected, fade = limited(clip_limiter(generator.channels, RATE), audio[0], True), RATE // 50
    assert float((made - expected)[:, :-fade].abs().max()) <= 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_the_stream_is_the_whole(generators: dict[str, Generator], name: str) -> None:
    generator = generators[name]
    request = generator.request(PROMPT, seconds=1.3, seed=4)
    whole = torch.cat([chunk.samples for chunk in generator.play(request, 1000)], 1)
    assert whole.shape == (generator.channels, round(1.3 * RATE))
    for size in (1, 7):
        parts = [chunk.samples for chunk in generator.play(request, size)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mono", "melody"])
def test_on_a_gpu_it_is_the_same_clip(folders: dict[str, Path], generators: dict[str, Generator], name: str) -> None:
    there = Generator.from_pretrained(folders[name], precision="float32", device="cuda")
    clip, expected = (made.generate(tiny_musicgen.PROMPT, 3.0, 5).samples for made in (there, generators[name]))
    torch.testing.assert_close(
        clip, expected, atol=1e-2, rtol=0
    )  # convolutions round to TF32; other codes differ by more


def test_what_the_checkpoint_says_is_how_codes_are_drawn(copy: Path, generators: dict[str, Generator]) -> None:
    assert generators["mono"].request(PROMPT).sampling == Sampling(guidance=3.0, temperature=1.0, top_k=250)
    (copy / "generation_config.json").write_text(json.dumps({"guidance_scale": 2, "top_k": 9, "do_sample": False}))
    assert load_model(copy).sampling == Sampling(guidance=2.0, temperature=0, top_k=9)
    (copy / "generation_config.json").unlink()
    assert load_model(copy).sampling == Sampling(guidance=3.0, temperature=1.0, top_k=250)
    (copy / "generation_config.json").write_text('{"guidance_scale": "much"}')
    with pytest.raises(AudiogenError, match=r"generation_config\.json: bad configuration\s+guidance"):
        load_model(copy)


def test_prompts_and_seeds_matter_and_steering_changes_what_follows(generators: dict[str, Generator]) -> None:
    generator = generators["mono"]
    one, again, seed, words = (
        generator.generate(prompt, 1.0, number).samples
        for prompt, number in ((PROMPT, 1), (PROMPT, 1), (PROMPT, 2), ("a bright harp", 1))
    )
    assert torch.equal(one, again) and not torch.equal(one, seed) and not torch.equal(one, words)
    request = generator.request(PROMPT, seconds=2, seed=3)
    straight, steered = generator.session(request), generator.session(request)
    assert torch.equal(straight.advance(40).samples, steered.advance(40).samples)
    steered.steer("a fast bright harp")
    after = straight.advance(60).samples, steered.advance(60).samples
    assert after[0].shape == after[1].shape and not torch.equal(*after)
    assert steered.finished and straight.finished


def test_the_melody_is_heard_recorded_and_goes_around(
    generators: dict[str, Generator], tune: Path, tmp_path: Path
) -> None:
    generator = generators["melody"]
    request = generator.request(PROMPT, seconds=1, seed=1, sampling=GREEDY, melody=tune)
    assert len(request.melody) == 24 and len(set(request.melody)) > 2
    with_melody = torch.cat([chunk.samples for chunk in generator.play(request)], 1)
    without = generator.generate(PROMPT, 1, 1, sampling=GREEDY).samples
    assert not torch.allclose(with_melody, without, atol=1e-3)
    render(generator, request, tmp_path / "a.wav", "FLOAT", False, lambda *_: None)
    assert from_record(tmp_path / "a.json", generator).melody == request.melody
    prefix = generator.session(request)._windows(generator.model.lm, request.prompt)  # type: ignore[arg-type]
    rate = 32_000 / 4096  # melody frames a second, where there are 50 of codes
    around = round(24 / rate * 50)
    assert torch.equal(prefix(0), prefix(around)) and not torch.equal(prefix(0)[0], prefix(900)[0])
    told = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(told | {"melody": [0, 12]}))
    with pytest.raises(AudiogenError, match=r"a\.json: melody: expected pitch classes"):
        from_record(tmp_path / "a.json", generator)


@pytest.mark.parametrize("seconds", [1e-4, 0.02, 0.1234])
def test_length_is_exact_to_the_sample(generators: dict[str, Generator], seconds: float) -> None:
    session = generators["stereo"].session(generators["stereo"].request(PROMPT, seconds, 1))
    parts = [session.advance(3) for _ in range(4)]
    assert session.finished and parts[-1].samples.shape == (2, 0)
    assert sum(part.samples.shape[1] for part in parts) == max(1, round(seconds * RATE))


def test_memory_is_constant_over_many_windows(tmp_path: Path) -> None:
    made = tiny_musicgen.model(3, max_position_embeddings=24, num_hidden_layers=1)
    generator = Generator.from_pretrained(tiny_musicgen.save(made, tmp_path / "short"), precision="float32")
    stride = generator.model.lm.config.stride_frames  # type: ignore[union-attr]
    session = generator.session(generator.request(PROMPT, seconds=600, seed=1))
    memory_is_constant(session, lambda: session.advance(stride), times=16, settle=5)


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_the_licence_is_shown_and_recorded(
    copy: Path, tmp_path: Path, generators: dict[str, Generator], capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "README.md").write_text("---\ntags: [music]\nlicense: cc-by-nc-4.0\n---\n# a card\nlicense: mit\n")
    generator = Generator.from_pretrained(copy, precision="float32")
    assert "copy: licence of the weights: CC-BY-NC-4.0" in capsys.readouterr().err
    request = generator.request(PROMPT, seconds=0.5, seed=1)
    render(generator, request, tmp_path / "a.wav", "PCM_16", False, lambda *_: None)
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["model"]["licence"] == "CC-BY-NC-4.0" and told["prompt"] == PROMPT and "melody" not in told
    again = generator.play(from_record(tmp_path / "a.json", generator))
    render(generator, request, tmp_path / "b.wav", "FLOAT", False, lambda *_: None)
    torch.testing.assert_close(torch.cat([c.samples for c in again], 1), read(tmp_path / "b.wav").samples)
    assert "not stated" in record(generators["mono"], request)["model"]["licence"]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"bpm": 120}, "follows its text alone"),
        ({"key": "A minor"}, "follows its text alone"),
        ({"melody": "tune.wav"}, "mono knows no melodies"),
        ({"seconds": -1}, "--seconds -1"),
        ({"prompt": ""}, "empty"),
    ],
)
def test_bad_requests_say_what_is_wrong(generators: dict[str, Generator], told: dict[str, Any], message: str) -> None:
    with pytest.raises(AudiogenError, match=message):
        generators["mono"].request(told.pop("prompt", PROMPT), **told)


def test_a_melody_of_silence_and_none_at_all(generators: dict[str, Generator], tmp_path: Path) -> None:
    write(tmp_path / "silent.wav", Waveform(torch.zeros(2, 16_000), 16_000))
    with pytest.raises(AudiogenError, match=r"silent\.wav: holds no sound"):
        generators["melody"].request(PROMPT, melody=tmp_path / "silent.wav")
    with pytest.raises(AudiogenError, match=r"none\.wav: there is no such file"):
        generators["melody"].request(PROMPT, melody=tmp_path / "none.wav")


def test_our_own_models_know_no_melodies(generator: Generator, tune: Path) -> None:
    with pytest.raises(AudiogenError, match="tiny knows no melodies"):
        generator.request("jazz", melody=tune)
    assert generator.request("jazz").sampling == Sampling() and generator.model.licence is None


# --- files that are not as they should be -----------------------------------------------------------------------------


def change(path: Path, **values: Any) -> None:
    told = json.loads(path.read_text())
    for name, value in values.items():
        part = told
        *parents, last = name.split("__")
        for parent in parents:
            part = part[parent]
        part[last] = value
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "bark"}, "model_type 'bark': expected musicgen or musicgen_melody"),
        ({"model_type": 3}, "model_type 3"),
        ({"audio_encoder": None}, "encodec"),
        ({"audio_encoder__codebook_size": 64}, "codebook"),
        ({"text_encoder": None}, "'decoder' and 'text_encoder'"),
        ({"text_encoder__model_type": "bert"}, "text_encoder"),
        ({"text_encoder__vocab_size": 10**12}, "vocab_size"),
        ({"text_encoder__d_ff": 33}, r"text_encoder\..* is \[32, 24\] instead of \[33, 24\]"),
        ({"text_encoder__num_layers": 3}, r"missing: text_encoder\.encoder\.block\.2"),
        ({"decoder__hidden_size": 10**9}, "dim"),
        ({"decoder__ffn_dim": 49}, r"fc1\.weight is \[48, 32\] instead of \[49, 32\]"),
        ({"decoder__num_codebooks": 8}, "codebooks"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(copy: Path, changed: dict[str, Any], message: str) -> None:
    change(copy / "config.json", **changed)
    with pytest.raises(AudiogenError, match=message):
        load_model(copy)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decoder.lm_heads.1.weight", None, r"missing: decoder\.lm_heads\.1\.weight"),
        ("decoder.extra", torch.ones(2), r"not known: decoder\.extra"),
        ("else.extra", torch.ones(2), r"not known: else\.extra"),
        ("text_encoder.shared.weight", torch.ones(20, 23), r"text_encoder\.shared\.weight is \[20, 23\]"),
        ("enc_to_dec_proj.bias", torch.full((32,), torch.nan), r"enc_to_dec_proj\.bias holds NaN"),
        ("decoder.model.decoder.layers.1.fc2.weight", torch.full((32, 48), torch.inf), r"1\.fc2\.weight holds NaN"),
        ("audio_encoder.decoder.layers.0.conv.bias", torch.full((32,), torch.inf), r"layers\.0\.conv\.bias holds NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_named(copy: Path, name: str, value: torch.Tensor | None, message: str) -> None:
    tensors = load_file(copy / "model.safetensors")
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(AudiogenError, match=message):
        load_model(copy)


def test_stored_sinusoids_of_old_checkpoints_are_left_aside(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    save_file(
        tensors | {"decoder.model.decoder.embed_positions.weights": torch.zeros(800, 32)}, copy / "model.safetensors"
    )
    assert load_model(copy).lm.config.dim == 32  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "missing, and the prompt"), ("{}", "no tokenizer"), ("big", "belongs to another model")],
)
def test_the_tokenizer_is_checked(copy: Path, text: str | None, message: str) -> None:
    path = copy / "tokenizer.json"
    if text == "big":
        change(copy / "config.json", text_encoder__vocab_size=15)
        tensors = load_file(copy / "model.safetensors")
        tensors["text_encoder.shared.weight"] = tensors["text_encoder.shared.weight"][:15].clone()
        save_file(tensors, copy / "model.safetensors")
    elif text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(AudiogenError, match=rf"tokenizer\.json: .*{message}"):
        load_model(copy)


@pytest.mark.parametrize("package", ["transformers", "tokenizers"])
def test_without_the_extra_the_error_names_it(copy: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AudiogenError, match=rf"{package}, which is not installed: pip install 'audiogen\[text\]'"):
        load_model(copy)


# --- converted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_converted_and_read_back_it_is_the_same(
    folders: dict[str, Path], generators: dict[str, Generator], name: str, tmp_path: Path
) -> None:
    convert(folders[name], tmp_path / "ours", "float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours"]
    again = Generator.from_pretrained(tmp_path / "ours", precision="float32")
    model, before = again.model, generators[name].model
    assert (model.name, model.sampling, model.licence) == (name, before.sampling, before.licence)
    for part in ("lm", "codec"):
        one, two = getattr(model, part).state_dict(), getattr(before, part).state_dict()
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert model.lm.config == before.lm.config
    clips = (made.generate(PROMPT, 0.5, 3).samples for made in (again, generators[name]))
    assert torch.equal(*clips)


@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_converted_smaller(
    folders: dict[str, Path], generators: dict[str, Generator], storage: Any, tmp_path: Path
) -> None:
    convert(folders["mono"], tmp_path / "ours", storage)
    again = Generator.from_pretrained(tmp_path / "ours")
    for key, value in MusicGen.load(tmp_path / "ours" / "lm").state_dict().items():
        exact = generators["mono"].model.lm.state_dict()[key]
        assert float((value - exact).abs().max()) <= 0.02 * float(exact.abs().max())
    assert again.generate(PROMPT, 0.3, 1).samples.isfinite().all()


def test_converting_leaves_nothing_half_done(folders: dict[str, Path], copy: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(AudiogenError, match="there: is there already"):
        convert(folders["mono"], tmp_path / "there", "float16")
    with pytest.raises(AudiogenError, match="does not exist"):
        convert(folders["mono"], tmp_path / "none" / "out", "float16")
    with pytest.raises(AudiogenError, match=r"config\.json"):
        convert(tmp_path / "there", tmp_path / "out", "float16")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(AudiogenError, match="tokenizer"):
        convert(copy, tmp_path / "out", "float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "there"]


# --- the command line -----------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setattr("sys.argv", ["audiogen", *map(str, words)])
    cli.main()


def test_the_command_line(
    folders: dict[str, Path], tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    command(monkeypatch, "convert", folders["melody"], "ours", "--storage", "int8")
    command(monkeypatch, "generate", PROMPT, "--model", "ours", "--melody", tune, "--seconds", "1", "-o", "a.wav",
            "--guidance", "2")  # fmt: skip
    told = json.loads((tmp_path / "a.json").read_text())
    assert (
        told["sampling"]
        == {
            "guidance": 2.0,
            "temperature": 1.0,
            "top_k": 250,
            "top_p": 1.0,
        }
        and len(told["melody"]) == 24
    )
    shown = capsys.readouterr().err
    assert "ours: stored as int8" in shown and "licence of the weights" in shown and "understood" not in shown
    command(monkeypatch, "generate", "--from", "a.json", "--model", "ours", "-o", "b.wav")
    assert torch.equal(read("a.wav").samples, read("b.wav").samples)
    for words, message in (
        (("convert", folders["mono"], "ours"), "is there already"),
        (("convert", folders["mono"], "x", "--storage", "int4"), "--storage int4"),
        (("generate", PROMPT, "--model", "ours", "--bpm", "120", "-o", "c.wav"), "follows its text alone"),
    ):
        with pytest.raises(SystemExit, match=message):
            command(monkeypatch, *words)
