"""The journal of a model repository's deployments, by which one is undone, even after a `kill -9`.

    <root>/violence_detector/deployments/
        lock                one deployment or rollback at a time
        pending.json        while one is going on: what it is about to bring, and what served before
        <version>/          record.json, golden.npz, and the configuration of each model

Triton takes no notice of it: of a model's folders it reads only those with a number for a name.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from vdeploy.artifacts.bundle.golden import GOLDEN, GoldenClips
from vdeploy.core.errors import RepositoryError
from vdeploy.core.files import publish_folder, remove_stale, staging_folder, sync_folder, write_json, write_text
from vdeploy.core.timestamps import now
from vdeploy.triton.deployment.lock import is_taken, take
from vdeploy.triton.deployment.records import Pending, Record, parse_record, read_text
from vdeploy.triton.names import CONFIG, DEPLOYMENTS, ENSEMBLE_MODEL, STREAM_MODEL, WINDOW_MODEL
from vdeploy.triton.repository.file_hashes import HASHES, read_hashes, render_hashes
from vdeploy.triton.repository.model_set import ModelSet, model_set_for, model_set_of, stages_called_by
from vdeploy.triton.repository.repository import versions_of
from vdeploy.triton.repository.version_policy import pinned_version
from vdeploy.triton.repository.write_errors import one_line_errors

__all__ = ["Journal", "Pending", "Record"]

_RECORD = "record.json"
_PENDING = "pending.json"
_OLD_KEY = "control-key"
"""The key of the model control, which 0.1 kept in the repository."""
_REMEDY = "make the folder writable and free some space"


class Journal:
    """The deployments of one repository.

    Args:
        root: The repository's folder.
        name: What messages call it; the folder if left out.
    """

    def __init__(self, root: Path, name: str = "") -> None:
        self.root = root
        self.name = name or str(root)
        self._folder = root / DEPLOYMENTS

    @property
    def model_set(self) -> ModelSet:
        """The models that a server serves which starts now."""
        return model_set_of(self.root)

    def model_set_of(self, version: int) -> ModelSet:
        """The models of a version: its record names them; one that was only written has those that serve."""
        file = self._folder / str(version) / f"{ENSEMBLE_MODEL}.pbtxt"
        if not file.is_file():
            return self.model_set
        window = file.with_name(f"{WINDOW_MODEL}.pbtxt")
        return model_set_for(
            stages_called_by(read_text(file)),
            streams=file.with_name(f"{STREAM_MODEL}.pbtxt").is_file(),
            window=read_text(window) if window.is_file() else "",
        )

    @property
    def known_models(self) -> tuple[str, ...]:
        """The models of all versions, those that serve first."""
        recorded = (self.model_set_of(version).models for version in versions_of(self._folder))
        return tuple(dict.fromkeys(itertools.chain(self.model_set.models, *recorded)))

    @contextlib.contextmanager
    def exclusive(self, wait_seconds: float = 0.0) -> Iterator[None]:
        """Keeps every other process from writing the repository; a killed process holds nothing.

        Args:
            wait_seconds: How long to wait for one that does.

        Raises:
            RepositoryError: Another one still does, or the repository cannot be written.
        """
        with one_line_errors(self.root, _REMEDY):
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / _OLD_KEY).unlink(missing_ok=True)
            lock = (self._folder / "lock").open("a")
        with lock, one_line_errors(self.root, _REMEDY):
            if not take(lock, wait_seconds):
                pending = self.pending()
                by = f" by process {pending.process}" if pending else ""
                raise RepositoryError(
                    f"{self.name} is being deployed to{by}", "wait until that is done, then try again"
                )
            remove_stale(self._folder)
            yield

    def goes_on(self) -> bool:
        """Whether a deployment or rollback is going on, as far as this machine can see."""
        return is_taken(self._folder / "lock")

    def pending(self) -> Pending | None:
        """What is going on, or was interrupted."""
        file = self._folder / _PENDING
        return parse_record(Pending, file) if file.is_file() else None

    def begin(self, target: int, previous: int | None) -> Pending:
        """Notes that a version is about to take over from another."""
        pending = Pending(target=target, previous=previous, process=os.getpid())
        write_json(self._folder / _PENDING, pending.model_dump())
        return pending

    def end(self) -> None:
        """Notes that nothing is going on any more, and removes what killed processes have left in the models."""
        for model in self.known_models:
            remove_stale(self.root / model)
        (self._folder / _PENDING).unlink(missing_ok=True)

    def versions(self) -> list[int]:
        """Versions that all of their models have on disk, rising."""
        return [
            version
            for version in versions_of(self.root / ENSEMBLE_MODEL)
            if all((self.root / model / str(version)).is_dir() for model in self.model_set_of(version).models)
        ]

    def next_version(self) -> int:
        """A number that no model has used yet."""
        return max((number for model in self.known_models for number in versions_of(self.root / model)), default=0) + 1

    def active(self) -> int | None:
        """The version that a server serves which starts now: the pinned one, else the newest."""
        file = self.root / ENSEMBLE_MODEL / CONFIG
        if not file.is_file():
            return None
        pinned = pinned_version(read_text(file))
        return pinned if pinned is not None else max(self.versions(), default=None)

    def is_pinned(self) -> bool:
        """Whether the ensemble names the versions that it calls."""
        return pinned_version(read_text(self.root / ENSEMBLE_MODEL / CONFIG)) is not None

    def record(self, version: int) -> Record | None:
        """What is known of a version; nothing of one that was not deployed but only written.

        Raises:
            RepositoryError: The record cannot be read.
        """
        file = self._folder / str(version) / _RECORD
        return parse_record(Record, file) if file.is_file() else None

    def golden(self, version: int) -> GoldenClips:
        """The clips that a recorded version is proven with."""
        return GoldenClips.load(self._folder / str(version) / GOLDEN)

    def served_golden(self, version: int) -> GoldenClips | None:
        """The clips that a version is checked with when a server starts; `None` where there are none."""
        return self.golden(version) if (self._folder / str(version) / GOLDEN).is_file() else None

    def note_golden(self, version: int, golden: GoldenClips) -> None:
        """Keeps the clips of a version that is served without a deployment."""
        golden.save(self._folder / str(version) / GOLDEN)

    def current_configs(self) -> dict[str, str]:
        """The configuration of each model as Triton would read it now."""
        return {model: read_text(self.root / model / CONFIG) for model in self.model_set.models}

    def configs(self, version: int) -> dict[str, str]:
        """The configuration of each model that belongs to a recorded version, nothing pinned."""
        folder = self._folder / str(version)
        return {model: read_text(folder / f"{model}.pbtxt") for model in self.model_set_of(version).models}

    def add(
        self,
        record: Record,
        golden: GoldenClips,
        configs: Mapping[str, str],
        hashes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Records a version, in one step.

        Args:
            record: The record.
            golden: Clips that the version must answer rightly.
            configs: The configuration of each model.
            hashes: SHA-256 of its files by model and name; `None` for what is noted already.
        """
        final = self._folder / str(record.version)
        noted = hashes or read_hashes(self.root, record.version)
        with staging_folder(final) as staged:
            golden.save(staged / GOLDEN)
            if noted is not None:
                write_text(staged / HASHES, render_hashes(record.version, noted))
            for model, text in configs.items():
                write_text(staged / f"{model}.pbtxt", text)
            write_json(staged / _RECORD, record.model_dump())
            publish_folder(staged, final)

    def take_in(self, staged: Path, staged_version: int, version: int) -> None:
        """Moves the models of a repository of one recorded version in here, where nothing refers to them yet.

        Args:
            staged: That repository, on the same file system.
            staged_version: Its version.
            version: The version's number here.
        """
        for model in self.model_set_of(version).models:
            (self.root / model).mkdir(exist_ok=True)
            (staged / model / str(staged_version)).rename(self.root / model / str(version))
            for entry in (staged / model).iterdir():
                if entry.name != CONFIG and not (self.root / model / entry.name).exists():
                    entry.rename(self.root / model / entry.name)
            sync_folder(self.root / model)
        sync_folder(self.root)

    def activated(self, version: int, *, previous: int | None) -> None:
        """Notes that a version has been taken into service, and from which one it took over."""
        record = self.record(version)
        if record is not None:
            changes = {"activated": now(), "previous": record.previous if record.activated else previous}
            write_json(self._folder / str(version) / _RECORD, record.model_copy(update=changes).model_dump())

    def remove(self, version: int) -> None:
        """Removes a version with its record, the record last."""
        for model in self.model_set_of(version).models:
            shutil.rmtree(self.root / model / str(version), ignore_errors=True)
            if model not in self.model_set.models and not versions_of(self.root / model):
                shutil.rmtree(self.root / model, ignore_errors=True)
        shutil.rmtree(self._folder / str(version), ignore_errors=True)

    def staging(self) -> contextlib.AbstractContextManager[Path]:
        """A temporary folder on the repository's file system, which a killed process's successor removes."""
        return staging_folder(self._folder / "incoming")
