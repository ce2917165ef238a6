"""What embedding took, measured where it is done: in Spark's workers, and summed on the driver."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pyspark import Accumulator, AccumulatorParam, SparkContext


@dataclass
class Work:
    """Sums over tasks.

    Attributes:
        rows: that got a result.
        repeated: of these, rows that got that of an equal one.
        tokens: read by the model, those of images included.
        padded_tokens: the same with padding.
        seconds: of tasks, from their first row to their last vector, without loading models.
        model_seconds: of these, in the model.
        loads: models loaded; more than workers where rows have ended the process of one.
        deaths: how often a row has done that.
        workers: who did the work, as host:process.
    """

    rows: int = 0
    repeated: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    loads: int = 0
    load_seconds: float = 0.0
    deaths: int = 0
    workers: frozenset[str] = frozenset()

    def __add__(self, other: Work) -> Work:
        both = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return Work(**{name: a | b if name == "workers" else a + b for name, (a, b) in both.items()})

    @property
    def padding(self) -> float:
        """Share of the tokens in the model that are padding."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    def summary(self) -> str:
        """A line for people; empty where nothing was done."""
        if not self.rows or not self.seconds:
            return ""
        repeated = f"; {self.repeated:,} items read like another one" if self.repeated else ""
        deaths = f"; rows ended the encoder's process {self.deaths} times" if self.deaths else ""
        return (
            f"{self.rows / self.seconds:,.1f} items/s and {self.tokens / self.seconds:,.0f} tokens/s a worker "
            f"({len(self.workers)} workers), {self.model_seconds / self.seconds:.1%} of their time in the model, "
            f"{self.padding:.1%} padding; {self.loads} models loaded in {self.load_seconds:.1f} s{repeated}{deaths}"
        )


class _Sum(AccumulatorParam[Work]):
    def zero(self, value: Work) -> Work:
        return Work()

    def addInPlace(self, value1: Work, value2: Work) -> Work:
        return value1 + value2


def work_accumulator(context: SparkContext) -> Accumulator[Work]:
    """Tasks add to it; work that Spark had to repeat counts as often as it was done."""
    return context.accumulator(Work(), _Sum())
