from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen import AudiogenError, Generator
from audiogen.generation import scheduler as module
from audiogen.generation.generator import Request
from audiogen.generation.scheduler import QueueFullError, Scheduler
from audiogen.generation.session import Session
from audiogen.lm.engine import OutOfRoomError
from audiogen.lm.graphed import GraphedEngine
from audiogen.lm.model import MusicLM
from audiogen.lm.sampling import Sampling


@pytest.fixture(scope="module", params=["float32", "int8"])
def generator(request: pytest.FixtureRequest, model_folder: Path) -> Generator:
    return Generator.from_pretrained(model_folder, precision=request.param, device="cpu")


def requests(generator: Generator, count: int) -> list[Request]:
    prompts = ("calm folk, 90 bpm", "dark techno in D minor", "fast jazz trio")
    return [
        generator.request(
            prompts[n % 3], seconds=0.3 + 0.37 * (n % 4), seed=n, sampling=Sampling(guidance=(2.0, 1.0, 3.0)[n % 3])
        )
        for n in range(count)
    ]


def together(scheduler: Scheduler, asked: list[Request]) -> list[torch.Tensor]:
    parts: dict[int, list[torch.Tensor]] = {n: [] for n in range(len(asked))}
    for number, audio in scheduler.play(asked):
        parts[number].append(audio.samples)
    return [torch.cat(part, 1) for part in parts.values()]


@pytest.mark.parametrize(("running", "frames"), [(1, 9), (3, 4), (16, 50)])
def test_each_clip_is_what_it_is_alone(generator: Generator, running: int, frames: int) -> None:
    asked = requests(generator, 7)
    made = together(Scheduler(generator, running, waiting=2, frames=frames), asked)
    for request, clip in zip(asked, made, strict=True):
        alone = torch.cat([chunk.samples for chunk in generator.play(request, frames)], 1)
        assert torch.equal(clip, alone)


def test_first_come_first_served_and_bounded(generator: Generator) -> None:
    scheduler = Scheduler(generator, running=2, waiting=3, frames=5)
    tickets = [scheduler.submit(request) for request in requests(generator, 5)]
    with pytest.raises(QueueFullError, match="5 are waiting; try again later"):
        scheduler.submit(tickets[0].request)
    scheduler.advance()
    assert [ticket.state for ticket in tickets] == ["running"] * 2 + ["waiting"] * 3
    assert scheduler.room == 0
    began: list[Any] = list(tickets[:2])
    while not scheduler.idle:
        began += [ticket for ticket, _ in scheduler.advance() if ticket not in began]
    assert began == tickets and all(ticket.state == "finished" for ticket in tickets)
    assert all(ticket.share_done == 1 for ticket in tickets) and all(ticket.session is None for ticket in tickets)


def test_progress_is_told(generator: Generator) -> None:
    scheduler = Scheduler(generator, frames=10)
    ticket = scheduler.submit(generator.request("techno", seconds=4, seed=1))
    shares = []
    while not scheduler.idle:
        heard = sum(audio.seconds for _, audio in scheduler.advance())
        shares.append(ticket.share_done)
        assert heard <= 0.4 + 1e-9 or ticket.state == "finished"
    assert shares == sorted(shares) and shares[0] < 0.15 and shares[-1] == 1


def test_cancelled_ones_stop_and_the_others_do_not_notice(generator: Generator) -> None:
    asked = requests(generator, 4)
    expected = together(Scheduler(generator, frames=3), asked)
    scheduler = Scheduler(generator, running=3, frames=3)
    tickets = [scheduler.submit(request) for request in asked]
    heard: dict[Any, list[torch.Tensor]] = {ticket: [] for ticket in tickets}
    rounds = 0
    while not scheduler.idle:
        for ticket, audio in scheduler.advance():
            heard[ticket].append(audio.samples)
        rounds += 1
        if rounds == 1:
            scheduler.cancel(tickets[1])  # which is playing
        if rounds == 2:
            scheduler.cancel(tickets[0])
            scheduler.cancel(tickets[0])  # twice does no harm
    assert [ticket.state for ticket in tickets] == ["cancelled", "cancelled", "finished", "finished"]
    assert len(heard[tickets[1]]) == 1 and all(ticket.session is None for ticket in tickets)
    for index in (2, 3):
        assert torch.equal(torch.cat(heard[tickets[index]], 1), expected[index])
    scheduler.cancel(tickets[2])
    assert tickets[2].state == "finished"


