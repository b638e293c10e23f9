"""A blind listening test: one HTML page that needs nothing else, and what its results say.

Two systems are compared pair by pair, three or more are rated on sliders, as MUSHRA does (ITU-R BS.1534-3) but without
an anchor. Which clip is whose stands in a key file beside the page alone.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiogen.audio.features import loudness_lufs
from audiogen.audio.io import flac, read, read_header
from audiogen.evaluation.statistics import estimate
from audiogen.files import write_json, write_text
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.storage import read_json

MOST_TRIALS = 20
SECONDS = 10.0
"""of each clip, from its middle"""
_LUFS = -23.0  # EBU R 128: every clip is as loud as every other
_KIND = "audiogen listening test"


def write_test(folders: Sequence[Path], output: Path) -> tuple[Path, Path]:
    """Write the page `output` and its key beside it, from WAV files of the same names in each folder.

    Raises AudiogenError for fewer than two folders, no names in common, and clips that cannot be played.
    """
    if len(folders) < 2:
        raise AudiogenError("--listen compares two folders or more: give their names")
    if output.suffix.lower() != ".html":
        raise AudiogenError(f"{output}: the page is an HTML file; give a name that ends in .html with -o")
    for folder in folders:
        if not folder.is_dir():
            raise AudiogenError(f"{folder}: there is no such folder of clips")
    called = [folder.name or str(folder) for folder in folders]
    if len(set(called)) < len(called):
        raise AudiogenError(
            f"{', '.join(called)}: two folders of one name would be one system in the results; rename one"
        )
    names = sorted(set.intersection(*({path.name for path in folder.glob("*.wav")} for folder in folders)))
    if not names:
        raise AudiogenError(f"{', '.join(map(str, folders))}: have no .wav files of the same name")
    step = max(1, len(names) // MOST_TRIALS)
    trials, key = [], {}
    for name in names[::step][:MOST_TRIALS]:
        clips = []
        for index in np.random.default_rng(secrets.randbits(64)).permutation(len(folders)):
            mark = secrets.token_hex(6)
            key[mark] = {"system": called[index], "clip": name}
            data = base64.b64encode(flac(_excerpt(folders[index] / name))).decode()
            clips.append({"id": mark, "audio": f"data:audio/flac;base64,{data}"})
        trials.append(clips)
    test = secrets.token_hex(8)
    key_path = output.with_suffix(".key.json")
    write_json(key_path, {"kind": _KIND, "test": test, "clips": key})
    data = json.dumps({"test": test, "trials": trials}).replace("<", "\\u003c")
    write_text(output, _PAGE.replace("%DATA%", data))
    return output, key_path


def sum_up(files: Sequence[Path], output: Path) -> dict[str, Any]:
    """The first of `files` is the key, the others results that listeners sent → what they say, written to `output`.

    Intervals are by bootstrap over the answers of a listener, drawn together. Raises AudiogenError for files that are
    damaged or of another test.
    """
    if len(files) < 2:
        raise AudiogenError("--listened needs the key and the results: KEY.json RESULT.json …")
    key = _read(files[0], None)
    answers = []
    for listener, path in enumerate(files[1:]):
        told = _read(path, key["test"])
        for answer in told["answers"]:
            unknown = [mark for mark in answer["ratings"] if mark not in key["clips"]]
            if unknown:
                raise AudiogenError(f"{path}: rates a clip that the test does not have: {unknown[0]}")
            answers.append(
                (listener, {key["clips"][mark]["system"]: value for mark, value in answer["ratings"].items()})
            )
    systems = sorted({clip["system"] for clip in key["clips"].values()})
    found: dict[str, Any] = {"listeners": len(files) - 1, "answers": len(answers), "ratings": {}, "preferred": {}}
    for system in systems:
        rated = [(listener, ratings[system]) for listener, ratings in answers if system in ratings]
        found["ratings"][system] = estimate([value for _, value in rated], [who for who, _ in rated]).to_json()
    for one in systems:
        for other in systems:
            if one < other:
                found["preferred"][f"{one} over {other}"] = _preferred(answers, one, other)
    write_json(output, found)
    return found


def _preferred(answers: Sequence[tuple[int, dict[str, float]]], one: str, other: str) -> dict[str, Any]:
    """Share of answers in which `one` is rated higher, ties counting half; and the two-sided sign test."""
    from scipy.stats import binomtest

    pairs = [(who, ratings[one] - ratings[other]) for who, ratings in answers if one in ratings and other in ratings]
    wins, losses = (sum(sign * step > 0 for _, step in pairs) for sign in (1, -1))
    share = estimate([0.5 + 0.5 * float(np.sign(step)) for _, step in pairs], [who for who, _ in pairs])
    chance = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return share.to_json() | {"wins": wins, "losses": losses, "ties": len(pairs) - wins - losses, "p": round(chance, 5)}


def _excerpt(path: Path) -> Waveform:
    header = read_header(path)
    length = header.samples / header.sample_rate
    if length < 1:
        raise AudiogenError(f"{path}: {length:.2f} s; a clip to listen to lasts a second or more")
    sound = read(path, channels=2, start_seconds=max(0.0, (length - SECONDS) / 2), seconds=SECONDS)
    loudness = loudness_lufs(sound)
    if not np.isfinite(loudness):
        raise AudiogenError(f"{path}: is silent; leave it out of the test")
    gain = min(10 ** ((_LUFS - loudness) / 20), 0.99 / max(float(sound.samples.abs().max()), 1e-6))
    return Waveform(sound.samples * gain, sound.sample_rate)


def _read(path: Path, test: str | None) -> dict[str, Any]:
    told = read_json(path)
    wanted = "clips" if test is None else "answers"
    if not isinstance(told, dict) or told.get("kind") != _KIND or wanted not in told:
        raise AudiogenError(f"{path}: not {'the key' if test is None else 'a result'} of a listening test")
    if test is not None and told["test"] != test:
        raise AudiogenError(f"{path}: the result of another test, {told['test']} instead of {test}")
    if test is not None and not all(
        isinstance(answer, dict)
        and isinstance(answer.get("ratings"), dict)
        and all(isinstance(value, int | float) and 0 <= value <= 100 for value in answer["ratings"].values())
        for answer in told["answers"]
    ):
        raise AudiogenError(f"{path}: damaged: ratings are numbers from 0 to 100")
    return told


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Listening test</title><style>
body { font: 17px/1.5 system-ui, sans-serif; max-width: 720px; margin: 2em auto; padding: 0 1em; color: #222; }
button { font: inherit; padding: .5em 1em; margin: .3em .3em .3em 0; } .clip { margin: 1em 0; padding: .6em 1em; }
.clip.on { background: #eef4fb; } input[type=range] { width: 60%; vertical-align: middle; } #bar { height: 6px; }
#bar i { display: block; height: 100%; background: #3465a4; } #bar { background: #ddd; } textarea { width: 100%; }
</style><body><h1>Listening test</h1><div id="bar"><i></i></div><main></main>
<script type="application/json" id="data">%DATA%</script><script>
const data = JSON.parse(document.getElementById("data").textContent), main = document.querySelector("main");
const store = "listening-" + data.test;
let state = JSON.parse(localStorage.getItem(store) || "null");
if (!state) {
  const order = data.trials.map((_, i) => i);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1)); [order[i], order[j]] = [order[j], order[i]];
  }
  const flip = order.map(i => data.trials[i].map((_, k) => k).sort(() => Math.random() - .5));
  state = {order, flip, answers: [], began: new Date().toISOString()};
}
const save = () => localStorage.setItem(store, JSON.stringify(state));
function add(parent, kind, text) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  parent.append(made); return made;
}
function show() {
  const at = state.answers.length, all = state.order.length;
  document.querySelector("#bar i").style.width = 100 * at / all + "%";
  main.textContent = "";
  if (at === all) return finish();
  const trial = data.trials[state.order[at]], clips = state.flip[at].map(k => trial[k]);
  const ratings = {}, heard = new Set();
  add(main, "p", "Comparison " + (at + 1) + " of " + all + (clips.length === 2 ? ". Which do you prefer?"
    : ". Rate each from 0 (bad) to 100 (excellent)."));
  const sounds = clips.map(clip => { const a = new Audio(clip.audio); a.loop = true; return a; });
  const boxes = [];
  function play(k) {
    const time = sounds.find(s => !s.paused)?.currentTime || 0;
    sounds.forEach(s => s.pause());
    boxes.forEach((b, i) => b.classList.toggle("on", i === k));
    sounds[k].currentTime = time; sounds[k].play(); heard.add(k); ready();
  }
  let next;
  function done(values) {
    sounds.forEach(s => s.pause());
    state.answers.push({ratings: values, note: note.value || undefined}); save(); show();
  }
  function ready() { main.querySelectorAll(".answer").forEach(b => b.disabled = heard.size < clips.length); }
  clips.forEach((clip, k) => {
    const box = add(main, "div"); box.className = "clip"; boxes.push(box);
    add(box, "button", "\\u25b6 clip " + (k + 1)).onclick = () => play(k);
    if (clips.length > 2) {
      const slider = add(box, "input"), value = add(box, "b", " 50");
      slider.type = "range"; slider.min = 0; slider.max = 100; slider.value = 50; ratings[clip.id] = 50;
      slider.oninput = () => { ratings[clip.id] = Number(slider.value); value.textContent = " " + slider.value; };
    }
  });
  add(main, "button", "\\u25a0 stop").onclick = () => sounds.forEach(s => s.pause());
  const row = add(main, "p");
  const choice = (text, values) => {
    const made = add(row, "button", text);
    made.className = "answer"; made.disabled = true; made.onclick = () => done(values());
  };
  if (clips.length === 2) {
    choice("clip 1", () => ({[clips[0].id]: 100, [clips[1].id]: 0}));
    choice("no preference", () => ({[clips[0].id]: 50, [clips[1].id]: 50}));
    choice("clip 2", () => ({[clips[0].id]: 0, [clips[1].id]: 100}));
  } else choice("next", () => ({...ratings}));
  const note = add(main, "textarea"); note.placeholder = "remarks, if you like";
}
function finish() {
  add(main, "p", "Thank you. Please send this file to whoever asked you.");
  const told = {kind: "audiogen listening test", test: data.test, began: state.began,
    ended: new Date().toISOString(), answers: state.answers};
  const link = add(main, "a", "result.json");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(told, null, 1)], {type: "application/json"}));
  link.download = "result-" + Math.random().toString(36).slice(2, 8) + ".json";
}
show();
</script></body></html>
"""
