"""What the server tells of deltas is a hint, and even so no nonsense is taken."""

from __future__ import annotations

from typing import Any

import pytest

from appclient.errors import ServerUntrustedError
from appclient.session import DeltaOffer, _delta_offers

OLD, DIGEST = b"\1" * 32, b"\2" * 32
TOLD: dict[str, Any] = {
    "from": OLD.hex(),
    "digest": DIGEST.hex(),
    "size": 5,
    "url": f"/v1/objects/{DIGEST.hex()}?e=1&c=x",
}


def test_offers_from_versions_that_are_here_are_taken() -> None:
    assert _delta_offers([TOLD], [OLD]) == (DeltaOffer(OLD, DIGEST, 5, TOLD["url"]),)
    assert _delta_offers(None, [OLD]) == ()
    assert _delta_offers([], []) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"from": "03" * 32},
        {"digest": "02" * 31},
        {"digest": "03" * 32},
        {"size": 0},
        {"size": 1 << 60},
        {"url": "https://elsewhere.example.org/v1/objects/" + DIGEST.hex()},
        {"url": 7},
    ],
)
def test_offers_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ServerUntrustedError, ValueError)):  # `origins` makes one of the other
        _delta_offers([TOLD | change], [OLD])
    with pytest.raises(ServerUntrustedError):
        _delta_offers([TOLD] * 65, [OLD])


@pytest.mark.parametrize("told", [[{}], [3], [TOLD | {"from": "x"}], [TOLD | {"size": "5"}]])
def test_what_is_no_offer_at_all_is_an_error_that_origins_knows(told: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, ServerUntrustedError)):
        _delta_offers(told, [OLD])
