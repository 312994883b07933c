"""What every test is held to: no thread of ours may outlive it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from bench.lock import FOLDER_VARIABLE

GRACE_S = 5.0


@pytest.fixture(autouse=True, scope="session")
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks of benches go to a folder of this test run: simulated ports are new each time, and leave a file each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves threads running: a server not stopped, a link not closed."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE_S
    left: list[threading.Thread] = []
    while time.monotonic() < deadline:
        left = [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()]
        # Idle workers of numerical libraries' pools belong to the process, not to a test.
        left = [thread for thread in left if not thread.name.startswith(("ThreadPoolExecutor", "tqdm"))]
        if not left:
            return
        time.sleep(0.02)
    pytest.fail(f"threads left running: {[thread.name for thread in left]}")
