"""Pulumi's entry of the policy pack: every rule stops a deployment."""

from __future__ import annotations

from pulumi_policy import EnforcementLevel, PolicyPack
from rules import containers, encryption, exposure, logs, permissions, transport

PolicyPack(
    name="headrace",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        *encryption.RULES,
        *exposure.RULES,
        *transport.RULES,
        *permissions.RULES,
        *logs.RULES,
        *containers.RULES,
    ],
)
