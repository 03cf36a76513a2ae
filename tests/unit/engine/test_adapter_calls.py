import asyncio
from collections.abc import Sequence

import pytest

from relay.engine.adapter_calls import GRACE, AdapterCalls
from relay.errors import TransportError
from relay.http.transport import (
    OnDone,
    PendingRequest,
    ProxyCredentialsRequired,
    Transport,
    Unsendable,
)
from relay.message import Message
from relay.outcome import Delivered, Faulty, Outcome, Rejected, Retry, Unauthorised
from relay.provider import HttpProvider, Provider, Request, Response
from relay.provider.base import Repeat
from relay.settings.options import ProviderOptions
from testing.builders import a_message


class Odd(Provider[ProviderOptions]):
    """Handles each batch as the test orders."""

    does: BaseException | Sequence[Outcome] | None = None

    def check(self, message: Message) -> Rejected | None:
        if isinstance(self.does, Exception):
            raise self.does
        return None

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        if self.does is None:
            await asyncio.Event().wait()
        if isinstance(self.does, BaseException):
            raise self.does
        assert self.does is not None
        return self.does


def of(
    does: BaseException | Sequence[Outcome] | None, timeout: float = 10, grace: float = GRACE
) -> AdapterCalls:
    provider = Odd("odd", ProviderOptions.model_validate({"type": "odd", "timeout": timeout}))
    provider.does = does
    return AdapterCalls(provider, grace=grace)


