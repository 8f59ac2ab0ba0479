"""The error that ends a run, and an error's message in one line."""


class TrainingError(Exception):
    """A run that cannot continue. The message is one line that names the thing and the fault."""

    signal_number = 0  # of the signal that stopped the run, if one did


def one_line_message(error: BaseException) -> str:
    """The error's message on one line, or the error's class where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
