"""Streams, dataflows and producers, against the runtime that they start."""

from __future__ import annotations

import json
import shlex
from typing import Any

import click
import pytest
import settings as stack_settings
import synth
from components.streaming import cluster_environment
from test_containers import DEFINITION, SERVICE, containers

from stream.cli.produce import produce
from stream.cli.run import run
from stream.feeds import load_feeds
from stream.settings import Settings

STREAM = "aws:kinesis/stream:Stream"
POLICY = "aws:iam/rolePolicy:RolePolicy"
STREAMED = sorted(name for name, contract in load_feeds().items() if contract.has_stream)
