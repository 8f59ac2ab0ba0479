"""What a thread shows of its work, so that another one can see whether it moves."""


class Activity:
    """`current` is None while the thread waits for work, and a new object for each piece of work.

    It is one reference, which any thread may read without a lock.
    """

    def __init__(self) -> None:
        self.current: object | None = None

    def begin(self) -> None:
        """A new piece of work begins: a call of the model."""
        self.current = object()

    def end(self) -> None:
        """The thread waits from now on."""
        self.current = None
