"""Provisions the testbed that the stack's profile describes: `pulumi config set profile three-sites && pulumi up`."""

from dynamos.deploy.pulumi.programs import run

run()