class Line(Transport):
    """A transport that answers when a test orders it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[OnDone, PendingRequest]] = []
        self.cancelled: list[PendingRequest] = []

    def start(self, request: Request, on_done: OnDone) -> PendingRequest:
        line = self

        class Waiting:
            def cancel(self) -> None:
                line.cancelled.append(self)

        pending = Waiting()
        self.waiting.append((on_done, pending))
        return pending

    def answer(self, answer: Response | Exception) -> None:
        on_done, pending = self.waiting.pop(0)
        on_done(pending, answer)

    async def close(self) -> None:
        raise AssertionError("a delivery closes no connections")


class Plain(HttpProvider[ProviderOptions]):
    """A request, and the outcome of its answer."""

    def request(self, batch: Sequence[Message]) -> Request:
        if batch[0].payload["text"] == "breaks the request":
            raise KeyError("x")
        return Request("http://127.0.0.1/")

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        if response.status == 500:
            raise KeyError("y")
        if response.status == 204:
            return None  # type: ignore[return-value]
        return [Delivered()] * response.status


async def over(line: Line, timeout: float = 10, grace: float = GRACE) -> AdapterCalls:
    provider = Plain("plain", ProviderOptions.model_validate({"type": "plain", "timeout": timeout}))
    await provider.start(line)
    return AdapterCalls(provider, grace=grace)


async def outcomes_of(delivery: AdapterCalls, messages: Sequence[Message]) -> Sequence[Outcome]:
    ended: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
    delivery.start(messages, lambda outcomes, *_: ended.set_result(outcomes))
    assert not ended.done(), "who has begun it is not called before that"
    return await ended


MESSAGES = [a_message("a"), a_message("b")]
NOTHING = Faulty("""the adapter failed: TypeError("object of type 'NoneType' has no len()")""")
NOTHING_COUNTED = Faulty("""the adapter failed: TypeError("object of type 'int' has no len()")""")


def miscounted(number: int) -> list[Outcome]:
    return [Faulty(f"the adapter failed: it returned {number} outcomes for 2 messages")] * 2


@pytest.mark.parametrize(
    ("does", "outcomes"),
    [
        ([Delivered("1"), Rejected("no")], [Delivered("1"), Rejected("no")]),
        (TransportError("no answer"), [Retry("no answer")] * 2),
        (Unsendable("not a URL"), [Rejected("not a URL")] * 2),
        (ProxyCredentialsRequired("it said 407"), [Unauthorised("it said 407", 407)] * 2),
        (KeyError("x"), [Faulty("the adapter failed: KeyError('x')")] * 2),
        ([Delivered()], miscounted(1)),
        ([Delivered()] * 3, miscounted(3)),
        (0, [NOTHING_COUNTED] * 2),
    ],
)
async def test_each_message_has_an_outcome(
    does: BaseException | Sequence[Outcome], outcomes: Sequence[Outcome]
) -> None:
    assert list(await outcomes_of(of(does), MESSAGES)) == outcomes


@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        (Response(2), [Delivered()] * 2),
        (TransportError("no answer"), [Retry("no answer")] * 2),
        (Unsendable("not a URL"), [Rejected("not a URL")] * 2),
        (ProxyCredentialsRequired("it said 407"), [Unauthorised("it said 407", 407)] * 2),
        (Response(500), [Faulty("the adapter failed: KeyError('y')")] * 2),
        (Response(1), miscounted(1)),
        (Response(204), [NOTHING] * 2),
    ],
)
async def test_each_message_of_a_request_has_an_outcome(
    answer: Response | Exception, outcomes: Sequence[Outcome]
) -> None:
    line = Line()
    delivery = await over(line)
    ended: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
    delivery.start(MESSAGES, lambda outcomes, *_: ended.set_result(outcomes))
    line.answer(answer)
    assert list(await ended) == outcomes


async def test_an_adapter_that_fails_before_anything_is_sent() -> None:
    line = Line()
    messages = [a_message("breaks the request")]
    assert await outcomes_of(await over(line), messages) == [Faulty("the adapter failed: KeyError('x')")]
    assert line.waiting == []


@pytest.mark.parametrize("plain", [True, False])
async def test_a_call_that_hangs_is_cancelled_at_its_own_timeout(*, plain: bool) -> None:
    line = Line()
    one = await over(line, timeout=0.02, grace=0.01) if plain else of(None, timeout=0.02, grace=0.01)
    for _ in range(2):
        ends = await asyncio.gather(*(outcomes_of(one, MESSAGES) for _ in range(3)))
        assert ends == [[Retry("no answer within 0.02 s")] * 2] * 3
    assert len(line.cancelled) == 6 * plain
    for _ in range(6 * plain):
        line.answer(Response(2))  # comes too late, and is nobody's


@pytest.mark.parametrize("plain", [True, False])
async def test_the_end_of_a_released_call_notifies_nobody(*, plain: bool) -> None:
    line = Line()
    one = await over(line) if plain else of(None)
    told: list[Sequence[Outcome]] = []
    for _ in range(3):
        one.start(MESSAGES, lambda outcomes, *_: told.append(outcomes))
    await asyncio.sleep(0)
    await one.close()
    for _ in range(3 * plain):
        line.answer(Response(2))
    await asyncio.sleep(0)
    assert told == []
    assert len(line.cancelled) == 3 * plain
    assert len(asyncio.all_tasks()) == 1


def test_a_message_that_breaks_the_adapter_is_refused() -> None:
    assert of([]).refusal(MESSAGES[0]) is None
    assert of(KeyError("x")).refusal(MESSAGES[0]) == Faulty("the adapter failed: KeyError('x')")


class Careful(Plain):
    """Waits before its first request, and repeats one that is refused with 401."""

    ready = False
    refused = False

    def start_request(self, batch: Sequence[Message], on_done: OnDone) -> PendingRequest | None:
        def answered(pending: PendingRequest, answer: Response | Exception) -> None:
            is_refused = isinstance(answer, Response) and answer.status == 401
            on_done(pending, Repeat() if is_refused else answer)

        return self._transport.start(self.request(batch), answered) if self.ready else None

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        self.ready = True
        return [Rejected("delivered by a task")] * len(batch)

    async def deliver_again(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return [Rejected("delivered again")] * len(batch)


class Overridden(Careful):
    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return [Delivered()] * len(batch)


async def test_an_adapter_may_wait_before_a_request_and_repeat_a_refused_one() -> None:
    line = Line()
    provider = Careful("careful", ProviderOptions(type="careful"))
    await provider.start(line)
    calls, ends = AdapterCalls(provider), list[Sequence[Outcome]]()
    assert await outcomes_of(calls, MESSAGES) == [Rejected("delivered by a task")] * 2
    for status in (401, 2):
        ended = asyncio.Event()

        def end(outcomes: Sequence[Outcome], started: float, _: int, ended: asyncio.Event = ended) -> None:
            assert started > 0
            ends.append(outcomes)
            ended.set()

        calls.start(MESSAGES, end)
        line.answer(Response(status))
        await ended.wait()
    assert ends == [[Rejected("delivered again")] * 2, [Delivered()] * 2]
    calls.start(MESSAGES, lambda *_: None)
    await calls.close()
    assert len(line.cancelled) == 1


def test_the_own_delivery_of_a_subclass_counts() -> None:
    options = ProviderOptions(type="x")
    assert Careful("x", options).is_one_request
    assert not Overridden("x", options).is_one_request
