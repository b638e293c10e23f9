"""Models from huggingface.co: the one door to huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path

from audiogen.interfaces import AudiogenError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "README.md",
    "model*.safetensors", "model.safetensors.index.json",
)  # fmt: skip


def is_hub_name(name: str | Path) -> bool:
    """Whether `name` looks like "facebook/musicgen-small" and is no folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and not Path(name).exists()


def fetch(name: str) -> Path:
    """Download what a model of that name needs, with progress on standard error, or find it in the cache → its folder.

    Raises AudiogenError that says which files to fetch by hand and where to put them.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise AudiogenError(f"{name}: downloading needs huggingface_hub: pip install huggingface_hub") from None

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # of several libraries, by the version of huggingface_hub
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AudiogenError(
            f"{name}: is no folder here and could not be downloaded ({reason}). Fetch config.json, "
            "generation_config.json, tokenizer.json and model.safetensors (or model.safetensors.index.json with the "
            f"files that it names) from https://huggingface.co/{name} into one folder, and give its path as --model"
        ) from None
    if not (folder / "config.json").is_file():
        raise AudiogenError(f"{name}: holds no config.json, so it is no model; see https://huggingface.co/{name}")
    return folder


def cached(name: str) -> Path | None:
    """The folder of a model that was fetched before; nothing is downloaded."""
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # of several libraries, by the version of huggingface_hub
        return None
