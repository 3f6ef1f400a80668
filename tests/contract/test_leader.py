"""Who leads: one at a time, under terms that only grow, and in doubt nobody. On both servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.proxy import Proxy
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import COORDINATOR, elect, open_gate, promote
from tqctl_runtime.broker.link import Link
from tqctl_runtime.coordinator.leader import LEASE_MS, RENEW_SECONDS, TRUST_SECONDS, Leader
from tqctl_runtime.core.errors import LeaseLost, RecordUnavailable


class Terms:
    """What SQL does in an election: a number that only grows, unless it cannot be reached."""

    def __init__(self) -> None:
        self.last = 0
        self.is_away = False
        self.asked = 0

    async def next(self, above: int) -> int:
        self.asked += 1
        if self.is_away:
            raise RecordUnavailable("SQL is away")
        self.last = max(self.last, above) + 1
        return self.last


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Election:
    """Candidates on one broker, sharing SQL and a clock that the test moves."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self.link = link
        self.keys = keys
        self.terms = Terms()
        self.clock = Clock()

    def candidate(self, name: str, link: Link | None = None) -> Leader:
        return Leader(link=link or self.link, keys=self.keys, holder=name, next_term=self.terms.next, clock=self.clock)

    async def end_lease_of(self, holder: str, term: int) -> None:
        await self.link.call(elect(self.keys, role=COORDINATOR, holder=holder, term=term, lease_ms=0))


Scenario = Callable[[Election], Awaitable[None]]


@pytest.fixture
def play(broker_address_url: str, namespace: str) -> Callable[[Scenario], None]:
    """Runs a scenario in an open namespace."""

    async def whole(scenario: Scenario) -> None:
        keys = Keys(namespace)
        async with Link(BrokerAddress.parse(broker_address_url)) as link:
            await link.call(open_gate(keys, epoch=1, pairing="par_test"))
            await scenario(Election(link, keys))

    return lambda scenario: asyncio.run(whole(scenario))


def test_the_first_candidate_leads_and_the_second_follows(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        first, second = election.candidate("first"), election.candidate("second")
        await first.tick()
        await second.tick()

        assert (first.term, second.term) == (1, None)
        assert first.settled.is_set()
        assert second.settled.is_set()

    play(scenario)


def test_a_follower_asks_sql_for_no_term_while_somebody_leads(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        await election.candidate("first").tick()
        follower = election.candidate("second")
        for _ in range(5):
            await follower.tick()

        assert election.terms.asked == 1

    play(scenario)


def test_many_candidates_at_once_give_one_leader(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        candidates = [election.candidate(f"candidate-{number}") for number in range(10)]
        await asyncio.gather(*[candidate.tick() for candidate in candidates])

        assert len([candidate for candidate in candidates if candidate.term is not None]) == 1

    play(scenario)


def test_who_resigns_is_followed_in_a_greater_term(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        first, second = election.candidate("first"), election.candidate("second")
        await first.tick()
        await first.resign()
        assert first.term is None
        await second.tick()

        assert second.term == 2

    play(scenario)


def test_a_renewal_extends_the_trust_from_the_moment_it_was_sent(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        leader = election.candidate("only")
        await leader.tick()
        election.clock.now += TRUST_SECONDS - 0.1
        await leader.tick()
        election.clock.now += TRUST_SECONDS - 0.1
        assert leader.term == 1

        election.clock.now += 0.2
        assert leader.term is None

    play(scenario)


def test_a_leader_that_stood_still_begins_a_new_term_though_nobody_took_its_lease(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(election: Election) -> None:
        leader = election.candidate("only")
        await leader.tick()
        changed = leader.changed
        election.clock.now += TRUST_SECONDS + 1
        assert leader.term is None

        await leader.tick()

        assert changed.is_set()
        assert leader.term == 2

    play(scenario)


def test_a_leader_that_cannot_renew_stops_before_its_lease_is_over(
    broker_address_url: str, play: Callable[[Scenario], None]
) -> None:
    async def scenario(election: Election) -> None:
        with Proxy(broker_address_url) as proxy:
            async with Link(BrokerAddress.parse(proxy.url), connect_timeout=0.2) as weak:
                leader = election.candidate("cut off", weak)
                await leader.tick()
                changed = leader.changed
                proxy.refuse()
                election.clock.now += RENEW_SECONDS
                await leader.tick()
                assert (leader.term, changed.is_set()) == (1, False)

                election.clock.now += TRUST_SECONDS
                await leader.tick()
                assert (leader.term, changed.is_set()) == (None, True)
        assert TRUST_SECONDS * 1000 < LEASE_MS

    play(scenario)


def test_a_leader_whose_lease_another_took_is_told_at_its_renewal(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        paused, other = election.candidate("paused"), election.candidate("other")
        await paused.tick()
        await election.end_lease_of("paused", 1)
        await other.tick()
        await paused.tick()

        assert (paused.term, other.term) == (None, 2)

    play(scenario)


def test_while_sql_is_away_the_holder_stays_and_nobody_new_is_elected(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        holder, other = election.candidate("holder"), election.candidate("other")
        await holder.tick()
        election.terms.is_away = True
        await holder.tick()
        assert holder.term == 1

        await holder.resign()
        await other.tick()
        assert other.term is None

        election.terms.is_away = False
        await other.tick()
        assert other.term == 2

    play(scenario)


def test_an_older_copy_of_sql_gives_a_term_above_those_that_redis_knows(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(election: Election) -> None:
        first = election.candidate("first")
        await first.tick()
        await first.resign()
        election.terms.last = 0

        restored = election.candidate("on a restored database")
        await restored.tick()

        assert restored.term == 2

    play(scenario)


def test_doubt_ends_the_leadership_at_once_and_the_next_term_is_greater(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        leader = election.candidate("unsure")
        await leader.tick()
        changed = leader.changed
        leader.doubt("a write was refused")
        assert leader.term is None
        assert changed.is_set()

        await election.end_lease_of("unsure", 1)
        await leader.tick()
        assert leader.term == 2

    play(scenario)


def test_writes_of_an_earlier_term_are_refused(play: Callable[[Scenario], None]) -> None:
    async def scenario(election: Election) -> None:
        first, second = election.candidate("first"), election.candidate("second")
        await first.tick()
        await election.link.call(promote(election.keys, term=1))
        await first.resign()
        await second.tick()

        with pytest.raises(LeaseLost):
            await election.link.call(promote(election.keys, term=1))
        await election.link.call(promote(election.keys, term=2))

    play(scenario)
