"""`vdeploy pretrain` and `vdeploy train --init`, as a user types them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.videos import solid_frame, write_video
from tests.conftest import TINY, Done
from training.recipe import recipe_of_run

Verb = Callable[..., Done]
SETS = [
    word
    for override in (*TINY, "head.units=4", "head.dense=4", "pretrain.epochs=2", "pretrain.expander=8")
    for word in ("--set", override)
]


@pytest.fixture(autouse=True)
def footage(tmp_path: Path) -> None:
    """A video of two colours, and a file that is no video."""
    (tmp_path / "footage").mkdir()
    frames = [solid_frame(colour) for colour in ((250, 10, 10), (10, 250, 10)) for _ in range(50)]
    write_video(tmp_path / "footage" / "door.mp4", frames)
    (tmp_path / "footage" / "text.mp4").write_text("no video\n" * 40)


@pytest.mark.slow
def test_from_footage_to_a_run(vdeploy: Verb, clips_dir: Path, tmp_path: Path) -> None:
    options = ("--out", "my trunk", "--window", 1, "--store", "store", *SETS)
    code, out, err = vdeploy("pretrain", "footage", *options)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("left out: footage/text.mp4: ")
    assert lines[1].startswith("7 windows of 1 videos; loss ")
    told = "vdeploy train DATA --recipe 'my trunk/recipe.toml' --init 'my trunk'"
    assert lines[2:] == ["trunk: my trunk", f"next: {told}"]
    done = json.loads(vdeploy("pretrain", "footage", *options, "--json")[1])
    assert (done["folder"], done["videos"], done["windows"], len(done["loss"])) == ("my trunk", 1, 7, 2)

    words = [clips_dir if word == "DATA" else word for word in shlex.split(told)[1:]]
    code, _, err = vdeploy(*words, "--out", "run", "--store", "store")
    assert code == 0, err
    assert recipe_of_run(tmp_path / "run").pretrain.trunk == str(tmp_path / "my trunk")
    code, _, err = vdeploy(
        *(
            "train",
            clips_dir,
            "--init",
            "my trunk",
            "--out",
            "other",
            "--store",
            "store",
            *SETS,
            "--set",
            "head.units=5",
        )
    )
    assert code == 1
    assert err.splitlines()[-1].startswith(
        f"error: the trunk {tmp_path / 'my trunk'} was trained for another model: head.units is 4 there and 5 here; "
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("pretrain", "footage", "--recipe", "edge", "--out", "t"),
            "a pooling head without a dense layer has no trunk",
        ),
        (("pretrain", "nowhere.mp4", "--out", "t"), "there is no file, folder or match for nowhere.mp4"),
        (("pretrain", "footage", "--out", "footage"), "is in the way: it is no folder of vdeploy pretrain"),
        (("train", "footage", "--recipe", "edge", "--init", "t"), 'pretrain.trunk must be ""'),
    ],
)
def test_wrong_calls_are_one_line(vdeploy: Verb, tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    code, out, err = vdeploy(*arguments)
    assert (code, out) == (1, "")
    assert line in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["footage"]
