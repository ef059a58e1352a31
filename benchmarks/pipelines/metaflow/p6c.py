import helpers
from metaflow import FlowSpec, Parameter, step
from witness import answer, ran


def _shift(value: int) -> int:
    return value + 1


class Matrix(FlowSpec):
    path = Parameter("path", default="input.txt")
    factor = Parameter("factor", type=int, default=1)

    @step
    def start(self):
        ran("load")
        with open(self.path) as file:
            self.raw = [int(line) for line in file]
        self.next(self.clean)

    @step
    def clean(self):
        """Each value, scaled and shifted."""
        ran("clean")
        self.rows = [_shift(helpers.scale(value)) * self.factor for value in self.raw]
        self.next(self.end)

    @step
    def end(self):
        ran("total")
        self.total = answer(sum(self.rows))


if __name__ == "__main__":
    Matrix()
