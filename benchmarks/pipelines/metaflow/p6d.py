"""Five steps in a chain; the third waits as long as it is told to."""

from metaflow import FlowSpec, step
from witness import answer, hold, ran


class Five(FlowSpec):
    @step
    def start(self):
        ran("1")
        self.value = 1
        self.next(self.two)

    @step
    def two(self):
        ran("2")
        self.value = self.value + 1
        self.next(self.three)

    @step
    def three(self):
        ran("3")
        hold()
        self.value = self.value + 1
        self.next(self.four)

    @step
    def four(self):
        ran("4")
        self.value = self.value + 1
        self.next(self.end)

    @step
    def end(self):
        ran("5")
        self.value = answer(self.value + 1)


if __name__ == "__main__":
    Five()