def test_cancelled_while_its_codes_are_drawn(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(generator, frames=3)
    first, second = (scheduler.submit(request) for request in requests(generator, 2))
    plain = module.advance_together

    def cancels(*told: Any) -> Any:
        scheduler.cancel(first)
        return plain(*told)

    monkeypatch.setattr(module, "advance_together", cancels)
    assert [ticket for ticket, _ in scheduler.advance()] == [second]


def test_cancelled_before_it_began(generator: Generator) -> None:
    scheduler = Scheduler(generator, running=1)
    first, second = (scheduler.submit(request) for request in requests(generator, 2))
    scheduler.cancel(second)
    while not scheduler.idle:
        assert all(ticket is first for ticket, _ in scheduler.advance())
    assert second.state == "cancelled" and second.seconds_done == 0


def test_without_memory_for_another_stream_it_waits(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(generator, 5)
    expected = together(Scheduler(generator), asked)
    plain, held = generator.session, []

    def session(request: Request) -> Any:
        held[:] = [made for made in held if not made.finished]
        if len(held) >= 2:
            raise OutOfRoomError("out of memory")
        held.append(plain(request))
        return held[-1]

    monkeypatch.setattr(generator, "session", session)
    scheduler = Scheduler(generator, running=4)
    with caplog.at_level(logging.WARNING, "audiogen"):
        made = together(scheduler, asked)
    assert scheduler.most_running == 2 and "at most 2 clips" in caplog.text
    assert all(torch.equal(*pair) for pair in zip(made, expected, strict=True))


def test_without_memory_for_a_batch_it_shrinks(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(generator, 6)
    expected = together(Scheduler(generator), asked)
    plain = module.advance_together

    def tight(streams: Any, frames: Any) -> Any:
        if len(streams) > 2:
            raise OutOfRoomError("out of memory")
        return plain(streams, frames)

    monkeypatch.setattr(module, "advance_together", tight)
    with caplog.at_level(logging.WARNING, "audiogen"):
        made = together(Scheduler(generator), asked)
    assert "from now on" in caplog.text
    assert all(torch.equal(*pair) for pair in zip(made, expected, strict=True))


def graphed(generator: Generator, folder: Path, streams: int) -> Generator:
    """The same model behind the engine for GPUs, on the CPU; decoded in halves, as beside a GPU."""
    engine = GraphedEngine(MusicLM.load(folder / "lm"), "float32", torch.device("cpu"), streams)
    return Generator(replace(generator.model, engine=engine))


def test_on_the_engine_for_gpus_the_batch_shrinks_to_its_room(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Generator.from_pretrained(model_folder, precision="float32", device="cpu")
    asked = requests(plain, 5)
    expected = together(Scheduler(plain), asked)
    monkeypatch.setattr(Session, "parts", lambda self, frames: [frames // 2, frames - frames // 2])
    generator = graphed(plain, model_folder, streams=2)
    scheduler = Scheduler(generator, running=4, frames=6)
    with caplog.at_level(logging.WARNING, "audiogen"):
        made = together(scheduler, asked)
    assert scheduler.most_running == 2 and "2 fit and are there already: from now on at most 2 clips" in caplog.text
    for clip, whole in zip(made, expected, strict=True):
        torch.testing.assert_close(clip, whole, atol=1e-5, rtol=0)


def test_no_memory_at_all_is_an_error(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise OutOfRoomError("out of memory")

    scheduler = Scheduler(generator)
    scheduler.submit(requests(generator, 1)[0])
    with monkeypatch.context() as patch:
        patch.setattr(module, "advance_together", never)
        with pytest.raises(OutOfRoomError):
            scheduler.advance()
    monkeypatch.setattr(generator, "session", never)
    with pytest.raises(OutOfRoomError):
        Scheduler(generator).play(requests(generator, 1)).__next__()


def test_bad_settings_and_too_long_a_clip(generator: Generator) -> None:
    with pytest.raises(AudiogenError, match="running 0: expected 1 or more"):
        Scheduler(generator, running=0)
    scheduler = Scheduler(generator, longest_seconds=10)
    with pytest.raises(AudiogenError, match="12 seconds: at most 10 are allowed"):
        scheduler.submit(generator.request("techno", seconds=12, seed=1))
    assert scheduler.idle and scheduler.advance() == []
