"""Features on disk: float16 shards that are whole or absent, keyed by everything that the numbers depend on.

A store folder holds one folder per key. In it, a shard is a pair of files: ``NAME.npy``, the features, and
``NAME.json``, which lists the clips' content hashes and the checksum of the features. The second is written last,
so a shard without it does not exist; a checksum that does not match makes it not exist either.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import FeatureStoreError
from vdeploy.core.files import atomic_write, remove_stale, write_json
from vdeploy.core.progress import say
from vdeploy.features.memory_mapped import ShardedFeatures

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["FeatureKey", "FeatureStore"]

_DESCRIPTION = "store.json"


@dataclasses.dataclass(frozen=True)
class FeatureKey:
    """What features depend on beside the bytes of the clip.

    Attributes:
        spec_digest: Hash of the `ClipSpec`.
        layer: The backbone and its settings; of VGG19 the layer alone, as in version 0.1.
        weights_sha256: Hash of its weights.
        shape: Shape of one clip's features, (T, F).
    """

    spec_digest: str
    layer: str
    weights_sha256: str
    shape: tuple[int, int]

    @property
    def digest(self) -> str:
        """20 hex digits that name the folder."""
        canonical = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:20]


@dataclasses.dataclass(frozen=True)
class _Place:
    shard: Path
    row: int


class FeatureStore:
    """The features of one key.

    Args:
        root: Folder of all stores.
        key: What the features depend on.

    Raises:
        FeatureStoreError: The folder cannot be used.
    """

    def __init__(self, root: Path, key: FeatureKey) -> None:
        self.key = key
        self.folder = root / key.digest
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_stale(self.folder)
            if not (self.folder / _DESCRIPTION).is_file():
                write_json(self.folder / _DESCRIPTION, dataclasses.asdict(key))
        except OSError as error:
            raise FeatureStoreError(
                f"the feature store {root} cannot be used ({error})", "choose another: --store DIR"
            ) from error
        self._places: dict[str, _Place] = {}
        for description in sorted(self.folder.glob("*.json")):
            if description.name != _DESCRIPTION:
                self._places.update(self._open(description))

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._places

    def __len__(self) -> int:
        return len(self._places)

    def rows(self, hashes: npt.NDArray[np.str_]) -> ShardedFeatures:
        """Clips' features, left on the disk until they are asked for.

        Args:
            hashes: Content hashes of clips, each in the store; of any shape.

        Returns:
            The features in the order asked for.
        """
        places = [self._places[sha256] for sha256 in hashes.ravel()]
        shards = {shard: number for number, shard in enumerate(sorted({place.shard for place in places}))}
        pairs = np.array([(shards[place.shard], place.row) for place in places], np.int64)
        return ShardedFeatures(list(shards), pairs.reshape(*hashes.shape, 2))

    def append(self, features: Mapping[str, npt.NDArray[np.floating[Any]]]) -> None:
        """Writes one shard.

        Args:
            features: Features of each clip, ``[T, F]``, by the clip's content hash. Values are stored as float16.

        Raises:
            FeatureStoreError: The disk is full or the folder is read-only; what was there stays.
        """
        hashes = list(features)
        stacked = np.stack([features[sha256] for sha256 in hashes]).astype(np.float16)
        if not np.isfinite(stacked).all():
            raise FeatureStoreError(
                "features hold NaN or values beyond float16 (65504)", "check the weights given by --weights"
            )
        buffer = io.BytesIO()
        np.save(buffer, stacked)
        name = hashlib.sha256("".join(hashes).encode()).hexdigest()[:20]
        shard = self.folder / f"{name}.npy"
        try:
            with atomic_write(shard) as file:
                file.write(buffer.getbuffer())
            write_json(
                shard.with_suffix(".json"),
                {"clips": hashes, "bytes": buffer.getbuffer().nbytes, "crc32": zlib.crc32(buffer.getbuffer())},
            )
        except OSError as error:
            raise FeatureStoreError(
                f"cannot write features to {self.folder} ({error.strerror or error})",
                "free some space or choose another store: --store DIR; finished shards are kept",
            ) from error
        self._places.update({sha256: _Place(shard, row) for row, sha256 in enumerate(hashes)})

    def _open(self, description: Path) -> dict[str, _Place]:
        shard = description.with_suffix(".npy")
        try:
            values = json.loads(description.read_text(encoding="utf-8"))
            content = shard.read_bytes()
            intact = len(content) == values["bytes"] and zlib.crc32(content) == values["crc32"]
            shape = np.load(io.BytesIO(content), mmap_mode=None).shape if intact else ()
            if shape == (len(values["clips"]), *self.key.shape):
                return {sha256: _Place(shard, row) for row, sha256 in enumerate(values["clips"])}
        except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError):
            pass
        say(f"feature store: shard {shard} is damaged; its clips are extracted again")
        return {}
