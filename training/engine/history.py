"""What is noted of each epoch."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

__all__ = ["EpochRecord", "history_csv"]


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """One row of the history."""

    epoch: int
    loss: float
    valid_loss: float
    valid_auc: float | None
    valid_accuracy: float
    learning_rate: float
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """Epochs are compared by validation AUC, then by validation loss."""
        return (0.0 if self.valid_auc is None else self.valid_auc, -self.valid_loss)


def history_csv(history: Sequence[EpochRecord]) -> str:
    """The history as a CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(record) for record in history)
    return text.getvalue()
