"""A conversation as a token that its owner gives back: nothing is kept between turns.

The token is the request as it was understood, packed; whoever changes it asks for
something else, as they might in words. What is no such token is refused.
"""

import base64
import binascii
import zlib

from pydantic import TypeAdapter, ValidationError

from client.serving.refused import Refused
from client.serving.understood import Understood

LONGEST = 4000  # characters of a token
LARGEST = 65_536  # bytes of what it unpacks to
_UNDERSTOOD = TypeAdapter(Understood)


def pack(understood: Understood) -> str:
    """Return the token that stands for a request and those before it.

    Empty where it would be too long to be given back: then the next one begins anew.
    """
    packed = zlib.compress(_UNDERSTOOD.dump_json(understood), 9)
    token = base64.urlsafe_b64encode(packed).decode()
    return token if len(token) <= LONGEST else ""


def unpack(token: str) -> Understood:
    """Return what ``pack`` was given.

    Raises:
        Refused: If it is no token that ``pack`` made.
    """
    try:
        packed = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        unpacked = zlib.decompressobj().decompress(packed, LARGEST)
        return _UNDERSTOOD.validate_json(unpacked, strict=True)
    except (ValueError, binascii.Error, zlib.error, ValidationError):
        raise Refused(
            "conversation is not one that this site began: give back the answer's "
            "'conversation' as it came, or none"
        ) from None
