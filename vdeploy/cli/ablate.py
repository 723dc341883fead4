"""`vdeploy ablate`: measure what each method adds."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import JsonOption, print_json, print_line, print_table
from vdeploy.cli.recipe_options import RecipeOptions

if TYPE_CHECKING:
    from training.experiments.comparison import Comparison
    from training.experiments.cross_validation import Interval
    from training.experiments.method_study import MethodStudy


@expand_groups
def ablate(
    *,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings per row and fold; seeds 0, 1, 2, ...")] = 3,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="A method to compare, by name, for clips that name their source; may be repeated. [default: all]",
            show_default=False,
        ),
    ] = None,
    imbalance: Annotated[
        str | None,
        typer.Option(
            metavar="FREQUENT/RARE",
            help="Drop training clips of one class to reach this ratio; the clips are split, not cross-validated.",
        ),
    ] = None,
    rare: Annotated[
        str, typer.Option(help="The class that --imbalance drops: non-violent or violent.")
    ] = "non-violent",
    out: Annotated[
        Path | None,
        typer.Option(
            help="File of finished trainings. [default: studies/NAME_OF_DATA.json, or -by-source.json]",
            show_default=False,
        ),
    ] = None,
    options: RecipeOptions,
    json: JsonOption = False,
) -> None:
    """Compare a recipe with and without each method, by sources that were not learned from; resumes.

    Clips that name their source are cross-validated by source. For other clips, the rows lead on one split from
    cross-entropy up to the recipe, one method more per row.
    """
    from training.experiments.ablation import ladder  # noqa: PLC0415  keeps --help fast
    from training.experiments.comparison import compare  # noqa: PLC0415  keeps --help fast
    from training.experiments.imbalance import parse_imbalance  # noqa: PLC0415  keeps --help fast
    from training.experiments.method_arms import method_arms  # noqa: PLC0415  keeps --help fast
    from training.experiments.method_study import study_methods  # noqa: PLC0415  keeps --help fast
    from training.experiments.results_cache import Ledger, folds_file, study_lock  # noqa: PLC0415  keeps --help fast
    from training.pipeline import scan_source  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.errors import StudyError  # noqa: PLC0415  keeps --help fast

    chosen = options.load_recipe()
    lopsided = parse_imbalance(imbalance, rare) if imbalance else None
    arms, left_out = method_arms(chosen, methods or ())
    file = out or Path("studies") / f"{options.source.absolute().stem}.json"
    with contextlib.ExitStack() as locks:
        locks.enter_context(study_lock(file))
        dataset = scan_source(options.source, chosen)
        if lopsided is None and any(clip.group for clip in dataset.clips):
            if out is None:
                file = file.with_name(f"{file.stem}-by-source.json")
                locks.enter_context(study_lock(file))
            if chosen.distill.teacher:
                raise StudyError(
                    "a comparison by source cannot tell what a teacher has seen",
                    'set distill.teacher = "", or give clips without a group column',
                )
            folds = folds_file(file)
            study = study_methods(
                arms, dataset, options.store_root, folds, seeds=seeds, strict=options.strict, left_out=left_out
            )
            if json:
                print_json(study.to_dict())
            else:
                title = f"{options.source}, recipe {options.recipe}: each row adds or leaves out one method"
                _print_methods(study, title)
                print_line(f"finished folds: {file}")
            return
        if methods:
            raise StudyError(
                "--method compares by source, and this study splits the clips",
                "give a CSV with a group column and no --imbalance, or leave --method out",
            )
        ledger = Ledger(file)
        data = options.load_study_data(chosen, dataset)
        result = compare(ladder(chosen), data, range(seeds), ledger, imbalance=lopsided)
    if json:
        print_json(result.to_dict())
    else:
        _print_ladder(result, f"{options.source}, recipe {options.recipe}: each row adds one method")
        print_line(f"trainings: {file}")


def _print_methods(study: MethodStudy, title: str) -> None:
    def points(gain: Interval | None) -> str | None:
        if gain is None:
            return None
        text = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        return f"{text} *" if gain in study.beyond_noise else text

    rows = []
    for row in study.rows:
        accuracy, auc = row.judged.accuracy(), row.judged.roc_auc()
        rows.append(
            (
                row.arm.name,
                f"{accuracy.value:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})",
                f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})",
                points(row.gain),
                points(row.gain_in_steps),
                points(row.auc_gain),
            )
        )
    columns = ("row", "accuracy", "AUC", "accuracy, against the recipe", "against AdamW", "AUC, against the recipe")
    print_table(columns, rows, title=title)
    for line in study.conditions.splitlines():
        print_line(line)
    for name, reason in study.left_out.items():
        print_line(f"no row: {name}: {reason}")


def _print_ladder(result: Comparison, title: str) -> None:
    rows = [
        (row.name, row.accuracy, row.rare_accuracy, row.calibrated_accuracy, row.roc_auc, f"{row.seconds:.1f}")
        for row in result.rows
    ]
    columns = ("row", "accuracy", f"accuracy, {result.rare_class}", "accuracy, calibrated", "AUC", "seconds")
    print_table(columns, rows, title=title)
    for line in result.conditions.splitlines():
        print_line(line)
