"""A quarantine keeps out exactly what was put in, for a while."""

from tests.serve.fakes import conversation

from rewardserve.serving.quarantine import MOST, QUARANTINE_S, Quarantine


def test_the_same_items_are_kept_out_until_their_time_is_up() -> None:
    quarantine = Quarantine()
    quarantine.add([conversation("a"), "text", [1, 2]], now=0.0)
    assert quarantine.holds([conversation("a"), "text", [1, 2]], now=QUARANTINE_S - 1)
    assert not quarantine.holds([conversation("a"), "text", [1, 3]], now=1.0)
    assert not quarantine.holds([conversation("a"), "text", [1, 2]], now=QUARANTINE_S)


def test_it_never_grows_beyond_its_bound() -> None:
    quarantine = Quarantine()
    for number in range(MOST + 1):
        quarantine.add([f"{number}"], now=0.0)
    assert not quarantine.holds(["0"], now=1.0)
    assert quarantine.holds(["1"], now=1.0)
    assert quarantine.holds([f"{MOST}"], now=1.0)
