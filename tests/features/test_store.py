"""Shards are whole or absent."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vdeploy.core.errors import FeatureStoreError
from vdeploy.features.store import FeatureKey, FeatureStore

KEY = FeatureKey(spec_digest="a" * 64, layer="avg", weights_sha256="b" * 64, shape=(4, 8))


def content(*names: str) -> dict[str, np.ndarray]:
    return {
        hashlib.sha256(name.encode()).hexdigest(): np.random.default_rng(len(name))
        .normal(size=(4, 8))
        .astype(np.float32)
        for name in names
    }


def test_what_was_appended_is_read_in_the_order_asked_for(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, KEY)
    first, second = content("a", "bb"), content("ccc")
    store.append(first)
    store.append(second)
    again = FeatureStore(tmp_path, KEY)
    everything = {**first, **second}
    order = list(everything)[::-1]
    expected = np.stack([everything[name] for name in order]).astype(np.float16)
    np.testing.assert_array_equal(again.rows(np.array(order))[:], expected)
    assert len(again) == 3
    assert all(name in again for name in order)
    assert "0" * 64 not in again


@pytest.mark.parametrize(
    "change", [{"layer": "fc2"}, {"spec_digest": "c" * 64}, {"weights_sha256": "d" * 64}, {"shape": (4, 9)}]
)
def test_another_key_is_another_store(tmp_path: Path, change: dict[str, object]) -> None:
    FeatureStore(tmp_path, KEY).append(content("a"))
    assert len(FeatureStore(tmp_path, dataclasses.replace(KEY, **change))) == 0


def shard_of(store: FeatureStore) -> Path:
    (shard,) = store.folder.glob("*.npy")
    return shard


def test_a_shard_without_its_description_does_not_exist(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, KEY)
    store.append(content("a"))
    shard_of(store).with_suffix(".json").unlink()
    assert len(FeatureStore(tmp_path, KEY)) == 0


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "garble the description"])
def test_a_damaged_shard_is_named_and_not_used(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = FeatureStore(tmp_path, KEY)
    store.append(content("a"))
    shard = shard_of(store)
    data = bytearray(shard.read_bytes())
    if damage == "truncate":
        shard.write_bytes(data[:-1])
    elif damage == "flip":
        data[-1] ^= 1
        shard.write_bytes(data)
    elif damage == "remove":
        shard.unlink()
    else:
        shard.with_suffix(".json").write_text('{"clips": 7')
    again = FeatureStore(tmp_path, KEY)
    assert len(again) == 0
    assert "is damaged" in capsys.readouterr().err.replace("\n", " ")
    again.append(content("a"))
    assert len(FeatureStore(tmp_path, KEY)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path, value: float) -> None:
    store = FeatureStore(tmp_path, KEY)
    with np.errstate(over="ignore"), pytest.raises(FeatureStoreError, match="float16"):
        store.append({"a" * 64: np.full((4, 8), value, np.float32)})
    assert len(FeatureStore(tmp_path, KEY)) == 0


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(FeatureStoreError, match="--store"):
        FeatureStore(tmp_path / "store", KEY)


def test_a_full_disk_keeps_the_earlier_shards(tmp_path: Path) -> None:
    """A file size limit makes real writes fail as a full disk does."""
    FeatureStore(tmp_path, KEY).append(content("a"))
    code = f"""
import resource, signal
from pathlib import Path
import numpy as np
from vdeploy.core.errors import FeatureStoreError
from vdeploy.features.store import FeatureKey, FeatureStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = FeatureStore(Path({str(tmp_path)!r}), FeatureKey("a" * 64, "avg", "b" * 64, (4, 8)))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    store.append({{"e" * 64: np.ones((4, 8), np.float32)}})
except FeatureStoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot write features" in done.stdout
    assert done.stdout.count("\n") == 1
    assert len(FeatureStore(tmp_path, KEY)) == 1
    assert not list(tmp_path.rglob("*.tmp"))
