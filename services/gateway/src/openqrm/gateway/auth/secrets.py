"""Bearer tokens and session cookies: random, shown once, kept only as a hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from uuid import UUID

TOKEN_PREFIX = "oqrm_"  # noqa: S105 - a prefix, so that a leaked token is recognised
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Credential:
    """The two parts of a credential's text: which row it is, and the proof."""

    id: UUID
    secret: str

    @property
    def secret_hash(self) -> bytes:
        """What the database keeps. The secret has 256 random bits, so a fast hash is enough."""
        return hashlib.sha256(self.secret.encode()).digest()

    def proves(self, secret_hash: bytes) -> bool:
        """Whether the secret is the one that was hashed, in constant time."""
        return hmac.compare_digest(self.secret_hash, secret_hash)

    @property
    def token(self) -> str:
        """As a bearer token."""
        return f"{TOKEN_PREFIX}{self.id.hex}_{self.secret}"

    @property
    def cookie(self) -> str:
        """As a cookie's value."""
        return f"{self.id.hex}_{self.secret}"


def new_credential(identity: UUID) -> Credential:
    """A credential with a new random secret."""
    return Credential(identity, secrets.token_hex(_SECRET_BYTES))


def parse_credential(text: str) -> Credential | None:
    """Take a token or a cookie's value apart; None if it is neither."""
    parts = text.removeprefix(TOKEN_PREFIX).split("_")
    if len(parts) != 2 or len(parts[0]) != 32 or not 32 <= len(parts[1]) <= 128 or not text.isascii():
        return None
    try:
        return Credential(UUID(hex=parts[0]), parts[1])
    except ValueError:
        return None


def new_password() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(18)
