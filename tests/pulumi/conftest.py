"""Every test here is watched: one that asserts nothing, or not all that it says, fails."""

import pytest

from support.pulumi_programs import watched


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    with watched(pyfuncitem.obj):
        return (yield)
