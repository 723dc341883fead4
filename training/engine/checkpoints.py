"""Checkpoints of a training: one file an epoch, written atomically, the newest intact one found again."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import RunError
from vdeploy.core.files import atomic_write

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Checkpoint", "CheckpointFolder"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Everything that the next epoch depends on.

    Attributes:
        epoch: Epochs finished.
        model: All variables of the model, the states of its random generators among them.
        optimizer: All variables of the optimizer; the first is the step, from which the learning rate follows.
        state: JSON-ready rest: history and the best epoch so far.
        average: The state of the moving average of the model's variables, these first; empty without one.
    """

    epoch: int
    model: list[npt.NDArray[Any]]
    optimizer: list[npt.NDArray[Any]]
    state: dict[str, Any]
    average: list[npt.NDArray[Any]] = dataclasses.field(default_factory=list)

    def to_bytes(self) -> bytes:
        """The checkpoint as an uncompressed NPZ archive, whose entries carry checksums."""
        arrays = {f"model_{index:04d}": value for index, value in enumerate(self.model)}
        arrays |= {f"optimizer_{index:04d}": value for index, value in enumerate(self.optimizer)}
        arrays |= {f"average_{index:04d}": value for index, value in enumerate(self.average)}
        header = json.dumps({"epoch": self.epoch, "state": self.state})
        arrays["header"] = np.frombuffer(header.encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stubs take the arrays for options
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Reads what `to_bytes` gave.

        Raises:
            ValueError: The content is damaged.
        """
        try:
            with np.load(io.BytesIO(content)) as archive:
                arrays = {name: archive[name] for name in sorted(archive.files)}
            header = json.loads(arrays["header"].tobytes())
            return cls(
                epoch=header["epoch"],
                model=[value for name, value in arrays.items() if name.startswith("model_")],
                optimizer=[value for name, value in arrays.items() if name.startswith("optimizer_")],
                state=header["state"],
                average=[value for name, value in arrays.items() if name.startswith("average_")],
            )
        except (OSError, KeyError, MemoryError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"damaged checkpoint ({error})") from error


class CheckpointFolder:
    """The newest checkpoints and the best one.

    Args:
        folder: Where they lie.
        keep: How many of the newest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, checkpoint: Checkpoint, *, best: bool) -> None:
        """Writes a checkpoint, then removes those that are too old.

        Args:
            checkpoint: What to write.
            best: Whether it is the best one so far.

        Raises:
            RunError: The disk is full or the folder is read-only; the earlier checkpoints are intact.
        """
        content = checkpoint.to_bytes()
        names = [*(["best.npz"] if best else []), f"epoch-{checkpoint.epoch:05d}.npz"]
        try:
            for name in names:
                with atomic_write(self.folder / name) as file:
                    file.write(content)
            for old in self._epochs()[: -self.keep]:
                old.unlink()
        except OSError as error:
            raise RunError(
                f"cannot write a checkpoint to {self.folder} ({error.strerror or error})",
                "free some space and run the same command again: it goes on from the last checkpoint",
            ) from error

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that can be read, or ``None``."""
        for file in reversed(self._epochs()):
            try:
                return Checkpoint.from_bytes(file.read_bytes())
            except ValueError:
                continue
        return None

    def best(self) -> Checkpoint:
        """The best checkpoint.

        Raises:
            RunError: There is none that can be read.
        """
        file = self.folder / "best.npz"
        try:
            return Checkpoint.from_bytes(file.read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read ({error})", "train again") from error

    def _epochs(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.npz"))
