"""How often somebody may guess."""

from __future__ import annotations

from streamserver.throttle import Buckets, LoginThrottle


def test_five_guesses_then_a_wait_that_ends() -> None:
    throttle = LoginThrottle()
    for _ in range(5):
        assert throttle.wait("anna", "192.0.2.1", 100.0) == 0
        throttle.begin("anna", "192.0.2.1", 100.0)
    wait = throttle.wait("anna", "192.0.2.1", 100.0)
    assert wait > 0
    assert throttle.wait("anna", "192.0.2.1", 100.0 + wait) == 0
    assert throttle.wait("anna", "192.0.2.2", 100.0) == 0  # she can sign in from elsewhere
    assert throttle.wait("otto", "192.0.2.1", 100.0) == 0


def test_the_right_password_forgives() -> None:
    throttle = LoginThrottle()
    for _ in range(1000):
        assert throttle.wait("anna", "192.0.2.1", 0.0) == 0
        throttle.begin("anna", "192.0.2.1", 0.0)
        throttle.succeeded("anna", "192.0.2.1")


def test_a_flood_of_invented_users_is_bounded_in_memory_and_slowed_by_its_address() -> None:
    throttle = LoginThrottle(remembered=100)
    for number in range(1000):
        throttle.begin(f"user{number}", "192.0.2.1", 0.0)
    assert throttle.wait("anybody", "192.0.2.1", 0.0) > 0
    assert throttle.wait("anybody", "192.0.2.2", 0.0) == 0


def test_buckets_forget_the_oldest() -> None:
    buckets = Buckets(burst=1, refill_s=10.0, remembered=3)
    for name in "abcd":
        buckets.fail((name,), 0.0)
    assert len(buckets) == 3
    assert buckets.wait(("a",), 0.0) == 0
    assert buckets.wait(("d",), 0.0) == 10.0
