"""The one error of the suite that the command line turns into a message."""


class UsageError(ValueError):
    """Options, or a result file, that cannot be served; the text says what to change."""
