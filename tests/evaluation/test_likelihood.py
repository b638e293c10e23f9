from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from audiogen.data.manifest import Track
from audiogen.evaluation.likelihood import divergence, foreseen, measure_model, nats
from audiogen.interfaces import Condition, Prompt
from audiogen.lm.delay import apply_delay
from audiogen.lm.engine import EagerEngine
from audiogen.lm.score import lanes
from tests import tiny


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Track:
    return tiny.catalogue(tmp_path_factory.mktemp("music"))[0]


CODES = np.random.default_rng(0).integers(0, 32, (40, 6)).astype(np.int16)


def test_cross_entropy_is_that_of_a_pass_over_the_whole(track: Track) -> None:
    model = tiny.language_model()
    found = nats(*foreseen(EagerEngine(model), model, track, CODES, 40))
    whole = torch.from_numpy(CODES[:, :4].T.astype(np.int64))[None]
    delayed = apply_delay(whole, model.config.pad)[:, :, :40]
    before = F.pad(delayed, (1, -1), value=model.config.pad)
    prefix = model.prefix.encode([Prompt(track.captions[0], track.attributes())])
    told = torch.from_numpy(lanes(track.score(), 0, 40, model.config.frame_rate))[None]
    with torch.inference_mode():
        logits = model(before, Condition(prefix, told))
    logs = logits.log_softmax(-1)[0]  # [K, T, V]
    for book in range(4):
        own = delayed[0, book] < model.config.pad
        expected = F.nll_loss(logs[book][own], delayed[0, book][own])
        assert float(found[book]) == pytest.approx(float(expected), abs=1e-4)


def test_divergence_is_nothing_from_oneself_and_something_from_others(track: Track) -> None:
    one, other = tiny.language_model(0), tiny.language_model(1)
    logs, codes = foreseen(EagerEngine(one), one, track, CODES, 30)
    others, _ = foreseen(EagerEngine(other), other, track, CODES, 30)
    assert float(divergence(logs, logs, codes).abs().max()) < 1e-6
    assert float(divergence(logs, others, codes).min()) > 0.01


def test_bits_a_second(track: Track) -> None:
    model = tiny.language_model()
    found = measure_model([("tiny", EagerEngine(model), model)], [track], [CODES], 40)
    bits = found["tiny"]["bits_a_second"]
    assert bits == pytest.approx(sum(found["tiny"]["codebooks"]), abs=0.05)
    assert bits > 4 * 5 * model.config.frame_rate * 0.8  # random weights foresee nothing: five bits a code
