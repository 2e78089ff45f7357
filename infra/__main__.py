"""Pulumi's entry: `pulumi preview`, `pulumi up`. The program itself is `program.deploy`."""

from program import deploy

deploy()
