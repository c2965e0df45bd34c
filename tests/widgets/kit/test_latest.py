import threading
import time

import pytest

from sce_lab.widgets.kit.latest import Latest


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


def test_what_may_be_asked_for_next_is_made_ready_in_between_and_given_up_for_a_request():
    done, ready, gate = [], [], threading.Event()

    def ahead(request):
        for bit in range(3):
            ready.append((request, bit))
            yield
            gate.wait(5)

    latest = Latest(done.append, ahead)
    latest.submit("first")
    latest.settle()  # nobody waits for what is made ready
    assert done == ["first"]
    while not ready:
        time.sleep(0.001)
    latest.submit("second")
    gate.set()
    latest.settle()
    assert done == ["first", "second"]
    while len(ready) < 4 or [t for t in threading.enumerate() if t.name == "sce-lab-latest"]:
        time.sleep(0.001)
    assert [bit for request, bit in ready if request == "second"] == [0, 1, 2]
    assert len([bit for request, bit in ready if request == "first"]) < 3


def test_an_error_in_what_is_made_ready_is_not_the_answer_s():
    def ahead(request):
        yield
        raise ValueError("too early")

    done = []
    latest = Latest(done.append, ahead)
    for request in (1, 2):
        latest.submit(request)
        latest.settle()
        while [t for t in threading.enumerate() if t.name == "sce-lab-latest"]:
            time.sleep(0.001)
    assert done == [1, 2]
