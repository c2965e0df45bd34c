import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As on Binder, where there is one core: and kernels of a test run must not fight one another for more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "OMP_NUM_THREADS", "1")
        yield
