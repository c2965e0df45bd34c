import threading
import time

import pytest

from sce_lab.widgets.latest import Latest


def test_of_many_requests_the_last_is_always_done_and_most_are_skipped():
    done = []

    def work(request):
        time.sleep(0.02)
        done.append(request)

    latest = Latest(work)
    for request in range(200):
        latest.submit(request)
        time.sleep(0.0005)
    latest.settle()
    assert done[-1] == 199
    assert done == sorted(done)
    assert len(done) < 50


def test_one_request_is_done_at_a_time_whoever_asks():
    at_once, most = 0, 0

    def work(request):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.002)
        at_once -= 1

    latest = Latest(work)
    threads = [threading.Thread(target=lambda: [latest.submit(i) for i in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latest.settle()
    assert most == 1


def test_submit_does_not_wait_and_settle_does():
    gate = threading.Event()
    latest = Latest(lambda request: gate.wait(5))
    began = time.monotonic()
    latest.submit(1)
    assert time.monotonic() - began < 0.5
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        latest.settle(0.05)
    gate.set()
    latest.settle()


def test_an_error_is_raised_once_and_does_not_end_it():
    done = []

    def work(request):
        if request == "bad":
            raise ValueError("bad request")
        done.append(request)

    latest = Latest(work)
    latest.submit("bad")
    with pytest.raises(ValueError, match="bad request"):
        latest.settle()
    latest.settle()
    latest.submit("good")
    latest.settle()
    assert done == ["good"]


def test_no_thread_is_left_when_there_is_nothing_to_do():
    latest = Latest(lambda request: None)
    latest.submit(1)
    latest.settle()
    for _ in range(100):
        if not [t for t in threading.enumerate() if t.name == "sce-lab-latest"]:
            return
        time.sleep(0.01)
    pytest.fail("the thread is still there")
