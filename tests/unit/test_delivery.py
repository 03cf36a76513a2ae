import asyncio
from collections.abc import Sequence

import pytest
import structlog

from relay import delivery
from relay.delivery import Delivery
from relay.errors import TransportError
from relay.http.transport import Unsendable
from relay.message import Message
from relay.outcome import Delivered, Outcome, Rejected, Retry
from relay.provider import Provider
from relay.settings.provider import ProviderOptions
from tests.support.builders import a_message


class Odd(Provider[ProviderOptions]):
    """Does with each batch what it is told."""

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


def of(does: BaseException | Sequence[Outcome] | None, timeout: float = 10) -> Delivery:
    provider = Odd("odd", ProviderOptions.model_validate({"type": "odd", "timeout": timeout}))
    provider.does = does
    return Delivery(provider, structlog.get_logger())


MESSAGES = [a_message("a"), a_message("b")]


@pytest.mark.parametrize(
    ("does", "outcomes"),
    [
        ([Delivered("1"), Rejected("no")], [Delivered("1"), Rejected("no")]),
        (TransportError("no answer"), [Retry("no answer")] * 2),
        (Unsendable("not a URL"), [Rejected("not a URL")] * 2),
        (KeyError("x"), [Retry("the adapter failed: KeyError('x')")] * 2),
        ([Delivered()], [Retry("the adapter did not say how each message ended")] * 2),
        ([Delivered()] * 3, [Retry("the adapter did not say how each message ended")] * 2),
    ],
)
async def test_each_message_has_an_outcome(
    does: BaseException | Sequence[Outcome], outcomes: Sequence[Outcome]
) -> None:
    assert list(await of(does).deliver(MESSAGES)) == outcomes


async def test_an_adapter_that_hangs_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LATE", 0.01)
    assert await of(None, timeout=0.02).deliver(MESSAGES) == [Retry("no answer within 0.02 s")] * 2


async def test_who_is_cancelled_while_it_delivers_is_cancelled() -> None:
    task = asyncio.create_task(of(None).deliver(MESSAGES))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_message_that_breaks_the_adapter_is_refused() -> None:
    assert of([]).refusal(MESSAGES[0]) is None
    assert of(KeyError("x")).refusal(MESSAGES[0]) == Rejected("the adapter failed on it: KeyError('x')")
