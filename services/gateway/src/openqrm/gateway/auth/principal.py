"""Who is asking."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from openqrm.gateway.auth.roles import ALWAYS_IN_SCOPE, Role


class CredentialKind(StrEnum):
    """What the caller proved itself with."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word, not a secret


@dataclass(frozen=True)
class Principal:
    """A user, by one of its credentials."""

    user_id: UUID
    user: str
    role: Role
    """What this credential may do: a token may do less than its user."""
    kind: CredentialKind
    credential_id: UUID
    nouns: frozenset[str]
    """What a token is limited to; empty: everything."""
    expires_at: datetime

    @property
    def credential(self) -> str:
        """For the audit, such as token:0198…"""
        return f"{self.kind}:{self.credential_id}"

    def reaches(self, noun: str) -> bool:
        """Whether the credential's scope has this noun."""
        return not self.nouns or noun in self.nouns or noun in ALWAYS_IN_SCOPE
