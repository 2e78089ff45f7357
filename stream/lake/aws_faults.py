"""What AWS SDK errors have in common, whichever service was asked."""

from __future__ import annotations

from botocore.exceptions import (
    ConnectionError,  # noqa: A004 (botocore's, not the builtin)
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
)
from botocore.parsers import ResponseParserError

NO_ANSWER = (
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    ResponseParserError,
)
"""What botocore raises when the network, a proxy or the credentials' endpoint is at fault."""
