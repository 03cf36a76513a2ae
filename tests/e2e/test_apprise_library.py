"""Apprise through the command line, with the real library."""

from __future__ import annotations

import json
from pathlib import Path

from testing.receiver import Answer, Received
from testing.relay_process import relay, worker
from testing.site import Site


async def test_messages_are_sent_and_a_refused_one_carries_the_reason(site: Site) -> None:
    def answer(request: Received) -> Answer:
        return Answer(400 if json.loads(request.body)["message"] == "bad" else 200)

    site.receiver.answer = answer
    url = f"{site.receiver.url.replace('http', 'json')}/s3cret?:token=s3cret"
    path = site.configure({"ops": {"type": "apprise", "url": url}})
    checked = await relay("check", "--connect", "-c", str(path))
    assert checked.code == 0
    assert "Apprise knows the url as one of JSON" in checked.out
    for number in range(50):
        message = {"id": str(number), "reply_to": "receipts:1", "payload": {"body": str(number)}}
        await site.push(message)
    bad = {"id": "bad", "reply_to": "receipts:1", "payload": {"body": "bad"}}
    await site.push(bad)
    async with worker(path) as running:
        await site.receiver.until(51)
    assert running.process.returncode == 0
    receipts = {
        receipt["id"]: receipt for receipt in map(json.loads, await site.redis.lrange("receipts:1", 0, -1))
    }
    assert "error=400" in receipts.pop("bad")["reason"]
    assert {receipt["outcome"] for receipt in receipts.values()} == {"delivered"}
    assert len(receipts) == 50
    assert "s3cret" not in json.dumps(running.lines) + checked.out + checked.err


async def test_a_message_that_hangs_apprise_holds_neither_others_nor_the_end_of_the_worker(
    site: Site,
) -> None:
    """Apprise takes many minutes to make HTML of such Markdown."""
    url = f"{site.receiver.url.replace('http', 'json')}/hook?format=html"
    ops = {"type": "apprise", "url": url, "timeout": 600}
    path = site.configure({"ops": ops}, shutdown_timeout=1)
    async with worker(path) as running:
        hanging = {"id": "bad", "payload": {"body": "[" * 90_000, "format": "markdown"}}
        await site.push(hanging)
        await site.push({"id": "good", "payload": {"body": "a"}})
        await site.receiver.until(1)
        children = (
            Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        )
        assert children
    assert running.process.returncode == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert [json.loads(request.body)["message"] for request in site.receiver.requests] == ["a"]


async def test_a_file_in_the_current_folder_replaces_no_module_of_the_apprise_process(site: Site) -> None:
    url = f"{site.receiver.url.replace('http', 'json')}/hook"
    path = site.configure({"ops": {"type": "apprise", "url": url}})
    (site.folder / "apprise.py").write_text("raise SystemExit('a file of the user')")
    await site.push({"payload": {"body": "a"}})
    done = await relay("run", "--until-empty", "-c", str(path), cwd=site.folder)
    assert (done.code, len(site.receiver.requests)) == (0, 1), done.err
