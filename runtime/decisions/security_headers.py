"""What every answer over HTTP tells browsers not to do, whichever process gives it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

SECURITY_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-XSS-Protection": "0",  # browsers that still have that filter are safer without it
        "Content-Security-Policy": _NOTHING,  # answers are data, and nothing that a browser is to run or to show
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)

STRICT_TRANSPORT: Final = ("Strict-Transport-Security", "max-age=31536000")
"""Where the answer goes over TLS."""


def policy_of_page(scripts_from: str) -> str:
    """The content security policy of a page whose scripts and styles stand in it, or come from below this address."""
    return (
        f"default-src 'none'; script-src 'unsafe-inline' {scripts_from}; style-src 'unsafe-inline' {scripts_from}; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
