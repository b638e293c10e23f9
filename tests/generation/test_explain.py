"""Explain: the numbers are those of the model read plainly, the picture names what it shows, the page stands alone."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from audiogen import AudiogenError, Generator, Score
from audiogen.generation import explain as module
from audiogen.generation.explain import Explanation, codes_of, examine, explain, outputs
from audiogen.generation.explain_figure import figure
from audiogen.generation.explain_page import page
from audiogen.generation.generator import Request
from audiogen.generation.render import from_record, render
from audiogen.interfaces import Condition, Prompt
from audiogen.lm.delay import apply_delay
from audiogen.lm.model import MusicLM
from audiogen.lm.musicgen import MusicGen
from audiogen.lm.recurrent import RecurrentConfig
from audiogen.lm.sampling import Sampling
from audiogen.lm.score import lanes
from tests import tiny

SECONDS, BOOKS, PROMPT = 3.0, 4, 'calm <b>folk</b> & "harp", 120 bpm, D minor </script><script>alert(1)</script>'
FRAMES = round(SECONDS * tiny.RATE / tiny.CODEC.hop_length)


def asked(generator: Generator, **told: object) -> Request:
    return generator.request(PROMPT, SECONDS, 4, **told)


@pytest.fixture(scope="module")
def explanation(generator: Generator) -> Explanation:
    return examine(generator, asked(generator))


def plainly(generator: Generator, request: Request) -> tuple[Tensor, Tensor]:
    """Codes `[K, T]` as they are played, and the logits `[2, K, T]` of the frames, all through `MusicLM.forward`."""
    assert generator.model.folder is not None
    model = MusicLM.load(generator.model.folder / "lm")
    positions = FRAMES + BOOKS - 1
    codes = generator.session(request).stream.advance(positions)
    delayed = torch.cat([torch.full((1, BOOKS, 1), model.config.pad), apply_delay(codes, model.config.pad)], 2)
    said = torch.from_numpy(lanes(request.score, 0, positions, model.config.frame_rate))
    prefix = model.prefix.encode([Prompt(request.prompt.text, request.attributes), None])
    condition = Condition(prefix, torch.stack([said, torch.zeros_like(said)]))
    logits = model.forward(delayed[:, :, :positions].expand(2, -1, -1), condition)
    whole = torch.stack([logits[:, book, book : book + FRAMES] for book in range(BOOKS)], 1)
    return codes[0, :, :FRAMES], whole


# --- the numbers ----------------------------------------------------------------------------------------------------


def test_the_codes_are_those_that_are_played(generator: Generator) -> None:
    request, codec = asked(generator), generator.model.codec
    codes = codes_of(generator.session(request), FRAMES)
    heard = torch.cat([chunk.samples for chunk in generator.play(request, 7)], 1)
    late = (
        codec.streaming_decoder(1).latency_frames + 1
    ) * codec.hop_length  # the end is faded, and knows what follows
    again = codec.decode(codes[None])[0, :, :-late]
    quiet = again.abs() < 0.9  # what is louder was bent
    assert codes.shape == (BOOKS, FRAMES) and again.shape[1] > heard.shape[1] / 2 and bool(quiet.any())
    torch.testing.assert_close(heard[:, : again.shape[1]][quiet], again[quiet], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_bits_are_those_of_the_model_read_plainly(generator: Generator, explanation: Explanation) -> None:
    request = asked(generator)
    _, logits = plainly(generator, request)
    told, plain = (torch.distributions.Categorical(logits=row.double()) for row in logits)
    scale = request.sampling.guidance
    guided = torch.distributions.Categorical(logits=(logits[1] + scale * (logits[0] - logits[1])).double())
    divergence = torch.distributions.kl_divergence
    expected = guided.entropy(), divergence(told, plain), divergence(guided, told)
    found = explanation.entropy_bits, explanation.told_bits, explanation.pushed_bits
    for nats, bits in zip(expected, found, strict=True):
        np.testing.assert_allclose(bits, nats.numpy() / math.log(2), atol=2e-4)
        assert bits.shape == (BOOKS, FRAMES) and bits.max() > 0.01
    assert explanation.entropy_bits.max() <= math.log2(tiny.LM.codebook_size)


@torch.inference_mode()
def test_a_greedy_clip_is_what_the_reading_finds_likeliest(generator: Generator) -> None:
    codes, logits = plainly(generator, asked(generator, sampling=Sampling(guidance=1.0, temperature=0)))
    assert torch.equal(logits[0].argmax(-1), codes)  # to the last frame: it was drawn knowing those after


def test_without_guidance_nothing_is_pushed(generator: Generator) -> None:
    found = examine(generator, asked(generator, sampling=Sampling(guidance=1.0)))
    assert found.pushed_bits.max() < 1e-6 < found.told_bits.max()


def test_a_clip_of_the_same_words_without_a_score_is_told_less(generator: Generator) -> None:
    request = asked(generator)
    mute = replace(request, score=Score(SECONDS))
    full, bare = (examine(generator, asked).told_bits.sum() for asked in (request, mute))
    assert 0 < bare < full


def test_attention_is_shared_out_whole(explanation: Explanation) -> None:
    assert explanation.prefix.shape == (FRAMES, 12) and explanation.lags.shape == (FRAMES, 8)
    np.testing.assert_allclose(explanation.prefix.sum(1) + explanation.lags.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(explanation.layer_prefix.mean(0), explanation.prefix.mean(0), atol=1e-6)
    np.testing.assert_allclose(explanation.layer_lags.mean(0), explanation.lags.mean(0), atol=1e-6)
    assert not explanation.lags[2, 3:].any() and explanation.lags[7].all()
    regions = explanation.regions(explanation.prefix, explanation.lags)
    np.testing.assert_allclose(regions.sum(1), 1, atol=1e-5)
    assert explanation.region_names == ("prefix", "last 1 s", "1–4 s ago", "4–4 s ago")


def test_long_clips_are_told_in_means(
    generator: Generator, explanation: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_COLUMNS", 20)
    monkeypatch.setattr(module, "_BLOCK_FRAMES", 13)
    short = examine(generator, asked(generator))
    assert short.stride == 4 and short.prefix.shape == (19, 12)
    for name in ("entropy_bits", "told_bits", "prefix", "lags"):
        fine, coarse = getattr(explanation, name), getattr(short, name)
        if name.endswith("bits"):
            fine, coarse = fine.T, coarse.T
        np.testing.assert_allclose(coarse[0], fine[:4].mean(0), atol=1e-5)
        np.testing.assert_allclose(coarse[-1], fine[72:].mean(0), atol=1e-5)
    np.testing.assert_allclose(short.layer_lags, explanation.layer_lags, atol=1e-6)


def test_looking_back_a_bar_is_found(explanation: Explanation) -> None:
    """A clip of 40 s at 120 bpm, of which attention falls off but for what lies 2 s, a bar, before."""
    lags = 1 / np.arange(1.0, 301)
    lags[48:51] *= 3
    score = Score(40.0, np.arange(0, 40, 0.5), np.arange(0, 40, 2.0))
    reach = (1000 - np.arange(300)) / 1000
    made = replace(
        explanation, request=replace(explanation.request, score=score), frames=1000, lags=np.zeros((10, 300)),
        layer_lags=np.stack([lags * reach] * 2),
    )  # fmt: skip
    np.testing.assert_allclose(made.profile, np.stack([lags] * 2))
    found = {lag.name: lag for lag in made.musical_lags}
    assert list(found) == ["1 beat", "1 bar", "2 bars", "4 bars"] and found["1 bar"].seconds == 2.0
    assert found["1 bar"].ratio > 2 and all(found[name].ratio < 1.1 for name in found if name != "1 bar")
    unmetred = replace(made, request=replace(made.request, score=Score(40.0)))
    assert unmetred.musical_lags == ()


# --- the picture and the page ---------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that what opens closes; keeps texts by element, and every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.texts.setdefault(tag, [])
        if tag not in ("meta", "img", "input", "br", "link"):
            self.open.append(tag)
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data


@pytest.fixture(scope="module")
def made(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A clip, its record, and the two files of its explanation in the folder beside."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "the clips").mkdir()
    wav = folder / "the clips" / 'my "clip" #1.wav'
    render(generator, asked(generator), wav, "PCM_16", False, lambda done, total: None)
    told: list[float] = []
    request = from_record(wav.with_suffix(".json"), generator)
    png, html = explain(generator, request, folder / "seen", wav, lambda done, total: told.append(done))
    return SimpleNamespace(folder=folder, png=png, html=html, told=told, page=html.read_text(encoding="utf-8"))


def test_two_files_and_nothing_else(made: SimpleNamespace) -> None:
    assert sorted(path.name for path in made.folder.iterdir()) == ["seen.html", "seen.png", "the clips"]
    header = made.png.read_bytes()[:24]
    width, height = struct.unpack(">II", header[16:])
    assert header[:8] == b"\x89PNG\r\n\x1a\n" and width == 1400 and height > 1500
    assert made.told == sorted(made.told) and len(made.told) > 2 and made.told[-1] == SECONDS


def test_the_page_stands_alone_and_escapes_what_it_was_given(made: SimpleNamespace) -> None:
    parsed = Page(made.page)
    sound, image = parsed.addresses
    assert sound == "the%20clips/my%20%22clip%22%20%231.wav" and image.startswith("data:image/png;base64,")
    for outside in ("http://", "https://", "@import", "url(", "<b>folk", "alert(1)</script>"):
        assert outside not in made.page, outside
    assert len(parsed.texts["script"]) == 2
    assert any("<b>folk</b>" in text for text in parsed.texts["h1"]) and "<b>folk</b>" in parsed.texts["title"][0]
    (told,) = parsed.texts["pre"]
    for part in ("understood:", "seed 4", "guidance 3", "top-k 100", "tiny ", "D minor", "120 bpm"):
        assert part in told, part


def test_the_numbers_of_the_page_are_those_of_the_explanation(made: SimpleNamespace, explanation: Explanation) -> None:
    parsed = Page(made.page)
    data = json.loads(parsed.texts["script"][0])
    assert data["seconds"] == SECONDS and data["columnSeconds"] == pytest.approx(0.04)
    entropy, told, regions, prefix = data["meters"]
    for meter, values in (
        (entropy, explanation.entropy_bits),
        (told, np.stack([explanation.told_bits.sum(0), explanation.pushed_bits.sum(0)])),
        (regions, 100 * explanation.regions(explanation.prefix, explanation.lags).T),
        (prefix, 100 * explanation.prefix.T),
    ):
        assert len(meter["names"]) == len(values)
        np.testing.assert_allclose(meter["values"], values, atol=0.06)
    assert len(data["said"]) == FRAMES and "bar 1, beat 1" in data["said"][0] and "energy" in data["said"][0]
    for bar, start in enumerate(explanation.request.score.downbeats_seconds[:2], 1):
        first = math.ceil(start / 0.04)
        assert f"bar {bar}, beat 1" in data["said"][first] and f"bar {bar}, beat 2" in data["said"][first + 13]
    frame = data["picture"]
    assert 0 < frame["left"] < 0.3 < 0.7 < frame["right"] < 1 and 0 < frame["top"] < frame["bottom"] < 1
    cells = parsed.texts["td"] + parsed.texts["th"]
    assert f"{explanation.entropy_bits[0].mean():.2f}" in cells and "D minor" in cells


def test_without_sound_there_is_no_player(generator: Generator, explanation: Explanation) -> None:
    picture = SimpleNamespace(png=b"", width=100, height=100, left=0.1, right=0.9, top=0.1, bottom=0.9)
    parsed = Page(page(explanation, picture, generator.model, None))
    assert "audio" not in parsed.texts and len(parsed.addresses) == 1


def test_the_panels_say_what_they_show(explanation: Explanation) -> None:
    drawing, panels = figure(explanation, None)
    titles = [panel.get_title(loc="left") for panel in panels]
    assert len(titles) == 6 and all(titles)
    score, entropy, guidance, regions, prefix, lags = panels
    shown = {text.get_text() for text in score.texts}
    assert {chord.symbol for chord in explanation.request.score.chords[:1]} <= shown and "1" in shown
    np.testing.assert_allclose(entropy.get_images()[0].get_array(), explanation.entropy_bits)
    lines = [line.get_ydata() for line in guidance.get_lines()[:2]]
    np.testing.assert_allclose(lines, [explanation.told_bits.sum(0), explanation.pushed_bits.sum(0)])
    assert [text.get_text() for text in regions.get_legend().get_texts()] == list(explanation.region_names)
    labels = [text.get_text() for text in prefix.get_yticklabels()]
    assert labels[0] == "free 4" and "key: D minor" in labels and "tempo: 120 bpm" in labels
    hidden = np.ma.getmaskarray(lags.get_images()[0].get_array())
    assert hidden[3, 2] and not hidden[2, 2]  # the third frame can look three frames back at most
    assert all(panel.get_xlim() == (0, SECONDS) for panel in panels)
    for panel in (entropy, guidance, regions, lags):
        assert panel.get_ylabel()
    heading = drawing.subfigs[0].get_suptitle()
    assert heading.startswith("calm <b>folk</b>") and heading.endswith("3 s, seed 4, guidance 3")


def test_a_score_that_says_nothing_is_drawn_as_such(explanation: Explanation) -> None:
    bare = replace(explanation, request=replace(explanation.request, score=Score(SECONDS)))
    _, panels = figure(bare, None)
    assert all("not told" in text.get_text() for text in panels[0].get_yticklabels())


# --- bad input ------------------------------------------------------------------------------------------------------


def test_names_of_the_files(tmp_path: Path) -> None:
    for name in ("a.b", "a.b.png", "a.b.HTML"):
        assert [path.name for path in outputs(tmp_path / name)] == ["a.b.png", "a.b.html"]
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(AudiogenError, match="is there already"):
        outputs(tmp_path / "a")
    with pytest.raises(AudiogenError, match="does not exist"):
        outputs(tmp_path / "none" / "a")


def never(done: float, total: float) -> None:
    raise AssertionError("work has begun")


def test_bad_input_is_refused_before_the_work(generator: Generator, tmp_path: Path) -> None:
    request = asked(generator)
    with pytest.raises(AudiogenError, match="missing"):
        explain(generator, request, tmp_path / "missing" / "a", None, never)
    with pytest.raises(AudiogenError, match=r"none\.wav"):
        explain(generator, request, tmp_path / "a", tmp_path / "none.wav", never)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["musicgen", "lstm", "no folder"])
def test_models_that_cannot_be_seen_into_are_refused(generator: Generator, kind: str) -> None:
    request, model = asked(generator), generator.model
    if kind == "musicgen":
        model = replace(model, lm=MusicGen.__new__(MusicGen))
    elif kind == "lstm":
        told = {"transformer": type(tiny.TRANSFORMER)(), "recurrent": RecurrentConfig(dim=32, depth=1, hidden=8)}
        model = replace(model, lm=tiny.language_model(config=tiny.LM.model_copy(update=told)))
    else:
        model = replace(model, folder=None)
    with pytest.raises(AudiogenError, match="folder" if kind == "no folder" else "use one of audiogen's own"):
        examine(Generator(model), request, never)


def test_interrupted_leaves_nothing(generator: Generator, tmp_path: Path) -> None:
    def stop(done: float, total: float) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(generator, asked(generator), tmp_path / "a", None, stop)
    assert not list(tmp_path.iterdir())
