"""The PutRecords sender says what helps: waiting, or a person."""

from __future__ import annotations

import asyncio

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from stream.errors import ConfigError, FatalError, StoreUnavailableError, ThrottledError
from stream.producers.kinesis import KinesisSender
from stream.producers.pack import Pack

pytestmark = pytest.mark.enable_socket  # an event loop wakes itself through a socket pair


class Client:
    def __init__(self, answer):
        self.answer = answer
        self.asked = None

    async def put_records(self, **asked):
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def describe_stream_summary(self, **asked):
        return await self.put_records(**asked)


def refused(code):
    return ClientError({"Error": {"Code": code, "Message": "because"}}, "PutRecords")


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (refused("ResourceNotFoundException"), ConfigError, "stream s does not exist; create it"),
        (refused("AccessDeniedException"), ConfigError, "kinesis:PutRecords"),
        (refused("UnrecognizedClientException"), ConfigError, "no permission"),
        (NoCredentialsError(), ConfigError, "credentials"),
        (refused("ProvisionedThroughputExceededException"), ThrottledError, "throttled"),
        (refused("LimitExceededException"), ThrottledError, "throttled"),
        (refused("InternalFailure"), StoreUnavailableError, "InternalFailure"),
        (EndpointConnectionError(endpoint_url="http://x"), StoreUnavailableError, "connect"),
        (ConnectionResetError("reset"), StoreUnavailableError, "reset"),
        (refused("ValidationException"), FatalError, "a retry cannot help"),
    ],
)
def test_kinesis_sender_failures_are_told_apart_by_what_helps(answer, error, text):
    sender = KinesisSender(Client(answer), "s")
    with pytest.raises(error, match=text) as caught:
        asyncio.run(sender.send([Pack("k", b"x", 1)]))
    assert "\n" not in str(caught.value)
    with pytest.raises(error, match=text):
        asyncio.run(sender.check())


def test_kinesis_sender_answers_per_record():
    answer = {"Records": [{"SequenceNumber": "1"}, {"ErrorCode": "InternalFailure"}]}
    client = Client(answer)
    codes = asyncio.run(KinesisSender(client, "s").send([Pack("a", b"x", 1), Pack("b", b"y", 1)]))
    assert codes == [None, "InternalFailure"]
    assert client.asked == {
        "StreamName": "s",
        "Records": [{"Data": b"x", "PartitionKey": "a"}, {"Data": b"y", "PartitionKey": "b"}],
    }
