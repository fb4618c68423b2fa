"""The one error of a start: a sentence that a person can act on."""


class StartError(Exception):
    """openQRM cannot start; the message is one sentence that says what is wrong and what to do."""
