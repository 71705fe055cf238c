"""Pulumi's host of dynamic resources, started as `pulumi-resource-pulumi-python` with the engine's address.

It is the wheel's own, and ends with the engine: one that was killed cannot say so, and what it began must not go on
behind the next one's back.
"""

from __future__ import annotations

import runpy

from parents import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("pulumi.dynamic", run_name="__main__", alter_sys=True)
