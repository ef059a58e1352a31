"""Twenty steps in a chain; each is a task of its own, as Metaflow runs them."""

from metaflow import FlowSpec, step
from witness import answer, ran


class Twenty(FlowSpec):
    @step
    def start(self):
        ran("add")
        self.value = 0 + 1
        self.next(self.add_2)

    @step
    def add_2(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_3)

    @step
    def add_3(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_4)

    @step
    def add_4(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_5)

    @step
    def add_5(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_6)

    @step
    def add_6(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_7)

    @step
    def add_7(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_8)

    @step
    def add_8(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_9)

    @step
    def add_9(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_10)

    @step
    def add_10(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_11)

    @step
    def add_11(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_12)

    @step
    def add_12(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_13)

    @step
    def add_13(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_14)

    @step
    def add_14(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_15)

    @step
    def add_15(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_16)

    @step
    def add_16(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_17)

    @step
    def add_17(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_18)

    @step
    def add_18(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.add_19)

    @step
    def add_19(self):
        ran("add")
        self.value = self.value + 1
        self.next(self.end)

    @step
    def end(self):
        ran("add")
        self.value = self.value + 1
        answer(self.value)


if __name__ == "__main__":
    Twenty()
