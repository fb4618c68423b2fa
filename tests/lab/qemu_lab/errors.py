"""The lab's one error."""


class LabError(Exception):
    """Why the lab cannot do it, in one sentence."""
