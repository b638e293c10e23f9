"""A step of `mini` on two cores in other ways to run such a model, beside ours: torchao, ONNX Runtime.

    uv pip install --target PEERS --no-deps torchao onnx onnx_ir onnxscript onnxruntime ml_dtypes protobuf flatbuffers
    PYTHONPATH=PEERS python benchmarks/engine_peers.py --json runs/engine_peers.json

Nothing of this is needed by audiogen. Two rows, as guidance wants, and a full window for all. Of ONNX Runtime the
network alone is timed, since nothing of it draws codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from engine import MINI, Streams, step_ms
from report import Report, two_cores
from torch import Tensor, nn

from audiogen import Generator
from audiogen.lm.engine import EagerEngine, make_engine
from audiogen.lm.model import MusicLM
from audiogen.lm.score import NUM_LANES
from audiogen.lm.transformer import _rotate

ROWS = 2


class FullWindow(nn.Module):
    """One position of `mini` after many, without a state: keys and values go in, what is new of them comes out."""

    def __init__(self, model: MusicLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor, lanes: Tensor, turns: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """Codes `[R, K, 1]`, lanes `[R, 1, N]`, cos and sin `[2, hd / 4]`, keys and values `[layers, R, KV, S, hd]`."""
        h, new = self.model._embed(codes, lanes), []
        for block, old_keys, old_values in zip(self.model.transformer.blocks, keys, values, strict=True):
            q, k, v = block.attention.project(block.norm1(h))  # type: ignore[operator, union-attr]
            q, k = _rotate(q, *turns), _rotate(k, *turns)
            rows, heads, _, size = q.shape
            folded = q.reshape(rows, k.shape[1], -1, size)
            scores = folded @ torch.cat([old_keys, k], 2).transpose(2, 3) * size**-0.5
            mixed = scores.softmax(-1) @ torch.cat([old_values, v], 2)
            h = h + block.attention.out(mixed.reshape(rows, 1, heads * size))  # type: ignore[union-attr, operator]
            h = block.feed_forward(h)  # type: ignore[operator]
            new += [k, v]
        return self.model._logits(self.model.transformer.norm(h)), torch.stack(new)


def example(model: MusicLM) -> tuple[Tensor, ...]:
    """What a step is given."""
    config = model.config.transformer
    kept = torch.randn(2, config.depth, ROWS, config.kv_heads, config.window_frames + 8, config.head_dim)
    codes = torch.randint(model.config.codebook_size, (ROWS, model.config.num_codebooks, 1))
    return codes, torch.randn(ROWS, 1, NUM_LANES), torch.randn(2, config.head_dim // 4), kept[0], kept[1]


def timed(step: Callable[[], Any]) -> float:
    """Median milliseconds."""
    took = []
    for _ in range(60):
        began = time.perf_counter()
        step()
        took.append(1e3 * (time.perf_counter() - began))
    return median(took)


def torchao_ms(streams: Streams) -> dict[str, float]:
    """Its int8 of weights alone, and of weights and activations."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

    told = {}
    for name, config in (("weights", Int8WeightOnlyConfig()), ("both", Int8DynamicActivationInt8WeightConfig())):
        engine = EagerEngine(MusicLM.load(MINI))
        quantize_(engine.model, config, lambda part, _: isinstance(part, nn.Linear))
        (stream,) = streams.make(engine)
        stream.advance(4)
        told[f"torchao int8, {name}"] = step_ms([stream], 40, 3)
    return told


def onnx_ms() -> dict[str, float]:
    """ONNX Runtime in float32, and with its dynamic int8."""
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    model = MusicLM.load(MINI)
    given, told = example(model), {}
    with TemporaryDirectory() as folder, torch.inference_mode():
        exact, small = (str(Path(folder) / name) for name in ("float32.onnx", "int8.onnx"))
        torch.onnx.export(FullWindow(model), given, exact, dynamo=True, verbose=False)
        quantize_dynamic(exact, small)
        wanted = FullWindow(model)(*given)[0].numpy()
        for name, path in (("float32", exact), ("int8", small)):
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads, settings.inter_op_num_threads = torch.get_num_threads(), 1
            session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
            fed = {put.name: value.numpy() for put, value in zip(session.get_inputs(), given, strict=True)}
            found = session.run(None, fed)[0]
            apart = float(np.abs(found - wanted).max() / np.abs(wanted).max())
            assert apart < (1e-3 if name == "float32" else 0.3), f"{name}: logits differ by {apart:.3f}"
            told[f"ONNX Runtime {name}"] = timed(partial(session.run, None, fed))
    return told


def main(json: Annotated[Path | None, typer.Option(help="save the table")] = None) -> None:
    """Print the table."""
    two_cores()
    torch.set_num_threads(2)
    streams = Streams(Generator.from_pretrained("mini"))
    (stream,) = streams.make(make_engine(MusicLM.load(MINI), "int8", 2))
    stream.advance(600)
    ours = step_ms([stream], 500)
    report = Report("A step of mini with guidance, two threads, milliseconds")
    for name, value in (torchao_ms(streams) | onnx_ms()).items():
        report.add(f"{name}: times ours", value / ours, f"{value:.2f} ms; ours {ours:.2f} ms", form="{:.1f}")
    report.finish(json)


if __name__ == "__main__":
    typer.run(main)
