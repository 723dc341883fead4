"""The measurement names every way to compute once, and one winner."""

from __future__ import annotations

import pytest

from training.engine import precision
from training.engine.precision import Precision, choose_precision
from training.engine.step_benchmark import measure_step
from training.recipe_sections import TrainingSection


@pytest.mark.slow
def test_every_way_is_timed_and_the_fastest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [Precision("float32", False), Precision("mixed_bfloat16", False)]
    monkeypatch.setattr("training.engine.step_benchmark.candidates", lambda: ways)
    times = measure_step(batch=4, frames=2, dim=8, steps=2, passes=1)
    assert {(time.precision, time.xla) for time in times} == {(way.name, way.xla) for way in ways}
    assert [time.fastest for time in times] == [True, False]
    assert times[0].milliseconds <= times[1].milliseconds
    assert sum(time.default for time in times) == 1


def test_a_cpu_gets_bfloat16_only_with_instructions_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "cpuinfo")
    on_cpu = TrainingSection(devices=("cpu:0",))
    assert choose_precision(on_cpu) == Precision("float32", False)
    for flags, name in (("avx2 avx512f", "float32"), ("avx512_bf16", "mixed_bfloat16"), ("amx_bf16", "mixed_bfloat16")):
        (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
        assert choose_precision(on_cpu).name == name


def test_the_recipe_has_the_last_word() -> None:
    chosen = choose_precision(TrainingSection(precision="mixed_float16", xla=True))
    assert chosen == Precision("mixed_float16", True)
    assert (chosen.dtype, chosen.scaled, str(chosen)) == ("float16", True, "mixed_float16 with XLA")


@pytest.mark.parametrize(
    ("capability", "name"),
    [((9, 0), "mixed_bfloat16"), ((8, 6), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")],
)
def test_a_gpu_gets_what_its_tensor_cores_do_and_xla(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str
) -> None:
    from vdeploy.core.lazy_imports import load_tensorflow

    config = load_tensorflow().config
    monkeypatch.setattr(config, "list_physical_devices", lambda _: ["a GPU"])
    monkeypatch.setattr(config.experimental, "get_device_details", lambda _: {"compute_capability": capability})
    assert choose_precision(TrainingSection()) == Precision(name, True)
