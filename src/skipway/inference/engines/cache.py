"""What engines compile is kept beside the model, under the digest of what it was compiled from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

from skipway.errors import StorageError
from skipway.files import write_whole
from skipway.models.network import Network


class Cache:
    """The folder `<model file>.engines/<digest>`, or one that ends with the process where there is no model file, or
    where its folder cannot be written to. Folders of other digests are those of a model that is no more."""

    def __init__(self, model: Path | None, network: Network) -> None:
        self.digest = digest(network)
        self.folder = self._beside(model) if model is not None else None
        if self.folder is None:
            scratch = tempfile.mkdtemp(prefix="skipway-engines-")
            weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
            self.folder = Path(scratch)

    def _beside(self, model: Path) -> Path | None:
        above = model.with_name(f"{model.name}.engines")
        folder = above / self.digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                return None
            for other in above.iterdir():
                if other != folder and re.fullmatch("[0-9a-f]{16}", other.name):
                    shutil.rmtree(other, ignore_errors=True)
        except OSError:
            return None
        return folder

    def path(self, name: str) -> Path:
        """Where the artefact of that name is, or will be."""
        assert self.folder is not None
        return self.folder / name

    def remembered(self, key: str) -> Any:
        """What `remember` was told, None where it was not, or where its file is damaged."""
        try:
            return json.loads(self.path("choices.json").read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value. A full disk loses it, which costs no more than measuring once more."""
        file = self.path("choices.json")
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        known = known if isinstance(known, dict) else {}
        try:
            write_whole(file, lambda to: to.write_text(json.dumps(known | {key: value}), encoding="utf-8"))
        except StorageError:
            return


def digest(network: Network) -> str:
    """Sixteen digits of the SHA-256 of a network's layout and weights."""
    found = hashlib.sha256(json.dumps(network.spec.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
